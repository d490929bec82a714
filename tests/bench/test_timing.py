"""The units of a processor, as `make bench` names them beside every ratio."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.mark.parametrize(
    ("flags", "units"),
    [
        ("fpu sse4_2 avx avx2 fma", ["avx2"]),
        ("avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_bf16", ["avx2", "avx512", "vnni", "bf16", "amx"]),
        ("avx2 avx_vnni", ["avx2", "vnni"]),
        ("fpu", []),
    ],
)
def test_units_are_read_from_the_flags_of_the_processor(monkeypatch, tmp_path, flags, units):
    monkeypatch.syspath_prepend(str(BENCH))
    import timing

    (tmp_path / "cpuinfo").write_text(f"model name\t: some processor\nflags\t\t: {flags}\nprocessor\t: 1\n")
    assert timing.processor_units(tmp_path / "cpuinfo") == units
    assert set(timing.processor_units(tmp_path / "none")) <= set(timing.UNITS)
    assert timing.ratio([1.0, 2.0])["units"] == timing.processor_units()
