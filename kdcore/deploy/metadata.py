"""What an exported ONNX file says about itself to other programs: the keys that the QGIS plugin Deepness reads.

Deepness divides what it reads by 255, whatever its type, then gives (value - mean) / std to the network (its `model_base`).
Our exports take imagery in its own units; a mean of 0 and a standard deviation of 1 / 255 undo the division.
"""

import json
import math

from kdcore.models.facts import Facts

DIVISOR = 255.0  # what Deepness divides by


def deepness_keys(
    info: Facts, threshold: float | None = None, overlap_percent: int | None = None, *, tile: int = 512, halo: int = 32
) -> dict[str, str]:
    """Metadata of an exported network for Deepness: every value is JSON, as the plugin parses it.

    Args:
        info: of the network.
        threshold: probability from which a pixel is marked. Default: 0.5 for two classes. For more it is 0, so that the class
            is the arg-max: Deepness sets what lies below the threshold to 0 before it looks for the largest.
        overlap_percent: of neighbouring tiles; default: see `overlap_in_step`.
        tile: side of the tiles, pixels.
        halo: imagery around each tile whose predictions are cut away, pixels.

    Returns:
        Values by key. Without a known ground sample distance Deepness asks for it.
    """
    if threshold is None:
        threshold = 0.5 if len(info.classes) == 2 else 0.0
    if overlap_percent is None:
        overlap_percent = overlap_in_step(tile, 2 * halo)
    values = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(info.classes)},
        "tile_size": tile,  # what the plugin reads
        "tiles_size": tile,  # what its documentation says
        "tiles_overlap": overlap_percent,
        "standardization_mean": [0.0] * info.bands,
        "standardization_std": [1 / DIVISOR] * info.bands,
        "seg_thresh": threshold,
    }
    if info.metres_per_pixel is not None:
        values["resolution"] = round(100 * info.metres_per_pixel, 4)  # centimetres
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def overlap_in_step(tile: int, least: int) -> int:
    """The smallest overlap of at least so many pixels, in whole per cent, with which all tiles begin at multiples of a network's stride.

    Where they do not, each tile is cut into the encoder's cells in another way, and labels differ from those of one tile with the same
    imagery (`benchmarks/tile_phase.py`). Where no whole per cent gives multiples of 32, those of 16, 8 and so on are next best.
    """
    lowest = math.ceil(100 * least / tile)
    for step in (32, 16, 8, 4, 2):
        for percent in range(lowest, max(lowest, 50) + 1):
            if (tile - int(tile * percent / 100)) % step == 0:
                return percent
    return lowest
