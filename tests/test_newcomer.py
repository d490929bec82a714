"""What a newcomer types wrongly first: one line that names the thing and the way out, and nothing spoilt is kept."""

from __future__ import annotations

import pytest

from tests.command_line import run, said

FIT = ["--strata", "clip", "--epochs", "2", "--n-test", "8", "--n-validation", "5"]


def fit(photos, tiny_zoo, out, *options):
    arguments = ["fit", "--zoo", str(tiny_zoo), "--data", str(photos), "--out", str(out), *FIT, *options]
    return run(*arguments)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--weight-decay", "-1"], "'--weight-decay': '-1' is out of range; give a number from 0 to 1,000"),
        (["--weight-decay", "nan"], "'--weight-decay': 'nan' is not a finite number"),
        (["--lr", "1e9"], "stratum 'clip': the logits are not finite"),
        (["--lr", "1e9"], "lower the learning rate (now 1e+09)"),
        (["--lr", "1e9,0.05"], "lower the learning rate (now 1e+09)"),
    ],
)
def test_a_number_that_cannot_work_is_one_line_and_no_result(photos, tiny_zoo, tmp_path, options, line):
    result = fit(photos, tiny_zoo, tmp_path / "run", *options)
    assert result.exit_code == 2, result.output
    assert line in said(result)
    assert not list(tmp_path.rglob("*.safetensors"))  # so the corrected command may use the same --out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--n-test", "0"], "there is no test image in"),
        (["--n-test", "0"], "give --n-test 1 or more"),
        (["--n-validation", "0"], "class 'ant' has no validation image"),
        (["--n-validation", "0"], "give --n-validation 1 or more"),
        (
            ["--data", "creature-lt"],
            "--data creature-lt: no such file or folder; did you mean 'creatures-lt' or 'creatures-ltssl'?",
        ),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all: no such file or folder; / holds "),
    ],
)
def test_a_split_or_a_set_that_is_not_there_is_said_before_a_folder_is_made(
    photos, tiny_zoo, tmp_path, options, line
):
    result = fit(photos, tiny_zoo, tmp_path / "run", *options)
    assert line in said(result) and not (tmp_path / "run").exists()


def test_evaluate_refuses_options_of_the_data_that_it_would_not_read(photos, tiny_zoo, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nfox\npig\n")
    assert fit(photos, tiny_zoo, tmp_path / "run").exit_code == 0
    asked = ["evaluate", str(tmp_path / "run"), "--data", str(photos)]
    assert run(*asked).exit_code == 0
    result = run(*asked, "--class-names", str(names))
    assert result.exit_code == 2 and "--class-names does nothing here" in result.stderr


def test_a_table_without_the_columns_names_the_options(tmp_path):
    (tmp_path / "a.csv").write_text("path,kind\nx.png,ant\n")
    shown = run("data", "show", str(tmp_path / "a.csv"))
    assert shown.exit_code == 2 and "--label-column" in shown.stderr
    shown = run("data", "show", str(tmp_path / "a.csv"), "--label-column", "kind")
    assert shown.exit_code == 2 and "(row 1: x.png)" in shown.stderr and "--root" in shown.stderr


def test_what_a_killed_writer_left_goes_with_the_checkpoint(tmp_path):
    from causalft.runs.folder import atomic_path, remove_for_good

    checkpoint = tmp_path / ".lr-0.05.checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt), atomic_path(checkpoint) as temporary:
        left = tmp_path / temporary.name
        raise KeyboardInterrupt
    left.write_bytes(b"half")  # as kill -9 leaves it
    checkpoint.write_bytes(b"whole")
    (tmp_path / "head.safetensors").write_bytes(b"other")
    remove_for_good(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--tuner", "vpt-deep", "--bottleneck", "4"],
            "(--bottleneck) does nothing with the tuner 'vpt-deep'",
        ),
        (
            ["--tuner", "bias+last-1", "--bottleneck", "4"],
            "(--bottleneck) does nothing with the tuner 'bias+last-1'",
        ),
        (["--tuner", "lroa", "--bottleneck", "4"], "unknown tuner 'lroa': did you mean 'lora'"),
        (["--data", ""], "'--data': it is empty; give a value"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(photos, tiny_zoo, tmp_path, options, line):
    result = fit(photos, tiny_zoo, tmp_path / "run", *options)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and line in result.stderr


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--tuner", "lroa"], "unknown tuner 'lroa': did you mean 'lora'"),
        (["--tuner", "bias", "--bottleneck", "4"], "(--bottleneck) does nothing with the tuner 'bias'"),
        (["--loss", "LDMA"], "unknown loss 'LDMA'; did you mean 'LDAM'"),
        (["--template", "ensembl"], "'ensembl' is no set of templates (did you mean 'ensemble'"),
        (["--template", "gone.json"], "the descriptors in gone.json cannot be read"),
        (
            ["--device", "gpu"],
            "'--device': 'gpu' is unknown; use auto, cpu, cuda, cuda:N or mps",
        ),
    ],
)
def test_a_choice_that_needs_no_data_to_be_wrong_is_refused_before_any_is_read(
    photos, tiny_zoo, tmp_path, monkeypatch, options, line
):
    monkeypatch.setattr(
        "causalft.pipelines.workflows.fit.load_splits", lambda *_, **__: pytest.fail("data was read")
    )
    result = fit(photos, tiny_zoo, tmp_path / "run", *options)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and line in result.stderr
    assert not (tmp_path / "run").exists()


