"""How much memory a network needs at least, known before any is asked for."""

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from kdcore.errors import SettingsError
from kdcore.jobs.quota import free_memory
from kdcore.models.networks import SegmentationNetwork
from kdcore.settings import NetworkSettings

FLOAT = 4  # bytes
LOOKED_AT = 256  # pixels of the side that is looked at: the rest grows with the area


@lru_cache(maxsize=16)  # a study asks for each network twice
def numbers_a_pixel(settings: NetworkSettings, bands: int, logits: int) -> tuple[float, float]:
    """Numbers that a network's convolutions make for each pixel of an image: all together, and the most of one.

    Nothing is computed: the network is made without memory ('meta').

    Raises:
        SettingsError: names that are not known.
    """
    made: list[int] = []

    def note(module: nn.Module, taken: Any, given: Any) -> None:
        made.append(int(given.numel()))

    try:
        with torch.device("meta"), torch.no_grad():
            network = SegmentationNetwork(settings, bands, logits).eval()
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    module.register_forward_hook(note)
            network(torch.empty(1, bands, LOOKED_AT, LOOKED_AT))
    except (RuntimeError, NotImplementedError):  # a few architectures look at numbers
        return float(bands), float(bands)
    area = LOOKED_AT**2
    return sum(made) / area, max(made, default=0) / area


def check_room(
    settings: NetworkSettings, bands: int, logits: int, pixels: int, training: bool, what: str, free: int | None = None
) -> None:
    """Refuse what certainly does not fit into the memory that is free here.

    A training keeps what every convolution gives; otherwise the largest of these and what it is made from are there at once.

    Args:
        settings: the network.
        bands: of the image.
        logits: maps that it gives.
        pixels: that it sees at once.
        training: whether gradients are needed.
        what: the setting, for the message.
        free: bytes of the memory that is used; that of this machine if not given.

    Raises:
        SettingsError: says how much it would be.
    """
    every, largest = numbers_a_pixel(settings, bands, logits)
    needed = FLOAT * pixels * (bands + (every if training else largest))
    free = free_memory() if free is None else free
    if needed > free:
        raise SettingsError(
            f"{what}: {settings.architecture}/{settings.encoder} would need at least {needed / 1e9:,.0f} GB of memory for {pixels / 1e6:,.0f} "
            f"million pixels at once, and {free / 1e9:,.0f} GB are free. Choose a smaller number, or a smaller network."
        )
