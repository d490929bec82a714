"""A run of GLA-FT as a model file: two passes of each tower in one graph, which says what `causalft predict` says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causalft.data.opening import open_images
from causalft.methods.estimators.strata import StrataClassifier
from tests.command_line import run
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    """LoRA folds into the weights of the tuned tower, and must not reach the untouched one."""
    folder = tmp_path_factory.mktemp("gla") / "run"
    return fit(folder, tiny_zoo, photos, "--gla", "--loss", "CE", "--tuner", "lora+adaptformer+ssf@last-1")


@pytest.fixture(scope="module")
def predicted(fitted, photos):
    """Pictures as the strata cut them, float32 on [0, 1], and what the run says: fused (n, K), strata (n, M, K)."""
    model = StrataClassifier.load(fitted, device="cpu", progress=False)
    images = open_images(photos)
    images = images.subset(np.arange(0, len(images), 7))
    stratum = next(iter(model.members_.values())).stratum
    crops = np.stack([stratum.crop(images.image(i)) for i in range(len(images))])
    strata = model.stratum_proba(images)
    for member in model.members_.values():
        member.untouched = None
    assert np.abs(model.stratum_proba(images) - strata).max() > 0.01  # a file without GLA-FT would be noticed
    pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    return pictures, model.fuse_proba(strata), strata.transpose(1, 0, 2)


def exported(fitted, to, out):
    result = run("export", fitted, "--to", to, "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_torch_export(fitted, predicted, tmp_path):
    pictures, fused, strata = predicted
    model = torch.export.load(exported(fitted, "torch-export", tmp_path / "model.pt2")).module()
    for n in (1, len(pictures)):
        found = [part.detach().numpy() for part in model(pictures[:n])]
        np.testing.assert_allclose(found[0], fused[:n], atol=1e-4)
        np.testing.assert_allclose(found[1], strata[:n], atol=1e-4)


@pytest.mark.slow
def test_onnx(fitted, predicted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pictures, fused, strata = predicted
    session = onnxruntime.InferenceSession(exported(fitted, "onnx", tmp_path / "model.onnx"))
    for n in (1, len(pictures)):
        found = session.run(None, {"pictures": pictures[:n].numpy()})
        np.testing.assert_allclose(found[0], fused[:n], atol=1e-4)
        np.testing.assert_allclose(found[1], strata[:n], atol=1e-4)
