"""Member names: parsing reads what str writes; any other text is a stratum."""

from __future__ import annotations

import pytest

from causalft.models.strata.cards import MemberName


@pytest.mark.parametrize("pretraining", [0, 1, 12])
@pytest.mark.parametrize("tuning", [0, 3])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("stratum", ["clip", "ViT-L-14/openai", "clip-openclip-prior"])
def test_parse_reads_what_str_writes(stratum, wide, pretraining, tuning):
    name = MemberName(stratum, pretraining, tuning, wide)
    assert MemberName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["-wide", "clip-wider", "clip@", "clip@0", "clip@x", "clip#01", "@1", "#"])
def test_any_other_text_is_a_stratum_and_kept(text):
    assert MemberName.parse(text) == MemberName(text) and str(MemberName.parse(text)) == text
