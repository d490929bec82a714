"""A run on a model hub: layout of its files with hashes, push and pull by huggingface_hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.methods.estimators.run_documents import stored_precision
from causalft.pipelines.hub.layout import ADAPTER_BYTES, MANIFEST, layout, write_layout
from causalft.pipelines.hub.transfer import install, pull, push
from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.pipelines.hub.half import HalfChange, half_change, half_files, halve

__all__ = [
    "ADAPTER_BYTES",
    "MANIFEST",
    "HalfChange",
    "half_change",
    "half_files",
    "halve",
    "install",
    "layout",
    "pull",
    "push",
    "stored_precision",
    "write_layout",
]

# these need PyTorch
_HOMES = dict.fromkeys(("HalfChange", "half_change", "half_files", "halve"), "causalft.pipelines.hub.half")

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
