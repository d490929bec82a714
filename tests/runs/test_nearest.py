"""The nearest names, also among as many as the files of iNaturalist."""

from __future__ import annotations

import difflib
import random

from causalft import errors
from causalft.errors import nearest


def test_typing_error_is_found_among_many_names(monkeypatch):
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdefghij", k=10)) for _ in range(9000)]
    compared, whole = [], difflib.get_close_matches

    def counted(name, known, **how):
        compared.append(len(known))
        return whole(name, known, **how)

    monkeypatch.setattr(errors.difflib, "get_close_matches", counted)
    for name in rng.sample(names, 5):
        swapped = name[:3] + name[4] + name[3] + name[5:]
        assert repr(name) in nearest(swapped, names)
        assert repr(name) in nearest(name[:5] + name[6:], names)
    assert set(compared) == {2000}


def test_few_names_are_all_compared():
    names = [f"kind {k}" for k in range(2000)]
    want = difflib.get_close_matches("kin 1234", sorted(names), n=3, cutoff=0.5)
    assert nearest("kin 1234", names) == "did you mean " + " or ".join(map(repr, want)) + "?"
