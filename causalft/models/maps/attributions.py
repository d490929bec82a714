"""Maps by captum: integrated gradients, Grad-CAM and occlusion of the log-probability of a class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.models.maps import MapMethod, MapTarget
from causalft.models.maps.grid import OTHER_SIDE, GridModel, map_side

__all__ = ["grad_cam", "integrated_gradients", "occlusion"]


STEPS = 16
"""Points of the path of integrated gradients (Gauss-Legendre)."""

_TOGETHER = 256  # images of a path that are differentiated at a time


def _captum() -> Any:
    import captum.attr  # a second of imports

    return captum.attr


class _LogProbability(nn.Module):
    """Images (n, 3, s, s) to log P(y | x), (n, K)."""

    def __init__(self, logits: nn.Module | Any) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return F.log_softmax(self.logits(images).float(), dim=-1)


def integrated_gradients(target: MapTarget, images: Tensor, classes: Tensor, baseline: Tensor) -> Tensor:
    """Integrated gradients of log P(y | x), summed over colours and over the pixels of each cell: (n, h, w).

    The gradient is integrated along the line from the mean colour of the image to the image (Sundararajan, Taly and
    Yan, "Axiomatic Attribution for Deep Networks", ICML 2017), so that the values of all cells sum to the difference
    of the two log-probabilities. A cell is a patch of a vision transformer, else a seventh of the side: single pixels
    are noise.
    """
    found = (
        _captum()
        .IntegratedGradients(_LogProbability(target.logits))
        .attribute(images, baselines=baseline, target=classes, n_steps=STEPS, internal_batch_size=_TOGETHER)
    )
    return F.adaptive_avg_pool2d(found.sum(dim=1), map_side(target.tower, images))


def grad_cam(target: MapTarget, images: Tensor, classes: Tensor, baseline: Tensor) -> Tensor:
    """Grad-CAM of log P(y | x): (n, h, w).

    Channels are weighed by their mean gradient (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", ICCV 2017), at the output of the last stage of a ResNet, or at the input of the last
    block of a vision transformer, whose class token alone is read after it.

    Raises
    ------
    NoSuchMap
        If the tower is neither.
    """
    grid = GridModel(target)
    layer = _captum().LayerGradCam(_LogProbability(grid), grid.grid)
    return layer.attribute(images.requires_grad_(), target=classes)[:, 0]


def occlusion(target: MapTarget, images: Tensor, classes: Tensor, baseline: Tensor) -> Tensor:
    """By how much log P(y | x) falls when one cell gets the mean colour of the image: (n, h, w), for any tower.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2. A cell is a patch
    of a vision transformer, else a seventh of the side; of more than seven cells a side, two or more go together.
    """
    side = min(map_side(target.tower, images), OTHER_SIDE)
    step = images.shape[-1] / side
    place = (torch.arange(images.shape[-1], device=images.device) / step).long().clamp(max=side - 1)
    cells = (place[:, None] * side + place[None, :]).expand(1, 3, -1, -1)
    with torch.no_grad():
        found = (
            _captum()
            .FeatureAblation(_LogProbability(target.logits))
            .attribute(images, baselines=baseline, target=classes, feature_mask=cells)
        )
    return F.adaptive_avg_pool2d(found[:, 0], side)


INTEGRATED = MapMethod(
    name="integrated-gradients",
    help="the gradient of log P(y) summed on the way from an image of its mean colour",
    compute=integrated_gradients,
    towers="any",
    of_class=True,
    order=10,
    source="Sundararajan, Taly and Yan, ICML 2017",
    library="captum",
)
OCCLUSION = MapMethod(
    name="occlusion",
    help="the fall of log P(y) when a cell gets the mean colour of the image",
    compute=occlusion,
    towers="any",
    of_class=True,
    order=20,
    source="Zeiler and Fergus, ECCV 2014",
    library="captum",
)
GRAD_CAM = MapMethod(
    name="grad-cam",
    help="channels of the last grid of features, weighed by their gradient of log P(y)",
    compute=grad_cam,
    towers="ViT, ResNet",
    of_class=True,
    order=30,
    source="Selvaraju et al., ICCV 2017",
    library="captum",
)
