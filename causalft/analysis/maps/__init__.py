"""What a model looks at, in numbers: shares of a map, its spread and overlap, and whether it is true to the model."""

from causalft.analysis.maps.faithfulness import (
    Curves,
    centre_maps,
    deletion_insertion,
    random_maps,
)
from causalft.analysis.maps.hiding import confidence_when_hidden, filled, grid_masks, hide
from causalft.analysis.maps.measure import FUSED, MapShares, curves_of_maps, map_shares
from causalft.analysis.maps.shares import entropy, mask_areas, mask_shares, overlap, spread
from causalft.analysis.maps.truest import TruestMap, truest_map

__all__ = [
    "FUSED",
    "Curves",
    "MapShares",
    "TruestMap",
    "centre_maps",
    "confidence_when_hidden",
    "curves_of_maps",
    "deletion_insertion",
    "entropy",
    "filled",
    "grid_masks",
    "hide",
    "map_shares",
    "mask_areas",
    "mask_shares",
    "overlap",
    "random_maps",
    "spread",
    "truest_map",
]
