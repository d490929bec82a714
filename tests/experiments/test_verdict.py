"""The verdict on made-up runs whose answers are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from causalft.errors import CausalFTError
from causalft.models.strata.zoo import open_zoo
from causalft.version import __version__
from experiments import EXPERIMENTS, Experiment
from experiments.frame.claims import Claim, judge
from experiments.frame.earlier import Earlier
from experiments.frame.objections import OBJECTIONS
from experiments.frame.verdict_page import verdict_markdown
from tests.command_line import run, said

GAIN = Claim("Strata gain", "paired/gain", above=0.0, section="Tab. 0")
JUST_AN_ENSEMBLE = Claim("Strata gain more than seeds", "paired/more", above=0.0, objection=4)
CURE = Claim("The cure closes the gap", "paired/gain", above=0.0, section="The cure")
AGREES = Claim("The estimate follows the prior", "rank", above=0.8, objection=6, unit="")


OF_CLIP = open_zoo("mini").card("clip").sha256


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing is computed for a verdict")


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two experiments: gain and its control at two scales, and one of its own."""
    fakes = {
        "gain": Experiment(
            "gain", "Tab. 0", "c", "s", 1, study=nothing, claims=lambda: (GAIN, JUST_AN_ENSEMBLE)
        ),
        "prior": Experiment(
            "prior", "objection", "c", "s", 1, compute=nothing, page=nothing, claims=lambda: (AGREES,)
        ),
    }
    monkeypatch.setitem(EXPERIMENTS.__dict__, "_found", fakes)


@pytest.fixture
def further(experiments: None) -> None:
    """The same, with a claim that is not the paper's."""
    fakes = EXPERIMENTS._found
    fakes["gain"] = replace(fakes["gain"], claims=lambda: (GAIN, CURE, JUST_AN_ENSEMBLE))


def number(low: float, high: float, **more: float) -> dict[str, Any]:
    return {"estimate": (low + high) / 2, "ci95": [low, high], **more}


def put(folder: Path, name: str, metrics: dict[str, Any] | str, **config: Any) -> Path:
    """Write a run folder."""
    folder.mkdir(parents=True)
    config = {"name": name, "quick": False, "seeds": 3, **config}
    (folder / "config.json").write_text(json.dumps({"kind": "experiment", "config": config}))
    if isinstance(metrics, dict):
        made = {"version": __version__, "date": "2026-11-29"}
        metrics = json.dumps({"made": made, "seeds": config["seeds"], "quick": config["quick"], **metrics})
    if metrics:
        (folder / "metrics.json").write_text(metrics)
    return folder


def gain(
    folder: Path, gain: Any = None, more: Any = None, scale: str = "mini", sha: str = OF_CLIP, **config: Any
) -> Path:
    paired = {"gain": gain or number(0.01, 0.03), "more": more or number(0.005, 0.01)}
    metrics: dict[str, Any] = {"paired": paired, "scale": scale, "weights": {"clip": sha}}
    if scale == "photo":
        metrics |= {"brought": {"data": "photos", "zoo": "my-zoo"}}
    return put(folder, config.pop("name", "gain"), metrics, scale=scale, **config)


