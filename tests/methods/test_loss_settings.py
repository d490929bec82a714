"""Settings of a loss as an option of the tuning."""

from __future__ import annotations

import pytest

from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning


def test_settings_of_a_loss_are_read_and_joined_with_the_scale_of_the_head():
    assert Tuning().loss_settings == {}
    assert Tuning(loss="LA-DRO", loss_setting="step=0.1").loss_settings == {"step": 0.1}
    found = Tuning(loss="LDAM", loss_setting="max-margin = 0.3", head_scale=16.0).loss_settings
    assert found == {"scale": 16.0, "max_margin": 0.3}


@pytest.mark.parametrize(
    ("loss", "given", "message"),
    [
        (
            "LA",
            "step=0.1",
            "the loss LA has no setting 'step'; it has 'tau'|the loss LA has no setting 'step'",
        ),
        ("CE", "tau=1", "the loss CE has no setting 'tau'; it has none"),
        ("LA", "tau", "the loss setting 'tau' has no value; write tau=NUMBER"),
        ("LA", "tau=much", "tau of the loss LA is 'much'; give a number"),
        ("LA", "tau=1,tau=2", "tau of the loss LA is given twice"),
        ("LDAM", "scale=3", "scale of the loss LDAM is that of the head"),
    ],
)
def test_settings_that_a_loss_does_not_have_are_refused(loss, given, message):
    with pytest.raises(CausalFTError, match=message):
        Tuning(loss=loss, loss_setting=given).check()
