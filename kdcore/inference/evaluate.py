"""From a network and a part of the split to scores, and to a probability map of every scene."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.data.collection import Collection
from kdcore.data.masks import IGNORE
from kdcore.data.scene import Box, Crop, Scene
from kdcore.data.writing import RasterWriter, writing_raster
from kdcore.evaluation.counting import HELD_BACK, ScoresBuilder, boundary_pixels
from kdcore.evaluation.levels import NODATA, quantise
from kdcore.evaluation.scores import Scores
from kdcore.inference.fields import place_tiles
from kdcore.inference.layers import add_overviews
from kdcore.models.networks import computing_on, odds, probabilities
from kdcore.models.tiled import Tile, looks
from kdcore.settings import EvaluationSettings, SplitName

Item = TypeVar("Item")


class Share(NamedTuple):
    """Which windows this process scores where several score a split together: each `ranks`-th one.

    Attributes:
        rank, ranks: this process, and how many there are.
        gather: gives every process what each of them puts in, by rank.
    """

    rank: int = 0
    ranks: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]


ALONE = Share()


@torch.no_grad()
def evaluate(
    network: nn.Module,
    collection: Collection,
    split: SplitName,
    settings: EvaluationSettings,
    *,
    fill: NDArray[np.floating[Any]],
    device: torch.device | str = "cpu",
    maps: Path | None = None,
    readers: int = 2,
    buffer: int = 0,
    progress: Callable[[int, int], None] | None = None,
    share: Share = ALONE,
) -> Scores:
    """Score a network on one part of the split.

    Args:
        network: imagery (1, bands, H, W) -> logits (1, K, H, W); it is put into evaluation mode.
        collection: the imagery and labels.
        split: which part; pixels outside it are seen as context but not scored.
        settings: tile, window, halo and boundary distance.
        fill: (bands,) values put where the imagery has no data, in its units.
        device: where the network is.
        maps: folder that gets one GeoTIFF a scene with K bands of probabilities, uint8 0..254, nodata 255.
        readers: threads that read ahead.
        buffer: pixels that the part keeps away from the parts behind it (validation from test), see `Collection.regions`.
        progress: is told windows done and windows in all.
        share: of this process; each gets the scores that one process would get. One that writes maps has to score all.

    Returns:
        Scores of every tile with at least one labelled pixel.
    """
    network.eval()
    names, scored = collection.settings.class_names, collection.settings.scored
    builder = ScoresBuilder(names, scored, tile=settings.tile, alone=share.ranks == 1)
    work = list(windows(collection, split, settings.window, buffer))
    tiles = [Tile(box.grown(settings.halo).intersection(scene.box) or box, box) for scene, box, _ in work]
    counted: list[int] = []  # windows that were added to the builder

    def read(mine: Sequence[int], index: int) -> Crop:
        return collection.reader.read(work[mine[index]][0], tiles[mine[index]].window)

    def ask(image: NDArray[np.float32]) -> Tensor:
        with computing_on(torch.device(device)):
            logits: Tensor = network(torch.from_numpy(image).to(device))
        return logits

    def looked() -> Iterator[tuple[int, tuple[Crop, Tensor | None]]]:
        for mine in rounds([box.area for _, box, _ in work], share, builder, counted):
            yield from zip(mine, looks(partial(read, mine), len(mine), ask, fill=fill, readers=readers), strict=True)

    with writing_maps(maps, len(scored)) as write:
        for number, (crop, said) in looked():
            (scene, box, inside), tile = work[number], tiles[number]
            if said is not None:
                logits = said[:, *tile.inner].float()
                # The arg-max by `max`, which is seven times faster on a CPU.
                predicted = (logits[0] > 0) if len(logits) == 1 else logits.max(dim=0).indices
                seen = crop.valid[tile.inner] & inside
                labels = np.where(seen, crop.labels[tile.inner], IGNORE).astype(np.uint8)
                counted.append(number)
                builder.add_window(
                    scene.id,
                    box.row,
                    box.column,
                    odds(logits[None])[0].cpu().numpy(),
                    labels,
                    boundary_pixels(settings.boundary_metres, scene.metres_per_pixel),
                    predicted=predicted.cpu().numpy().astype(np.uint8),
                )
                if maps is not None:
                    levels = quantise(probabilities(logits[None])[0].cpu().numpy())
                    levels[:, ~seen] = NODATA
                    write(scene, box, levels)
            if progress:
                progress(number + 1, len(work))
    scores = builder.build(in_order(share, counted, builder.parts()))
    return replace(scores, places=place_tiles(collection.scenes, scores.tiles, settings.tile))


def rounds(
    areas: Sequence[int], share: Share, builder: ScoresBuilder, counted: Sequence[int]
) -> Iterator[Sequence[int]]:
    """The windows that this process scores.

    Several processes first hold back, between them, the very windows from which one would choose its levels, and choose from
    all of these.

    Args:
        areas: of all windows, pixels.
        share: of this process.
        builder: to which windows are added.
        counted: the windows that were added to it; one without imagery is not.
    """
    if share.ranks == 1:
        yield range(len(areas))
        return
    first, held = 0, 0
    while first < len(areas) and held < HELD_BACK:
        enough = int(np.searchsorted(np.cumsum(areas[first:]), HELD_BACK - held)) + 1
        last = min(first + enough, len(areas))
        yield range(first + (share.rank - first) % share.ranks, last, share.ranks)
        first, held = last, sum(share.gather(builder.waiting_pixels))
    if held:
        builder.choose_levels(in_order(share, counted, builder.waiting))
    yield range(first + (share.rank - first) % share.ranks, len(areas), share.ranks)


def in_order(share: Share, numbers: Sequence[int], items: Sequence[Item]) -> list[Item]:
    """The items of all processes by their windows' numbers."""
    found = [pair for pairs in share.gather(list(zip(numbers, items, strict=True))) for pair in pairs]
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def windows(
    collection: Collection, split: SplitName, size: int, buffer: int = 0
) -> Iterator[tuple[Scene, Box, NDArray[np.bool_]]]:
    """The windows that hold pixels of a part: scene, rectangle, and which of its pixels (height, width) belong to the part.

    Origins are multiples of `size`, so that neighbouring windows meet without overlap and tiles lie inside windows.
    """
    by_scene: dict[str, list[Box]] = {}
    for region in collection.regions(split, buffer):
        by_scene.setdefault(region.scene.id, []).append(region.box)
    for scene in collection.scenes:
        boxes = by_scene.get(scene.id, [])
        for row in range(0, scene.height, size):
            for column in range(0, scene.width, size):
                window = Box(row, column, size, size).intersection(scene.box)
                parts = [part for box in boxes if window and (part := window.intersection(box))]
                if window is None or not parts:
                    continue
                inside = np.zeros((window.height, window.width), dtype=bool)
                for part in parts:
                    inside[part.within(window)] = True
                yield scene, window, inside


