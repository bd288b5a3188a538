"""How large are the presets' networks?

    python benchmarks/networks.py [--save]      # seconds: nothing is computed, only counted

Parameters, multiply-adds for one pixel of imagery, and megabytes of weights, with three bands and five classes.
Built on torch's 'meta' device: shapes without numbers. How fast they are is in `benchmarks/front.py`.
"""

import torch
from measuring import parser, publish, table
from torch.utils.flop_counter import FlopCounterMode

from kdcore.models.networks import SegmentationNetwork, count_parameters, without_weights
from kdcore.settings import PRESETS, NetworkSettings

SIDE = 512
CLASSES = ("land", "water", "building", "vegetation", "road")


def size_of(settings: NetworkSettings) -> tuple[int, float]:
    """Parameters, and multiply-adds of a window."""
    with torch.device("meta"):
        network = SegmentationNetwork(without_weights(settings), bands=3, logits=len(CLASSES)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, SIDE, SIDE))
    return count_parameters(network), counter.get_total_flops() / 2


def sizes() -> str:
    """The presets' sizes as a table."""
    rows = []
    for name, settings in PRESETS.items():
        parameters, macs = size_of(settings)
        rows.append(
            (name, f"{parameters:,}", f"{4 * parameters / 1e6:.1f}", f"{macs / 1e9:.2f}", f"{macs / SIDE**2 / 1e3:.1f}")
        )
    header = ("preset", "parameters", "MB (float32)", f"GMAC of a {SIDE}-px window", "thousand MAC a pixel")
    return table(header, rows)


def main() -> None:
    publish("networks", "Size of the networks", sizes(), parser(__doc__).parse_args().save)


if __name__ == "__main__":
    main()
