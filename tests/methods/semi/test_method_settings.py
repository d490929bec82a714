"""Settings of a method by name: what is taken, and what is refused."""

import pytest

from causalft.errors import CausalFTError
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.settings import SemiSettings


def given(method="ulfine", threshold=None, **values):
    return SemiSettings(method=method, threshold=threshold, method_setting=values)


def test_numbers_are_read_and_go_beside_the_threshold():
    settings = given(mu="0", threshold=0.9)
    settings.check()
    assert settings.method_settings == {"threshold": 0.9, "mu": 0.0}
    found = given("channel-ensemble", agree="3", heads=4).method_settings
    assert found == {"agree": 3, "heads": 4} and all(isinstance(each, int) for each in found.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (given(mu="much"), "mu 'much' is not a number; give one to the method"),
        (given(mu="nan"), "mu nan is not a finite number; give a number from 0 to 1"),
        (given(fusion="1.5"), "fusion 1.5 is out of range; give a number from 0 to 1"),
        (given(constraint="-1"), "constraint -1.* is out of range; give a number, 0 or more"),
        (given("channel-ensemble", agree="2.5"), "agree 2.5 is not a whole number"),
        (
            SemiSettings(method="ulfine", threshold=0.9, method_setting={"threshold": 0.8}),
            "the threshold of the method is given twice",
        ),
        (given(margin="1"), "the method ulfine has no margin; it has threshold, unlabelled_weight, mu"),
        (SemiSettings(method_setting={"mu": "1"}), "method_setting goes with a semi-supervised method"),
        (SemiSettings(unlabeled_ratio=2), "unlabeled_ratio goes with a semi-supervised method"),
        (SemiSettings(strong_magnitude=3), "strong_magnitude goes with a semi-supervised method"),
        (given("lp", threshold=0.5), "the method lp has no threshold; it has no setting, so leave it out"),
        (
            SemiSettings(method="lp", share_labels=True),
            "lp learns from labelled images alone; leave share_labels out",
        ),
        (
            SemiSettings(method="lft", unlabeled_ratio=2),
            "lft learns from labelled images alone; leave unlabeled_ratio out",
        ),
    ],
)
def test_what_a_method_cannot_take_is_refused(settings, message):
    with pytest.raises(CausalFTError, match=message):
        settings.check()


def test_shares_of_every_method_are_settings_from_0_to_1():
    for record in METHODS.values():
        for name in set(record.shares) - {"threshold"}:
            assert 0 <= record.settings[name] <= 1, (record.name, name)
