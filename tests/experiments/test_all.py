"""Running every experiment of a scale: kept, made, left out, refused, resumed; and the plan of one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from causalft.errors import CausalFTError
from causalft.runs.folder import Run
from experiments import EXPERIMENTS, Experiment
from experiments.frame.plan import plan_study
from experiments.frame.study import Study
from tests.command_line import run, said


class Made:
    """Counts what the fake experiments compute."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.stop = False

    def compute(self, create: Any, quick: bool, seeds: int, **needed: str) -> dict[str, Any]:
        made = create()
        if self.stop:
            made.file("half.txt").write_text("done so far")
            raise KeyboardInterrupt
        self.names.append("own")
        return {"resumed": made.has("half.txt"), **needed}

    def study(self, roles: Any) -> Study:
        def measure(lab: Any, _: None) -> dict[str, Any]:
            self.names.append(lab.world.scale)
            return {"conclusion": ["It is so."]}

        return Study("A study", measure=measure)


def page(made: Run, metrics: Any) -> dict[str, Any]:
    return {"title": "Own", "verdict": "", "facts": {}, "sections": []}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Three experiments: a study, one of its own, and one that needs the user's data."""
    made = Made()
    shared = {"reproduces": "Tab. 0", "claim": "c", "scale": "tiny", "minutes": 0.1, "page": page}
    fakes = [
        Experiment(name="study", **{**shared, "page": None}, study=made.study),  # type: ignore[arg-type]
        Experiment(name="own", **shared, compute=made.compute),  # type: ignore[arg-type]
        Experiment(name="yours", **shared, compute=made.compute, needs=("data",)),  # type: ignore[arg-type]
    ]
    monkeypatch.setitem(EXPERIMENTS.__dict__, "_found", {fake.name: fake for fake in fakes})
    return made


def run_all(out: Path, *options: object) -> Any:
    return run("experiment", "run", "all", "--out", out, "--seeds", 1, *options)


def edit(file: Path, change: Any) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_all_makes_what_is_missing_keeps_the_rest_and_names_what_it_leaves_out(
    tmp_path: Path, made: Made
) -> None:
    found = json.loads(run_all(tmp_path, "--json").stdout)
    assert {name: row["state"] for name, row in found.items()} == {
        "study": "made",
        "own": "made",
        "yours": "left out",
    }
    assert found["yours"]["why"] == "needs --data" and made.names == ["mini", "own"]
    again = run_all(tmp_path)
    assert again.exit_code == 0 and made.names == ["mini", "own"]
    assert "study: kept" in again.stdout and "own: kept" in again.stdout
    assert "yours: left out, needs --data: causalft experiment run yours --data IMAGES" in again.stdout


def test_all_leaves_out_what_takes_long_unless_asked_and_keeps_it_once_it_is_there(
    tmp_path: Path, made: Made
) -> None:
    found = dict(EXPERIMENTS.__dict__["_found"])
    EXPERIMENTS.__dict__["_found"]["own"] = replace(found["own"], minutes=11.0)
    left = run_all(tmp_path)
    assert "own: left out, takes over 10 minutes; add --long: causalft experiment run own" in left.stdout
    assert made.names == ["mini"] and not (tmp_path / "own").exists()
    assert "own: made" in run_all(tmp_path, "--long").stdout and made.names == ["mini", "own"]
    assert "own: kept" in run_all(tmp_path).stdout
    assert json.loads(run_all(tmp_path / "quick", "--quick", "--json").stdout)["own"]["state"] == "made"
    assert "--long is for `run all`" in said(run("experiment", "run", "own", "--long"))


def long_one() -> None:
    fakes = EXPERIMENTS._found
    fakes["long"] = replace(fakes["own"], name="long", minutes=25)


def show_all(*options: object) -> dict[str, Any]:
    return json.loads(run("experiment", "show", "all", *options, "--json").stdout)  # type: ignore[no-any-return]