@contextmanager
def writing_maps(folder: Path | None, bands: int) -> Iterator[Callable[[Scene, Box, NDArray[np.uint8]], None]]:
    """Give what writes a window of levels, (bands, height, width), into the map of its scene; scenes come one after another."""
    with ExitStack() as stack:
        open_map: tuple[Scene, RasterWriter] | None = None

        def write(scene: Scene, box: Box, levels: NDArray[np.uint8]) -> None:
            nonlocal open_map
            assert folder is not None
            if open_map is None or open_map[0] is not scene:
                stack.close()  # finishes the map of the scene before
                open_map = scene, stack.enter_context(writing_map(folder / f"{scene.id}.tif", scene, bands))
            open_map[1].write(levels, box.row, box.column)

        yield write


def writing_map(path: Path, scene: Scene, bands: int) -> AbstractContextManager[RasterWriter]:
    """Write a scene's probabilities as a tiled GeoTIFF with overviews that appears under its name when it is whole."""
    return writing_raster(
        path,
        add_overviews,
        width=scene.width,
        height=scene.height,
        count=bands,
        dtype="uint8",
        nodata=NODATA,
        crs=scene.crs,
        transform=scene.transform,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
        predictor=2,  # differences of neighbours: half the size
        sparse_ok=True,
    )
