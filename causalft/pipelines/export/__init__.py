"""Export of a fitted classifier: ONNX, torch.export, or one safetensors file with its computation."""

from __future__ import annotations

from causalft.pipelines.export.formats import FORMATS
from causalft.pipelines.export.fused_model import FusedModel
from causalft.pipelines.export.write import Export, export_run

__all__ = ["FORMATS", "Export", "FusedModel", "export_run"]
