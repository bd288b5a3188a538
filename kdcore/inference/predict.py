"""From a network and a raster of any size to a map of probabilities, window by window."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdcore.data.batches import read_ahead
from kdcore.data.scene import Box, Scene, SceneReader
from kdcore.evaluation.scores import NODATA, quantise
from kdcore.inference.evaluate import inside_of, look, read_window, writing_map
from kdcore.models.networks import probabilities


@torch.no_grad()
def predict_scene(
    network: nn.Module,
    reader: SceneReader,
    scene: Scene,
    out: Path,
    *,
    maps: int,
    fill: NDArray[np.floating[Any]],
    window: int = 512,
    halo: int = 32,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a scene's probabilities as a GeoTIFF of uint8 0..254, nodata 255 where the scene has no data.

    Args:
        network: imagery (1, bands, H, W) -> logits (1, K, H, W); it is put into evaluation mode.
        reader: reads windows of the scene.
        scene: of any size; its pixels are those that the network sees.
        out: the file.
        maps: K.
        fill: (bands,) values put where the imagery has no data, in its units.
        window: side of what is written at once, pixels, a multiple of 32.
        halo: imagery seen around it, whose predictions are cut away, pixels, a multiple of 32.
        device: where the network is.
        progress: is told windows done and windows in all; raise in it to stop.

    Raises:
        KdcoreError: the disk is full, or the raster is broken.
    """
    network.eval()
    boxes = [
        part
        for row in range(0, scene.height, window)
        for column in range(0, scene.width, window)
        if (part := Box(row, column, window, window).intersection(scene.box))
    ]

    reads = read_ahead(lambda index: read_window(reader, scene, boxes[index], halo), range(len(boxes)), 2)
    with writing_map(out, scene, maps) as file:
        for done, (box, (around, crop)) in enumerate(zip(boxes, reads, strict=True)):
            rows, columns = inside_of(around, box)
            if crop.valid[rows, columns].any():
                logits = look(network, crop, fill, device)[:, rows, columns]
                levels = quantise(probabilities(logits[None])[0].cpu().numpy())
                levels[:, ~crop.valid[rows, columns]] = NODATA
                file.write(levels, box.row, box.column)
            progress(done + 1, len(boxes))
