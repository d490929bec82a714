"""The default run tries the same examples everywhere, and wraps nothing."""

from __future__ import annotations

import shutil

from hypothesis import HealthCheck, settings


def test_property_tests_are_derandomized_and_no_load_fails_them():
    assert settings().derandomize and settings().deadline is None and settings().database is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_no_output_wraps_at_the_width_of_the_terminal():
    assert shutil.get_terminal_size().columns == 1000
