"""Pictures of scenes: imagery beside the masks of truth and arms."""

import base64
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = (120, 120, 120)  # no label


def show_imagery(image: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(bands, H, W) of any dtype as (H, W, 3) uint8: the first three bands, or one band as grey.

    8-bit colour imagery is shown as it is; anything else is stretched between the 2nd and 98th percentile of each band.
    """
    bands = image[:3] if len(image) >= 3 else image[[0, 0, 0]]
    if image.dtype == np.uint8 and len(image) == 3:
        shown = bands
    else:
        shown = np.zeros(bands.shape, dtype=np.uint8)
        for index, band in enumerate(bands):
            if valid.any():
                low, high = np.percentile(band[valid], (2, 98))
                shown[index] = np.clip((band - low) / max(high - low, 1e-9) * 255, 0, 255)
    return np.where(valid[..., None], np.moveaxis(shown, 0, -1), 255).astype(np.uint8)


def show_labels(labels: NDArray[np.integer[Any]], colours: Sequence[str]) -> NDArray[np.uint8]:
    """(H, W) class indices as (H, W, 3) colours; what is no class is grey."""
    table = np.full((256, 3), GREY, dtype=np.uint8)
    for index, colour in enumerate(colours):
        table[index] = tuple(bytes.fromhex(colour[1:]))
    picture: NDArray[np.uint8] = table[labels.astype(np.uint8)]
    return picture


def blend(imagery: NDArray[np.uint8], mask: NDArray[np.uint8], opacity: float = 0.5) -> NDArray[np.uint8]:
    """A mask over imagery, both (H, W, 3)."""
    return (imagery * (1 - opacity) + mask * opacity).astype(np.uint8)


def data_uri(picture: NDArray[np.uint8], form: Literal["PNG", "JPEG"] = "PNG") -> str:
    """A picture as a PNG, or smaller and blurred a little as a JPEG, inside an address, so that a page needs no other file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, optimize=True, quality=85)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
