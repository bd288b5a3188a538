"""What a teacher says about scenes: asked window by window, turned back into the scene's frame, and served for crops.

A crop's answer does not depend on where the crop begins: each pixel is answered for by one window that sees its surroundings as
far as the region reaches. For each of the eight views the window itself is turned, the network asked, and its answer turned back.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from kdcore.data.answers import HALO as HALO
from kdcore.data.answers import VIEWS, find, turn, turn_back
from kdcore.data.answers import WINDOW as WINDOW
from kdcore.data.answers import channels as channels_of
from kdcore.data.batches import keep_inside
from kdcore.data.collection import Region
from kdcore.data.scene import Box, Crop, SceneReader
from kdcore.models.networks import SegmentationNetwork
from kdcore.models.onnx import OnnxNetwork
from kdcore.models.teacher import pack
from kdcore.models.tiled import make_grid

MEMORY_BYTES = 1_000_000_000  # of answers that are kept in memory where they are not kept on the disk

Answer = NDArray[np.float16]


class Tile(NamedTuple):
    """A window of a region, in pixels from the region's upper left corner: what is looked at, and what is answered for."""

    window: Box
    kept: Box


@cache
def tiles(height: int, width: int) -> tuple[Tile, ...]:
    """The windows over a region; what they answer for is the region, each pixel once."""
    grid = make_grid(height, width, WINDOW, HALO)
    places = [(row, column) for row in range(grid.rows.count) for column in range(grid.columns.count)]
    return tuple(Tile(grid.window(*place), grid.kept(*place)) for place in places)


def tiles_of(region: Region) -> tuple[Tile, ...]:
    """The windows over a region."""
    return tiles(region.box.height, region.box.width)


class Witness:
    """One network of a teacher, asked about windows of regions.

    Args:
        network: the member; it is asked in evaluation mode, in 32 bits, one window at a time.
        reader: of the collection's scenes.
        device: where the network is.
    """

    def __init__(
        self, network: SegmentationNetwork | OnnxNetwork, reader: SceneReader, device: torch.device | str = "cpu"
    ) -> None:
        self.network, self.reader, self.device = network, reader, torch.device(device)
        self.fill = network.fill[:, None, None]
        self.channels = channels_of(network.logits)

    def read(self, region: Region, tile: Tile) -> Crop:
        """A window's imagery, without what lies outside the region: that may be of another part of the split."""
        box = tile.window._replace(row=tile.window.row + region.box.row, column=tile.window.column + region.box.column)
        return keep_inside(self.reader.read(region.scene, box), box, region.box)

    @torch.no_grad()
    def ask(self, seen: Crop, tile: Tile, turns: int, flip: bool) -> Answer:
        """What the network says about a window that lies as `turn` puts it: (channels, height, width) of what the tile keeps.

        The answer is turned back, so it lies as the scene does.
        """
        self.network.train(False)
        image = np.where(seen.valid, seen.image, self.fill).astype(np.float32)
        turned = np.ascontiguousarray(turn(image, turns, flip))
        logits = self.network(torch.from_numpy(turned)[None].to(self.device)).float()
        answer: Answer = turn_back(pack(logits)[0].cpu().numpy(), turns, flip)
        return answer[:, *tile.kept.within(tile.window)]


class Source(Protocol):
    """Answers of one network about regions."""

    channels: int

    def read(self, index: int, box: Box, view: int) -> Answer:
        """The answers about a rectangle of a region, in the region's pixels: (channels, height, width)."""
        ...


class LiveSource:
    """Answers that are computed when they are asked for, and kept in memory as long as there is room.

    They are the same, number by number, as those that are kept on the disk.
    """

    def __init__(self, witness: Witness, regions: Sequence[Region], most_bytes: int = MEMORY_BYTES) -> None:
        self.witness, self.regions, self.most_bytes = witness, regions, most_bytes
        self.channels = witness.channels
        self._kept: OrderedDict[tuple[int, int, int], Answer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, index: int, box: Box, view: int) -> Answer:
        """The answers about a rectangle of a region, in the region's pixels: (channels, height, width)."""
        found = np.zeros((self.channels, box.height, box.width), dtype=np.float16)
        for number, tile in enumerate(tiles_of(self.regions[index])):
            part = tile.kept.intersection(box)
            if part is None:
                continue
            answer = self._answer(index, number, view)
            found[:, *part.within(box)] = answer[:, *part.within(tile.kept)]
        return found

    def _answer(self, index: int, number: int, view: int) -> Answer:
        key = (index, number, view)
        with self._lock:  # one at a time: several readers would only compute the same
            if key not in self._kept:
                region = self.regions[index]
                tile = tiles_of(region)[number]
                answer = np.ascontiguousarray(self.witness.ask(self.witness.read(region, tile), tile, *VIEWS[view]))
                self._kept[key] = answer
                self._bytes += answer.nbytes
                while self._bytes > self.most_bytes and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end(key)
            return self._kept[key]


class SceneAnswers:
    """Serves the answers of a teacher's networks for crops; see `kdcore.data.answers.Answers`.

    Args:
        regions: what there are answers about; crops of rectangles inside them are served, too.
        sources: one for each network.
        views: 8, or 1: then the upright view is turned for all crops.
        flips: whether a crop gets the answers to all eight views, for their average.
    """

    def __init__(
        self, regions: Sequence[Region], sources: Sequence[Source], views: int = 8, flips: bool = False
    ) -> None:
        self.regions, self.sources = tuple(regions), tuple(sources)
        self.views, self.flips = views, flips

    def crop(self, region: Region, box: Box, turns: int, flip: bool) -> Answer:
        """The answers for a crop that lies as `turn(crop, turns, flip)` does; zero outside of the region.

        Returns:
            (networks, or 8 for each of them with `flips`; channels; height; width) float16.
        """
        index = find(self.regions, region)
        assert index is not None
        frame = self.regions[index].box
        own = VIEWS.index((turns, flip)) if self.views > 1 else 0
        asked = [(source, view) for source in self.sources for view in (range(8) if self.flips else (own,))]
        shape = (box.width, box.height) if turns % 2 else (box.height, box.width)
        served = np.zeros((len(asked), self.sources[0].channels, *shape), dtype=np.float16)
        inside = box.intersection(frame)
        if inside is not None:
            lying = turn_back(served, turns, flip)  # the same memory, as the scene lies
            part = inside._replace(row=inside.row - frame.row, column=inside.column - frame.column)
            for answer, (source, view) in zip(lying, asked, strict=True):
                answer[:, *inside.within(box)] = source.read(index, part, view)
        return served