def test_show_all_lists_what_all_would_run_and_the_minutes(tmp_path: Path, made: Made) -> None:
    long_one()
    run("experiment", "run", "study", "--out", tmp_path / "study")
    found = show_all("--out", tmp_path)
    rows = {row["name"]: row for row in found["experiments"]}
    assert {name: (row["state"], row["minutes"]) for name, row in rows.items()} == {
        "study": ("kept", 0.1),
        "own": ("to run", 0.1),
        "yours": ("left out", 0.1),
        "long": ("left out", 25),
    }
    assert (
        rows["yours"]["why"] == "needs --data"
        and "--long" in rows["long"]["why"]
        and rows["own"]["why"] == ""
    )
    assert rows["yours"]["command"] == "causalft experiment run yours --data IMAGES"
    assert found["minutes"] == pytest.approx(0.1) and found["scale"] == "mini"
    assert show_all("--out", tmp_path, "--long", "--data", tmp_path)["minutes"] == pytest.approx(25.2)
    shown = run("experiment", "show", "all", "--out", tmp_path).stdout
    assert all(name in shown for name in rows) and "needs --data" in shown
    assert "0.1 minutes to run, 25.1 left out" in shown
    assert made.names == ["mini"]


def test_show_all_of_a_quick_run_or_another_scale_tells_no_minutes(tmp_path: Path, made: Made) -> None:
    long_one()
    quick = show_all("--out", tmp_path, "--quick")
    assert {row["name"]: row["state"] for row in quick["experiments"]}["long"] == "to run"
    photo = show_all("--out", tmp_path, "--scale", "photo")
    assert {row["name"]: row["state"] for row in photo["experiments"]} == {
        "study": "to run",
        "own": "left out",
        "yours": "left out",
        "long": "left out",
    }
    assert photo["experiments"][0]["command"] == "causalft experiment run study --scale photo --data IMAGES"
    for found in (quick, photo):
        assert found["minutes"] is None and {row["minutes"] for row in found["experiments"]} == {None}
    assert "minutes to run" not in run("experiment", "show", "all", "--quick").stdout


def test_options_of_show_that_decide_nothing_are_refused(made: Made) -> None:
    assert "--seeds" in said(run("experiment", "show", "all", "--seeds", 5))
    assert "--long is for" in said(run("experiment", "show", "own", "--long"))


def test_a_table_is_written_as_csv_and_latex_by_every_kind_of_experiment(tmp_path: Path, made: Made) -> None:
    table = {"columns": ["arm", "accuracy"], "rows": [["LA", "50.0"]], "caption": "Percent."}
    own = replace(EXPERIMENTS["own"], compute=lambda create, *_: create() and {"table": table})
    study = Study("A study", measure=lambda *_: {"table": table, "conclusion": ["It is so."]})
    for experiment in (own, replace(EXPERIMENTS["study"], study=lambda _: study)):
        experiment.run(tmp_path / experiment.name, quick=True, seeds=1)
        assert (tmp_path / experiment.name / "table.csv").read_text() == "arm,accuracy\nLA,50.0\n"
        assert "LA & 50.0" in (tmp_path / experiment.name / "table.tex").read_text()


def test_all_goes_on_after_one_that_fails_and_ends_with_its_name(tmp_path: Path, made: Made) -> None:
    def refuse(*_: Any, **__: Any) -> dict[str, Any]:
        raise CausalFTError("no long tail of another order can be drawn from it")

    found = EXPERIMENTS.__dict__["_found"]
    EXPERIMENTS.__dict__["_found"] = {"first": replace(found["own"], name="first", compute=refuse), **found}
    done = run_all(tmp_path, "--json")
    assert done.exit_code == 2 and "1 of 4 experiments failed: first" in done.stderr
    rows = json.loads(done.stdout)
    assert rows["first"] == {
        "state": "failed",
        "folder": None,
        "why": "no long tail of another order can be drawn from it",
    }
    assert rows["own"]["state"] == "made"
    assert "first: failed, no long tail" in run_all(tmp_path).stdout


def test_what_only_a_long_experiment_takes_asks_for_long(tmp_path: Path, made: Made) -> None:
    found = EXPERIMENTS.__dict__["_found"]
    EXPERIMENTS.__dict__["_found"]["yours"] = replace(found["yours"], minutes=11.0)
    assert "--data is for yours, left out without --long; add --long" in said(
        run_all(tmp_path, "--data", tmp_path)
    )
    assert "yours: left out, needs --data" in run_all(tmp_path).stdout


