"""How fast a network maps imagery on this device."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch
from torch import nn

PATIENCE = 1.5  # seconds, at most, that a measurement goes on once it has been done three times
MOST_REPEATS = 20


@torch.no_grad()
def megapixels_per_second(
    network: nn.Module,
    bands: int,
    window: int,
    device: torch.device,
    autocast: Callable[[], Any] = nullcontext,
) -> float:
    """Median over several forward passes of one window, after one that warms up.

    Reading and writing are left out: they are the same for every network.

    Args:
        network: takes (1, bands, window, window) float32; it is in evaluation mode afterwards.
        bands: of the imagery.
        window: side in pixels of what the network sees at once.
        device: where the network is.
        autocast: context of the forward pass, for mixed precision.
    """
    network.eval()
    image = torch.zeros(1, bands, window, window, device=device)
    times: list[float] = []
    while len(times) < 4 or (sum(times[1:]) < PATIENCE and len(times) <= MOST_REPEATS):
        started = time.perf_counter()
        with autocast():
            network(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return window**2 / 1e6 / median(times[1:])
