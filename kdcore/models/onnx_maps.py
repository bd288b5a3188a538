"""From what an ONNX graph gives to maps (N, C, H, W) of the imagery's size: layout, place, and whether they are what they are said to be."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from kdcore.errors import CheckpointError
from kdcore.models.onnx_graph import MOST_CHANNELS, Side

if TYPE_CHECKING:
    from kdcore.models.onnx_info import OnnxInfo

STRIDES = (1, 2, 4, 8, 16, 32)
ROUNDING = 2e-3  # of probabilities in half precision that should add up to 1
Pixels = NDArray[np.float32]


def channels_are_last(shape: tuple[Side, ...], height: Side, width: Side, needed: int) -> bool | None:
    """Whether maps of a shape are (N, H, W, C): None where both layouts would do, or neither.

    Args:
        shape: of the maps.
        height: of the images. Names of open sides count as sizes that are alike where they are the same.
        width: of the images.
        needed: channels that there must be at least.
    """
    first = sides_fit(shape[2], shape[3], height, width) and channels_fit(shape[1], height, width, needed)
    last = sides_fit(shape[1], shape[2], height, width) and channels_fit(shape[3], height, width, needed)
    return last if first != last else None


def sides_fit(rows: Side, columns: Side, height: Side, width: Side) -> bool:
    """Whether maps of this size can be of images of that size."""
    if isinstance(rows, int) != isinstance(columns, int):
        return False
    if not (isinstance(rows, int) and isinstance(columns, int)):
        named = [side for side in (rows, columns, height, width) if isinstance(side, str)]
        return len(named) < 4 or (rows, columns) == (height, width) or not {rows, columns} & {height, width}
    if not (isinstance(height, int) and isinstance(width, int)):
        return True
    return stride_of((rows, columns), (height, width)) > 0 or margin_of((rows, columns), (height, width)) > 0


def channels_fit(channels: Side, height: Side, width: Side, needed: int) -> bool:
    """Whether a side can be the channels'."""
    if isinstance(channels, int):
        return needed <= channels <= MOST_CHANNELS
    return channels is None or channels not in (height, width)


