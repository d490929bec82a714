"""The short names of the package: each is there, and none is paid for before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import causalft


@pytest.mark.parametrize("name", causalft.__all__)
def test_short_name_leads_to_the_documented_object(name):
    found = getattr(causalft, name)
    assert found.__doc__
    assert found.__module__.startswith("causalft")
    assert name in dir(causalft)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'backdor'"):
        causalft.backdor  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, causalft; print([m for m in ('torch', 'sklearn', 'pandas', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