def test_all_keeps_runs_with_more_seeds_than_usual_but_not_than_asked(tmp_path: Path, made: Made) -> None:
    for seeds, again in ((2, "the usual"), (5, "more")):
        run("experiment", "run", "all", "--out", tmp_path / again, "--seeds", seeds)
    assert "holds results of seeds 2, not 3" in said(
        run("experiment", "run", "all", "--out", tmp_path / "the usual")
    )
    assert "study: kept" in run("experiment", "run", "all", "--out", tmp_path / "more").stdout
    assert "holds results of seeds 5, not 3" in said(
        run("experiment", "run", "all", "--out", tmp_path / "more", "--seeds", 3)
    )


def test_all_refuses_results_that_it_would_not_make(tmp_path: Path, made: Made) -> None:
    run_all(tmp_path)
    config, metrics = tmp_path / "study" / "config.json", tmp_path / "own" / "metrics.json"
    assert f"{tmp_path / 'study'} holds results of quick False, not True" in said(
        run_all(tmp_path, "--quick")
    )
    two = run("experiment", "run", "all", "--out", tmp_path, "--seeds", 2)
    assert "holds results of seeds 1, not 2" in said(two)
    edit(metrics, lambda found: found["made"].update(version="0.0.1"))
    assert f"{tmp_path / 'own'} holds results of version 0.0.1" in said(run_all(tmp_path))
    metrics.unlink()
    edit(config, lambda found: found["config"]["sha256"].update(clip="0" * 64))
    refused = said(run_all(tmp_path))
    assert f"{tmp_path / 'study'} holds results of other weights of clip" in refused
    assert made.names == ["mini", "own"]  # refused before anything is computed
    edit(config, lambda found: found["config"].update(data="elsewhere"))
    assert "holds results of data 'elsewhere', not 'creatures-lt'" in said(run_all(tmp_path))


def test_an_interrupted_run_says_how_to_go_on_and_is_resumed(tmp_path: Path, made: Made) -> None:
    made.stop = True
    stopped = run_all(tmp_path)
    assert stopped.exit_code == 130 and "repeat the command to resume" in stopped.stderr
    made.stop = False
    found = json.loads(run_all(tmp_path, "--json").stdout)
    assert found["study"]["state"] == "kept" and found["own"]["state"] == "made"
    assert Run.open(tmp_path / "own").metrics["resumed"] is True


def test_unknown_scales_and_missing_inputs_are_named(tmp_path: Path, made: Made) -> None:
    for command in (("run", "all", "--out", tmp_path), ("run", "study"), ("show", "study")):
        assert "no scale is named 'phot'; did you mean 'photo'?" in said(
            run("experiment", *command, "--scale", "phot")
        )
    assert "scale photo needs --data" in said(run_all(tmp_path, "--scale", "photo"))
    assert "study needs --data" in said(run("experiment", "run", "study", "--scale", "photo"))
    assert "own has one scale of its own" in said(run("experiment", "run", "own", "--scale", "photo"))
    assert "--zoo does nothing for own" in said(run("experiment", "run", "own", "--zoo", tmp_path))
    assert not any(tmp_path.iterdir())