def stride_of(maps: tuple[int, int], images: tuple[int, int]) -> int:
    """By how much maps are coarser than their images, 1 where they are as fine or finer; 0 where their sizes have no such relation."""
    for stride in STRIDES:
        if maps == tuple(-(-side // stride) for side in images):
            return stride
    finer = [side % other for side, other in zip(maps, images, strict=True)] == [0, 0] and min(maps) > 0
    return 1 if finer and maps[0] * images[1] == maps[1] * images[0] else 0


def margin_of(maps: tuple[int, int], images: tuple[int, int]) -> int:
    """Pixels that are lacking on each side, as after convolutions without padding; 0 where that is not so."""
    lacking = images[0] - maps[0]
    alike = lacking == images[1] - maps[1] and lacking > 0 and lacking % 2 == 0
    return lacking // 2 if alike and not stride_of(maps, images) else 0


def to_maps(info: "OnnxInfo", outputs: NDArray[Any], size: tuple[int, int] | None) -> tuple[Pixels, int]:
    """The output as (N, C, H, W) float32 of the images' size, after a look at whether it is what it should be.

    Maps that are smaller because of convolutions without padding lie in the middle, and their border is continued outwards.

    Returns:
        The maps, and how wide that border is.

    Raises:
        CheckpointError: other channels than `info` names, a size without relation to the images', or values of another kind.
    """
    values = np.asarray(outputs, dtype=np.float32)
    if values.ndim != 4:
        raise CheckpointError(
            f"the ONNX network gave values of the shape {values.shape}; maps have (batch, channels, height, width)."
        )
    if size is None:
        assert info.tile is not None
        size = info.tile, info.tile
    highest = max(channel for channels in info.channels for channel in channels)
    last = channels_are_last(values.shape, *size, highest + 1)
    if last is None:
        last = info.channels_last if info.maps_channels_last is None else info.maps_channels_last
    if last:
        values = values.transpose(0, 3, 1, 2)
    if values.shape[1] <= highest or (values.shape[1] > 1 and not all(info.channels)):
        raise CheckpointError(
            f"the ONNX network gave {values.shape[1]} output channels, which does not fit its classes "
            f"({', '.join(f'{name}: {list(where)}' for name, where in zip(info.classes, info.channels, strict=True))}). "
            "Correct `classes` in the YAML beside it."
        )
    check_values(info, values)
    return fit(values, size)


def fit(values: Pixels, size: tuple[int, int]) -> tuple[Pixels, int]:
    """Maps brought to a size, and the width of their border that was continued."""
    found = (values.shape[2], values.shape[3])
    if found == size:
        return values, 0
    margin = margin_of(found, size)
    if margin:
        sides = (margin, margin)
        return np.pad(values, ((0, 0), (0, 0), sides, sides), mode="edge"), margin
    if not stride_of(found, size):
        raise CheckpointError(
            f"the ONNX network gave maps of {found[0]} x {found[1]} px for images of {size[0]} x {size[1]} px, and nothing says where they "
            "lie. Export it so that its maps are as large as its images, or resize them inside the network."
        )
    resized = functional.interpolate(torch.from_numpy(np.ascontiguousarray(values)), size, mode="bilinear")
    return resized.numpy(), 0


def check_values(info: "OnnxInfo", values: Pixels) -> None:
    """Refuse what is not what `output` says.

    Raises:
        CheckpointError: says what the values look like instead, and what to write.
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise CheckpointError(
            "the ONNX network gave values that are no numbers (NaN or infinite). Correct `mean`, `std` or `divide_by` in the YAML beside it."
        )
    if info.sha256:  # our own export was compared with its network
        return
    shown = f"the ONNX network gave values from {low:.3g} to {high:.3g}"
    if info.output == "probabilities" and (low < -1e-3 or high > 1.001):
        scaled = low >= 0 and high <= 255.5
        raise CheckpointError(
            f"{shown}, which are no probabilities. Write `output: logits` in the YAML beside it"
            + (
                ", or divide them by 255 or 100 inside the network if they are probabilities times that."
                if scaled
                else "."
            )
        )
    if low < -1e-6:
        return
    across = values.sum(axis=1)
    total = float(across.mean())
    varied = values.shape[1] > 1 and bool((values.max(axis=(0, 2, 3)) > values.min(axis=(0, 2, 3))).any())
    adds_up = varied and total > 0 and float(across.max() - across.min()) <= 2 * ROUNDING * total
    if adds_up and info.output == "logits" and info.ending != "values":
        if abs(total - 1) > 5 * ROUNDING:
            raise CheckpointError(
                f"{shown}, whose sum over the channels is always {total:.4g}: probabilities times a number, not logits. "
                "Leave that number out of the network, and write `output: probabilities` in the YAML beside it."
            )
        raise CheckpointError(
            f"{shown}, whose sum over the channels is always 1: probabilities, not logits. Write `output: probabilities` in the YAML beside it."
        )
    if not adds_up and any(
        side > 1 and adds_to_one(values, axis) for axis, side in ((2, values.shape[2]), (3, values.shape[3]))
    ):
        raise CheckpointError(
            f"{shown}, whose sum along the pixels of each row or column is 1: a softmax over the wrong axis. "
            "Export it with the softmax over the channels, or without it and with `output: logits`."
        )
    if info.output == "logits" and info.ending == "unknown" and high <= 1.001 and high > 0:
        raise CheckpointError(
            f"{shown}, as if they were probabilities already, not logits. Write `output: probabilities` in the YAML beside it, "
            "or export the network so that it ends with the layer that gives its logits."
        )


def adds_to_one(values: Pixels, axis: int) -> bool:
    """Whether the values along an axis always add up to 1."""
    return bool(np.abs(values.sum(axis=axis) - 1).max() <= 5 * ROUNDING)