def test_options_of_training_are_noted_where_nothing_is_trained(photos, tiny_zoo, tmp_path):
    asked = ["--tuner", "zero-shot", "--lr", "0.1,0.2", "--patience", "2"]
    result = fit(photos, tiny_zoo, tmp_path / "run", *asked)  # which gives --epochs too
    assert result.exit_code == 0, result.output
    said = result.stdout.replace("\n", " ")
    assert said.count("nothing is trained: --lr, --epochs, --patience have no effect") == 1
    result = fit(photos, tiny_zoo, tmp_path / "probe", "--tuner", "linear-probe", "--lr", "0.1")
    assert result.exit_code == 0 and "nothing is trained" not in result.stdout


@pytest.mark.parametrize(("typed", "meant"), [("ldam", "LDAM"), ("gla-train", "GLA-Train"), ("CE", "CE")])
def test_a_loss_may_be_typed_in_any_capitals(tmp_path, monkeypatch, typed, meant):
    class Asked(BaseException):  # no exception: the last resort of the command line catches those
        pass

    def stop(settings, *_, **__):
        assert settings.tuning.loss == meant
        raise Asked

    monkeypatch.setattr("causalft.pipelines.workflows.fit.run_fit", stop)
    with pytest.raises(Asked):
        run("fit", "--loss", typed, "--out", str(tmp_path / "run"))


def test_a_width_is_taken_where_one_of_several_tuners_has_one(photos, tiny_zoo, tmp_path):
    assert fit(photos, tiny_zoo, tmp_path / "run", "--tuner", "lora+bias", "--bottleneck", "4").exit_code == 0


def test_a_dangling_link_as_the_folder_is_one_line(photos, tiny_zoo, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    result = fit(photos, tiny_zoo, tmp_path / "link")
    assert (
        result.exit_code == 2 and "is a link to nothing, not a folder; choose another place" in result.stderr
    )


@pytest.mark.parametrize("ratio", ["120:-20", "-10:-90", "inf:1", "nan:1", "a:b", "1:2:3", "0:0"])
@pytest.mark.parametrize("verb", ["generate", "verify-confounder"])
def test_a_ratio_is_refused_as_it_was_typed(verb, ratio, tmp_path):
    asked = [verb, "--ratio", ratio, "--out", str(tmp_path / "sets")]
    result = run(*asked)
    assert (
        result.exit_code == 2
        and f"'--ratio': {ratio!r} is not a ratio of two parts; write it as 90:10" in result.stderr
    )
    assert not (tmp_path / "sets").exists()
