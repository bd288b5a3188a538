"""How large are the presets' networks?

    python benchmarks/networks.py [--save]        # seconds: nothing is computed, only counted

Parameters, multiply-adds for one pixel of imagery, and megabytes of weights, with three bands and five classes.
Built on torch's 'meta' device: shapes without numbers.
"""

import torch
from measuring import parser, publish, table
from torch.utils.flop_counter import FlopCounterMode

from kdcore.models.networks import SegmentationNetwork, count_parameters
from kdcore.settings import PRESETS

SIDE = 512


def main() -> None:
    chosen = parser(__doc__).parse_args()
    rows = []
    for name, settings in PRESETS.items():
        with torch.device("meta"):
            network = SegmentationNetwork(settings, bands=3, logits=5).eval()
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(torch.empty(1, 3, SIDE, SIDE))
        parameters = count_parameters(network)
        macs = counter.get_total_flops() / 2
        rows.append(
            (name, f"{parameters:,}", f"{4 * parameters / 1e6:.1f}", f"{macs / 1e9:.2f}", f"{macs / SIDE**2 / 1e3:.1f}")
        )
    header = ("preset", "parameters", "MB (float32)", f"GMAC of a {SIDE}-px window", "thousand MAC a pixel")
    publish("networks", "Size of the networks", table(header, rows), chosen.save)


if __name__ == "__main__":
    main()
