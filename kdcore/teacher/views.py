"""What a teacher sees: windows of a region in each of eight views, and nothing of what lies outside of the region.

A pixel's soft label does not depend on where a crop begins: each pixel is answered for by one window that sees its surroundings as
far as the region reaches. For each of the eight views the window itself is turned, the network asked, and what it says turned back.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.batches import keep_inside, turn, turn_back
from kdcore.data.collection import Region
from kdcore.data.scene import Crop, SceneReader
from kdcore.models.networks import SegmentationNetwork
from kdcore.models.onnx import OnnxNetwork
from kdcore.models.tiled import Tile, make_grid, without_gaps
from kdcore.teacher.cost import HALO as HALO
from kdcore.teacher.cost import WINDOW as WINDOW
from kdcore.teacher.cost import channels

SoftLabel = NDArray[np.float16]
"""(channels, height, width), as `pack` lays it out."""


@cache
def tiles(height: int, width: int) -> tuple[Tile, ...]:
    """The windows over a region; what they answer for is the region, each pixel once."""
    return tuple(make_grid(height, width, WINDOW, HALO).tiles())


def tiles_of(region: Region) -> tuple[Tile, ...]:
    """The windows over a region, in pixels from its upper left corner."""
    return tiles(region.box.height, region.box.width)


class Member:
    """One network of a teacher, asked about windows of regions.

    Args:
        network: it is asked in evaluation mode, in 32 bits, one window at a time.
        reader: of the collection's scenes.
        device: where the network is.
    """

    def __init__(
        self, network: SegmentationNetwork | OnnxNetwork, reader: SceneReader, device: torch.device | str = "cpu"
    ) -> None:
        self.network, self.reader, self.device = network, reader, torch.device(device)
        self.fill = network.fill
        self.channels = channels(network.logits)

    def read(self, region: Region, tile: Tile) -> Crop:
        """A window's imagery, without what lies outside the region: that may be of another part of the split."""
        box = tile.window._replace(row=tile.window.row + region.box.row, column=tile.window.column + region.box.column)
        return without_gaps(keep_inside(self.reader.read(region.scene, box), box, region.box), self.fill)

    @torch.no_grad()
    def ask(self, image: NDArray[np.float32], turns: int, flip: bool) -> SoftLabel:
        """What the network says about a window that lies as `turn` puts it, turned back: it lies as the scene does."""
        self.network.train(False)
        turned = np.ascontiguousarray(turn(image, turns, flip))
        logits = self.network(torch.from_numpy(turned)[None].to(self.device)).float()
        return turn_back(pack(logits)[0].cpu().numpy(), turns, flip)


def pack(logits: Tensor) -> Tensor:
    """Logits (N, K, H, W) as float16 (N, channels, H, W), so that probabilities keep three digits however large the logits are.

    Of several classes: the logarithms of their probabilities, which are finest where a probability is large, and in a last channel
    what was taken away from the logits, for losses that compare positions and not classes. One map is kept as it is.
    """
    if logits.shape[1] > 1:
        level = torch.logsumexp(logits, dim=1, keepdim=True)
        logits = torch.cat([logits - level, level], dim=1)
    largest = torch.finfo(torch.float16).max
    return logits.clamp(-largest, largest).half()


def unpack(packed: Tensor) -> Tensor:
    """Undo `pack`: (..., channels, H, W) float16 -> (..., K, H, W) float32 logits."""
    values = packed.float()
    return values if values.shape[-3] == 1 else values[..., :-1, :, :] + values[..., -1:, :, :]