@dataclass
class Planned:
    """What was asked of the plan of members, and which images were drawn for it."""

    asked: list[tuple[str, int, list[str]]] = field(default_factory=list)
    costs: set[int] = field(default_factory=set)
    drawn: list[tuple[int, str]] = field(default_factory=list)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Nothing is drawn or measured; a law has as many training images as its name has letters."""
    from causalft.pipelines.workflows import plan as plan_workflow
    from experiments.frame.scales import World

    found = Planned()

    def load(self: Any, seed: int, draw: Any) -> Any:
        found.drawn.append((seed, draw.law))
        return draw.law

    def plan_members(
        settings: Any, folders: Any, out: Any, *, tables: bool, splits: Any, measured: dict[str, Any]
    ) -> Any:
        names = [str(name) for name in folders]
        found.asked.append((settings.tuning.loss, settings.tuning.epochs, names))
        found.costs.add(id(measured))
        sizes = plan_workflow.Sizes(10 + len(splits), 4, 6, 3)
        each = plan_workflow.MemberPlan("", "here", "mini", 1, 0, steps=7, flops=100, seconds=1.0)
        members = tuple(plan_workflow.replace(each, name=name) for name in names)
        known: dict[str, Any] = {
            "out": str(out),
            "data": settings.data,
            "device": "cpu",
            "images": {"0": sizes},
            "members": members,
        }
        numbers: dict[str, Any] = {"memory_bytes": 5, "device_bytes": None, "cache_bytes": 0, "free_bytes": 9}
        numbers |= {"flops": 0, "seconds": 0.0, "disk_bytes": 8 * len(names), "cache_free_bytes": 9}
        return plan_workflow.FitPlan(**known, **numbers)

    monkeypatch.setattr(World, "_load", load)
    monkeypatch.setattr(plan_workflow, "plan_members", plan_members)
    return found


def test_the_plan_draws_each_set_once_and_names_the_images_of_most_members(
    tmp_path: Path, planned: Planned
) -> None:
    from experiments.frame.arms import singles
    from experiments.frame.lab import Lab
    from experiments.frame.members import Draw
    from experiments.frame.scales import get_scale

    world = get_scale("mini").open(False, tmp_path, {})
    lab = Lab(Run(tmp_path, "experiment", {}), world, 1, False, tmp_path / "members")
    arms = [
        singles(method, world.roles, of="first", method=method, draw=Draw(law="uniform"))
        for method in ("lft-fixmatch", "fixmatch", "daso", "abc")
    ]
    plan = plan_study(Study("s", arms=arms), lab)
    assert plan is not None and sorted(planned.drawn) == [(0, ""), (0, "uniform")]
    assert plan.data == "creatures-ltssl" and plan.images["0"].train == 17
    assert "3 models are tuned on creatures-lt: 10 training images" in plan.notes


def test_the_plan_counts_members_once_and_those_that_exist_not_at_all(
    tmp_path: Path, planned: Planned
) -> None:
    from experiments.frame.arms import longer, singles
    from experiments.frame.lab import Lab
    from experiments.frame.scales import get_scale

    world = get_scale("mini").open(False, tmp_path, {})
    lab = Lab(Run(tmp_path, "experiment", {}), world, 3, False, tmp_path / "members")
    arms = [singles("CE", world.roles, loss="CE"), longer("longer", world.roles)]
    study = Study("s", arms=arms, measure=lambda lab, _: {})
    first = arms[0].models[0].members[0]
    folder = lab.folder(first, 1)
    folder.mkdir(parents=True)
    (folder / "predictions.safetensors").touch()
    if not lab.finished(first, 1):
        pytest.fail("a finished member is known by another file")
    plan = plan_study(study, lab)
    assert plan is not None
    # CE and LA cost the same and are measured together; longer training is measured by itself.
    assert len(planned.costs) == 1  # an image costs as much
    assert [(loss, len(names)) for loss, _, names in planned.asked] == [
        ("LA", 3),
        ("LA", len(arms[1].models[0].members)),
    ]
    of = {member.name: member for member in plan.members}
    assert (of["clip-CE"].runs, of["clip-CE"].finished, of["clip-CE"].steps) == (3, 1, 14)
    assert of["clip-LA"].finished == 0 and of["clip-LA"].seconds == 3.0
    left = sum(member.runs - member.finished for member in plan.members)
    assert plan.flops == 100 * left and plan.seconds == left and plan.disk_bytes == 8 * left
    assert "beside its arms" in plan.notes[-1]
    assert plan_study(Study("none"), lab) is None


def test_show_asks_for_what_a_plan_needs() -> None:
    found = run("experiment", "show", "tab8", "--scale", "photo")
    assert found.exit_code == 0 and "give --data for a plan" in found.stdout
    assert "causalft experiment run tab8 --scale photo --data IMAGES" in found.stdout


@pytest.mark.parametrize(
    ("words", "said_of"),
    [
        (["show", "tab8", "--data", "photos"], "--data does nothing for tab8 at the scale mini"),
        (
            ["show", "tab8", "--scale", "photo", "--set", "places-lt"],
            "--set does nothing for tab8 at the scale photo",
        ),
        (
            ["show", "tab8", "--scale", "full", "--set", "places"],
            "no set is named 'places'; did you mean 'places-lt'",
        ),
        (["run", "all", "--offline"], "--offline does nothing at the scale mini"),
    ],
)
def test_options_without_an_effect_at_the_scale_are_refused(
    words: list[str], said_of: str, tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "runs"]
    assert said_of in said(run("experiment", *words, *out)) and not (tmp_path / "runs").exists()