def verdict_of(folder: Path, *options: Any) -> dict[str, Any]:
    found = run("experiment", "verdict", folder, *options, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_claims_and_objections_are_judged_by_their_intervals(tmp_path: Path, experiments: None) -> None:
    gain(tmp_path / "gain", more=number(-0.03, -0.01))
    put(tmp_path / "prior", "prior", {"rank": number(0.7, 0.9)})
    (tmp_path / "members").mkdir()
    found = verdict_of(tmp_path)
    [claim] = found["claims"]
    assert claim["text"] == GAIN.text and claim["verdict"] == "supported" and claim["section"] == "Tab. 0"
    assert claim["numbers"][0]["estimate"] == pytest.approx(0.02) and claim["numbers"][0]["scale"] == "mini"
    assert claim["command"] == "causalft experiment run gain --seeds 3"
    objections = {row["number"]: row for row in found["objections"]}
    assert list(objections) == list(range(1, 13)) == [objection.number for objection in OBJECTIONS]
    assert objections[4]["verdict"] == "contradicted" and objections[4]["command"] == claim["command"]
    assert objections[6]["verdict"] == "open" and "includes 0.8" in objections[6]["why"]
    assert objections[9]["verdict"] == "open" and objections[9]["why"] == "no experiment answers it"
    assert all({"text", "verdict", "numbers", "command"} <= row.keys() for row in objections.values())


def test_scales_that_disagree_leave_a_claim_open_with_both_numbers(tmp_path: Path, experiments: None) -> None:
    gain(tmp_path / "gain")
    gain(tmp_path / "gain-photo", gain=number(-0.02, -0.01), scale="photo", sha="bbb")
    [claim] = verdict_of(tmp_path)["claims"]
    assert claim["verdict"] == "open" and claim["why"] == "mini: supported; photo: contradicted"
    assert [row["scale"] for row in claim["numbers"]] == ["mini", "photo"]
    assert "causalft experiment run gain --scale photo --data photos --zoo my-zoo" in claim["command"]


def test_a_scale_that_lacks_what_a_claim_is_about_does_not_open_it(tmp_path: Path, experiments: None) -> None:
    gain(tmp_path / "gain")
    lacking = {"paired": {}, "scale": "photo", "weights": {"clip": OF_CLIP}, "brought": {"data": "photos"}}
    why = {"parts": "the parts of these images are not known"}
    put(tmp_path / "gain-photo", "gain", {**lacking, "left_out": why}, scale="photo")
    [found] = verdict_of(tmp_path)["claims"]
    assert (found["verdict"], found["why"]) == ("supported", "")
    mini, photo = found["numbers"]
    assert photo["why"] == f"left out: {why['parts']}" and photo["left_out"] and "left_out" not in mini
    shutil.rmtree(tmp_path / "gain")
    assert verdict_of(tmp_path)["claims"][0]["why"] == photo["why"]


def test_what_was_not_run_or_not_finished_stays_open_with_its_command(
    tmp_path: Path, experiments: None
) -> None:
    gain(tmp_path / "gain")
    assert {row["number"]: row for row in verdict_of(tmp_path)["objections"]}[6] | {"answers": []} == {
        "text": OBJECTIONS[5].text,
        "number": 6,
        "doubt": OBJECTIONS[5].doubt,
        "answer": OBJECTIONS[5].answer,
        "verdict": "open",
        "numbers": [],
        "command": "causalft experiment run prior",
        "why": "prior: not run",
        "answers": [],
    }
    put(tmp_path / "prior", "prior", "")
    whys = [row["why"] for row in verdict_of(tmp_path)["objections"] if row["number"] == 6]
    assert whys == ["prior: not finished, the run prior can be resumed"]


def test_the_terminal_and_the_pages_say_the_same(
    tmp_path: Path, experiments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gain(tmp_path / "runs" / "gain", quick=True)
    monkeypatch.chdir(tmp_path)
    shown = run("experiment", "verdict", "--page", "verdict.md")
    assert shown.exit_code == 0, shown.output
    page = (tmp_path / "verdict.md").read_text()
    assert run("experiment", "verdict", "--page", "verdict.html").exit_code == 0
    html = (tmp_path / "verdict.html").read_text()
    for text in (shown.stdout, page, html):
        assert (
            "Claims of the paper: 1 supported, 0 contradicted, 0 open." in text and "+2.0 [1.0, 3.0]" in text
        )
        assert "causalft experiment run gain --seeds 3 --quick" in text and "decide nothing" in text
    assert f"CausalFT {__version__}" in page and "2026-11-29" in page and "mini (3 seeds)" in page
    assert "page ends in .html or .md" in said(run("experiment", "verdict", "--page", "verdict.txt"))


def test_claims_of_the_paper_are_told_apart_from_further_ones(tmp_path: Path, further: None) -> None:
    gain(tmp_path / "runs" / "gain")
    found = verdict_of(tmp_path / "runs")
    assert [(row["text"], row["of"]) for row in found["claims"]] == [
        (GAIN.text, "paper"),
        (CURE.text, "further"),
    ]
    shown = run("experiment", "verdict", tmp_path / "runs", "--page", tmp_path / "verdict.md").stdout
    page = (tmp_path / "verdict.md").read_text()
    assert run("experiment", "verdict", tmp_path / "runs", "--page", tmp_path / "verdict.html").exit_code == 0
    html = (tmp_path / "verdict.html").read_text()
    for text in (shown, page, html):
        assert (
            "Claims of the paper: 1 supported, 0 contradicted, 0 open. Further claims: 1 supported, 0 contradicted, "
            "0 open. Answers to objections: 1 supported, 0 contradicted, 11 open." in text
        )
    for text, paper, further_claims in (
        (shown, "\nClaims of the paper\n", "\nFurther claims\n"),
        (page, "## Claims of the paper", "## Further claims"),
        (html, "Claims of the paper</h2>", "Further claims</h2>"),
    ):
        places = [("\n" + text).find(words) for words in (paper, GAIN.text, further_claims, CURE.text)]
        assert places == sorted(places) and -1 not in places


@pytest.mark.parametrize(
    ("section", "of"),
    [
        ("Fig. 2", "paper"),
        ("Tab. 13", "paper"),
        ("Sec. 5, joint training", "paper"),
        ("ULFine", "further"),
        ("", "further"),
    ],
)
def test_a_claim_is_the_papers_if_it_names_a_figure_table_or_section(section: str, of: str) -> None:
    assert Claim("it gains", "gain", above=0.0, section=section).of == of


def test_folders_that_give_no_verdict_are_refused_by_name(tmp_path: Path, experiments: None) -> None:
    def refused(name: str) -> str:
        return said(run("experiment", "verdict", tmp_path / name))

    assert "no such folder" in refused("nowhere") and "causalft experiment run all" in refused("nowhere")
    (tmp_path / "empty" / "members").mkdir(parents=True)
    assert "holds no complete experiment run" in refused("empty")
    gain(tmp_path / "one", seeds=1)
    assert "holds no complete experiment run" in refused("one")  # runs lie below the folder
    put(tmp_path / "damaged" / "gain", "gain", '{"paired": ')
    assert "gain/metrics.json: not valid JSON" in refused("damaged")
    put(tmp_path / "changed" / "gain", "gain", "{}")
    assert "gain/metrics.json: it is not what an experiment writes" in refused("changed")
    put(tmp_path / "old" / "gain", "gain", {"made": {"version": "0.0.1"}})
    assert "old/gain holds results of version 0.0.1" in refused("old")
    put(tmp_path / "other" / "tab99", "tab99", {})
    assert "'tab99', which is no experiment of this version" in refused("other")
    put(tmp_path / "nameless" / "x", "gain", {})
    (tmp_path / "nameless" / "x" / "config.json").write_text('{"kind": "experiment", "config": {}}')
    assert "names no experiment" in refused("nameless")


def test_runs_that_cannot_belong_together_are_refused(tmp_path: Path, experiments: None) -> None:
    fakes = EXPERIMENTS._found
    fakes["twin"] = replace(fakes["gain"], name="twin")

    def refused(name: str) -> str:
        return said(run("experiment", "verdict", tmp_path / name))

    gain(tmp_path / "two" / "a")
    gain(tmp_path / "two" / "b")
    assert "are both runs of gain at the scale mini" in refused("two")
    gain(tmp_path / "foreign" / "a", sha="bbb")
    assert f"holds results of other weights of clip (sha256 bbb, this version has {OF_CLIP[:12]})" in refused(
        "foreign"
    )
    gain(tmp_path / "weights" / "a", scale="photo", sha="aaa")
    gain(tmp_path / "weights" / "b", scale="photo", sha="bbb", name="twin")
    assert "with different weights of clip (sha256 aaa and bbb)" in refused("weights")
    for name, changes, words in (
        ("quick", {"quick": True}, "with quick False and True"),
        ("data", {"data": "other"}, "with data None and 'other'"),
    ):
        gain(tmp_path / name / "a")
        gain(tmp_path / name / "b", **{"name": "twin", **changes})  # type: ignore[arg-type]
        assert words in refused(name) and "a and " in refused(name)


def test_an_earlier_verdict_counts_for_what_is_not_in_the_folder(tmp_path: Path, experiments: None) -> None:
    gain(tmp_path / "old" / "gain", gain=number(-0.03, -0.01))
    gain(tmp_path / "old" / "gain-photo", gain=number(-0.02, -0.01), scale="photo", sha="bbb")
    put(tmp_path / "old" / "prior", "prior", {"rank": number(0.85, 0.9)})
    earlier = tmp_path / "verdict.json"
    earlier.write_text(json.dumps(verdict_of(tmp_path / "old")))
    gain(tmp_path / "new" / "gain")
    found = verdict_of(tmp_path / "new", "--earlier", earlier)
    [claim] = found["claims"]
    estimates = {row["scale"]: row["estimate"] for row in claim["numbers"]}
    assert estimates == {"mini": pytest.approx(0.02), "photo": pytest.approx(-0.015)}
    assert claim["why"] == "mini: supported; photo: contradicted"
    assert {row["number"]: row["verdict"] for row in found["objections"]}[6] == "supported"
    folders = {f"{each['experiment']} {each['scale']}": Path(each["folder"]) for each in found["runs"]}
    assert folders == {
        "gain mini": tmp_path / "new" / "gain",
        "gain photo": tmp_path / "old" / "gain-photo",
        "prior mini": tmp_path / "old" / "prior",
    }
    assert found["commands"].keys() == folders.keys()
    again = tmp_path / "new" / "verdict.json"
    again.write_text(json.dumps(found))
    assert verdict_of(tmp_path / "new", "--earlier", again) == found


def test_numbers_of_an_earlier_verdict_are_judged_by_what_is_claimed_now_and_only_of_the_same_arms(
    tmp_path: Path, experiments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gain(tmp_path / "old" / "gain")
    earlier = tmp_path / "verdict.json"
    earlier.write_text(json.dumps(verdict_of(tmp_path / "old")))
    put(tmp_path / "new" / "prior", "prior", {"rank": number(0.85, 0.9)})

    def claimed(**changes: Any) -> dict[str, Any]:
        fakes = EXPERIMENTS.__dict__["_found"]
        other = replace(fakes["gain"], claims=lambda: (replace(GAIN, **changes),))
        monkeypatch.setitem(EXPERIMENTS.__dict__, "_found", {**fakes, "gain": other})
        return next(iter(verdict_of(tmp_path / "new", "--earlier", earlier)["claims"]))

    assert claimed()["verdict"] == "supported"
    assert claimed(above=0.04)["verdict"] == "contradicted"
    doubtful = claimed(above=0.02)
    assert doubtful["verdict"] == "open" and doubtful["why"] == "the interval includes 2"
    assert claimed(at="paired/more")["numbers"] == []


def test_an_empty_number_is_not_left_out(tmp_path: Path, experiments: None) -> None:
    gain(tmp_path / "gain")
    empty = {"paired": {"gain": {"estimate": None}}, "scale": "photo", "weights": {"clip": OF_CLIP}}
    put(
        tmp_path / "gain-photo", "gain", {**empty, "brought": {}, "left_out": {"other": "why"}}, scale="photo"
    )
    [claim] = verdict_of(tmp_path)["claims"]
    assert claim["verdict"] == "open" and "left_out" not in claim["numbers"][1]
    assert claim["why"] == "mini: supported; photo: open"


@pytest.mark.parametrize(
    ("bounds", "interval", "expected"),
    [
        ({"beyond": 0.0}, (-0.3, -0.2), "supported"),
        ({"beyond": 0.0}, (0.2, 0.3), "supported"),
        ({"beyond": 0.0}, (-0.1, 0.1), "open"),
        ({"beyond": 0.1}, (-0.05, 0.05), "contradicted"),
        ({"beyond": 0.1}, (0.05, 0.2), "open"),
        ({"within": 0.1}, (-0.05, 0.05), "supported"),
        ({"within": 0.1}, (-0.3, -0.2), "contradicted"),
        ({"closed": 0.1}, (-0.3, 0.05), "supported"),
        ({"closed": 0.1}, (-0.05, -0.02), "supported"),
        ({"closed": 0.1}, (0.02, 0.05), "supported"),
        ({"closed": 0.1}, (-0.3, -0.2), "contradicted"),
        ({"closed": 0.1}, (-0.3, -0.05), "open"),
        ({"closed": 0.1}, (-0.05, 0.2), "open"),
        ({"closed": 0.1}, (0.2, 0.3), "contradicted"),
    ],
)
def test_a_size_is_claimed_on_both_sides(
    bounds: dict[str, float], interval: tuple[float, float], expected: str
) -> None:
    assert judge(Claim("it is so", "x", **bounds), {"x": number(*interval)}).verdict == expected  # type: ignore[arg-type]


def test_an_earlier_verdict_suffices_if_the_folder_holds_no_complete_run(
    tmp_path: Path, further: None
) -> None:
    gain(tmp_path / "old" / "gain")
    old = verdict_of(tmp_path / "old")
    for row in old["claims"]:
        del row["of"]  # as before further claims were told apart
    del old["earlier"]
    (tmp_path / "verdict.json").write_text(json.dumps(old))
    put(tmp_path / "new" / "prior", "prior", "")
    found = verdict_of(tmp_path / "new", "--earlier", tmp_path / "verdict.json")
    assert {row["of"]: row["verdict"] for row in found["claims"]} == {
        "paper": "supported",
        "further": "supported",
    }
    assert found["runs"] == old["runs"] and found["commands"] == old["commands"]
    assert "no such folder" in said(
        run("experiment", "verdict", tmp_path / "nowhere", "--earlier", tmp_path / "verdict.json")
    )


def test_earlier_numbers_without_their_corrected_p_stay_insignificant(
    tmp_path: Path, experiments: None
) -> None:
    gain(tmp_path / "old" / "gain", gain=number(0.01, 0.03, p_holm=0.2))
    old = verdict_of(tmp_path / "old")
    [kept] = old["claims"][0]["numbers"]
    assert kept.pop("p_holm") == 0.2
    (tmp_path / "verdict.json").write_text(json.dumps(old))
    (tmp_path / "new").mkdir()
    [claim] = verdict_of(tmp_path / "new", "--earlier", tmp_path / "verdict.json")["claims"]
    assert (claim["verdict"], claim["why"]) == ("open", "not significant after Holm's correction")


def test_pages_name_the_command_that_made_them(tmp_path: Path, experiments: None) -> None:
    gain(tmp_path / "runs" / "gain")
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(verdict_of(tmp_path / "runs")))
    for ending in ("md", "html"):
        page = tmp_path / f"verdict.{ending}"
        run("experiment", "verdict", tmp_path / "runs", "--page", page)
        assert f"causalft experiment verdict runs --page verdict.{ending}" in page.read_text()
        run("experiment", "verdict", tmp_path / "runs", "--earlier", earlier, "--page", page)
        words = f"causalft experiment verdict runs --earlier earlier.json --page verdict.{ending}"
        assert words in page.read_text()
        assert str(tmp_path) not in page.read_text()


def test_the_page_of_the_documentation_is_that_of_its_json() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    found = json.loads((docs / "verdict.json").read_text(encoding="utf-8"))
    same = verdict_markdown(found) == (docs / "verdict.md").read_text(encoding="utf-8")
    assert same, (
        "write docs/verdict.md again: causalft experiment verdict DIR --earlier FILE.json --page docs/verdict.md"
    )


def test_an_earlier_verdict_that_is_damaged_says_to_write_it_again(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text("{")
    with pytest.raises(
        CausalFTError, match=r"not valid JSON .*; write one with `causalft experiment verdict DIR --json"
    ):
        Earlier.read(tmp_path / "verdict.json")


def test_an_earlier_verdict_that_is_missing_no_verdict_or_of_another_version_is_refused(
    tmp_path: Path, experiments: None
) -> None:
    gain(tmp_path / "runs" / "gain")
    file = tmp_path / "v.json"

    def told() -> str:
        return said(run("experiment", "verdict", tmp_path / "runs", "--earlier", file))

    assert "no such file" in told() and "--json > v.json" in told()
    file.write_text("[1]")
    assert "is no verdict" in told()
    file.write_text(json.dumps({**verdict_of(tmp_path / "runs"), "version": "0.0.1"}))
    assert "version 0.0.1" in told()
