"""The same mistake is told in arguments to a caller in Python and in options to who typed a command."""

from __future__ import annotations

import re
import traceback

import pytest

from causalft import StrataClassifier, open_images, open_zoo
from causalft.data import cut_splits
from causalft.errors import CausalFTError, in_arguments, speaking_of_options
from causalft.runs.folder import Run
from tests.command_line import run

OPTION = re.compile(r"(?<!\w)--[a-z]")


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: StrataClassifier(()).check(),
        lambda folder: StrataClassifier(device="cuda:77").check(),
        lambda folder: StrataClassifier(gla=True, tuning=_tuning(loss="Focal")).check(),
        lambda folder: _tuning(tuner="bias", bottleneck=4).check(),
        lambda folder: open_zoo("mini", {"clip": "x"}),
        lambda folder: open_zoo("mini").load("clip").text_features(["zebra"]),
        lambda folder: open_images(folder / "labels.csv", format="folder"),
        lambda folder: cut_splits(open_images(folder), n_validation=500, n_test=500, seed=0),
        lambda folder: Run.check(folder, kind="fit"),
    ],
)
def test_a_message_in_python_names_no_option(call, photos, tmp_path):
    (photos.parent / "labels.csv").write_text("path,label\n")
    with pytest.raises(CausalFTError) as caught:
        call(photos.parent if "labels.csv" in str(call.__code__.co_consts) else photos)
    outside = re.sub(r"`[^`]*`", "", str(caught.value))
    assert not OPTION.search(outside), outside
    shown = "".join(traceback.format_exception_only(caught.value))
    assert not OPTION.search(re.sub(r"`[^`]*`", "", shown))


def _tuning(**options):
    from causalft.methods.adaptation.settings import Tuning

    return Tuning(**options)


def test_the_same_message_on_the_command_line_names_options(tmp_path):
    refused = run("fit", "--zoo", "mini", "--weights", "clip=x.safetensors", "--out", tmp_path / "a")
    assert refused.exit_code == 2
    assert "--weights goes with --zoo pretrained" in refused.stderr


def test_nested_error_is_worded_alike():
    def wrapped() -> str:
        try:
            raise CausalFTError("use --zoo mini")
        except CausalFTError as error:
            return str(CausalFTError(f"run 1: {error}"))

    assert wrapped() == "run 1: use zoo='mini'"
    with speaking_of_options():
        assert wrapped() == "run 1: use --zoo mini"


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("use --precision bf16, fp32 or auto", "use precision='bf16', fp32 or auto"),
        ("--strata clip,openclip", "strata=('clip', 'openclip')"),
        ("--seeds 3 or more", "seeds=3 or more"),
        ("pass --no-fused", "pass fused=False"),
        ("pass --gla on a large set", "pass gla=True on a large set"),
        ("--device cuda:1 is not here", "device cuda:1 is not here"),
        ("x --> y and a--b", "x --> y and a--b"),
        ("(`fit --out DIR`) or --out", "(`fit --out DIR`) or output"),
        ("a bottleneck (--bottleneck) is", "a bottleneck is"),
    ],
)
def test_option_names_become_argument_names(options, arguments):
    assert in_arguments(options) == arguments
