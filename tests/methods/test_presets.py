"""Presets: what they hold, what overrides them, and the command that repeats a run."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from causalft.errors import CausalFTError
from causalft.methods.adaptation.presets import PRESETS, advice, preset
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.settings import FitSettings
from causalft.models.tuning.recipe import lr_factor
from causalft.runs.settings import made_of


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_tuning_of_the_papers_recipe(name):
    found = preset(name)
    found.check()
    assert set(PRESETS[name].values) | set(PRESETS[name].then) <= set(vars(found))
    assert (found.loss, found.batch_size, found.momentum, found.weight_decay) == ("LA", 128, 0.9, 5e-4)
    assert (found.head, found.head_scale, found.head_start, found.bottleneck) == ("cosine", 25, "text", None)
    assert found.template == "a photo of a {}." and found.tuner == "adaptformer-scaled"
    assert [round(lr_factor(found.recipe, epoch, 1), 3) for epoch in range(2)] == [
        1.0,
        {10: 0.976, 5: 0.905}[found.epochs],
    ]


def test_lift_plus_halves_the_epochs_and_doubles_the_rate():
    lift, plus = preset("lift"), preset("lift+")
    assert (lift.lr, lift.epochs, lift.augmentation) == (0.01, 10, "wide-crop-flip")
    assert (plus.lr, plus.epochs, plus.augmentation) == (0.02, 5, "growing-crop")
    assert replace(plus, lr=0.01, epochs=10, augmentation="wide-crop-flip") == lift
    assert [preset(name, n_classes=8142).epochs for name in ("lift", "lift+")] == [20, 15]


def test_a_given_option_overrides_the_preset_wherever_it_is_given():
    found = made_of(FitSettings, {"preset": "lift+", "epochs": 3, "test_view": "five-crop"})
    assert found.tuning == replace(preset("lift+"), epochs=3, test_view="five-crop")
    assert made_of(FitSettings, {"zoo": "pretrained"}).tuning.augmentation == "crop-flip"
    assert FitSettings(preset="lift", tuning=Tuning(lr=0.5)).tuning == Tuning(lr=0.5)


def test_the_command_names_the_preset_and_what_differs_from_it():
    settings = made_of(FitSettings, {"preset": "lift", "loss": "CE"})
    settings = replace(settings, tuning=replace(settings.tuning, lr=0.05))
    command = fit_command(asdict(settings), "runs/a")
    assert command == "causalft fit --preset lift --loss CE --lr 0.05 --out runs/a"
    assert FitSettings.from_config(asdict(settings)) == settings


def test_many_classes_ask_for_more_epochs_unless_they_were_given():
    assert advice("lift", preset("lift"), 8142) == (
        "lift asks for --epochs 20 on 8,142 classes or more; this run has 10"
    )
    for epochs, n_classes in ((20, 8142), (7, 8142), (10, 1000)):
        assert advice("lift", replace(preset("lift"), epochs=epochs), n_classes) is None
    assert advice(None, Tuning(), 8142) is None


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(CausalFTError, match=r"no preset is named 'lift\+\+'; did you mean 'lift\+'"):
        FitSettings(preset="lift++")
