"""How large are the presets' networks, and how fast?

    python benchmarks/networks.py [--save]                                          # seconds: nothing is computed, only counted
    OMP_NUM_THREADS=1 python benchmarks/networks.py --speed [--rounds 7] [--save]   # about four minutes on one core

Parameters, multiply-adds for one pixel of imagery, and megabytes of weights, with three bands and five classes.
Built on torch's 'meta' device: shapes without numbers.

With `--speed` the presets that run on one core and candidates beside them map a window in torch and in OpenVINO (float32), in turn, from random
weights: a network's speed does not depend on them. Ratios are to `tiny` in the same engine; they hold where absolute numbers do not,
because every network has its turn in every round.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measuring import in_turn, in_words, parser, publish, ratio, table
from torch.utils.flop_counter import FlopCounterMode

from kdcore.deploy.export import export_onnx
from kdcore.inference.engines import open_engine
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import SegmentationNetwork, build_network, count_parameters
from kdcore.settings import PRESETS, NetworkSettings

SIDE = 512
CLASSES = ("land", "water", "building", "vegetation", "road")
USUAL = "tiny"
CANDIDATES = {
    **{name: PRESETS[name] for name in ("light", "lraspp", "small", "tiny")},
    "tiny, stride 2": PRESETS["tiny"].model_copy(update={"decoder_channels": (64, 32), "stride": 2}),
    "small, stride 2": PRESETS["small"].model_copy(update={"decoder_channels": (96, 64, 32), "stride": 2}),
    "small, stride 4": PRESETS["small"].model_copy(update={"decoder_channels": (96, 64), "stride": 4}),
    "unet/tf_efficientnet_lite0, stride 4": NetworkSettings(
        encoder="tu-tf_efficientnet_lite0", decoder_channels=(96, 64, 48), stride=4
    ),
    "fpn/regnetx_002": NetworkSettings(architecture="fpn", encoder="tu-regnetx_002"),
    "fpn/mobilenetv4_conv_small_050": NetworkSettings(architecture="fpn", encoder="tu-mobilenetv4_conv_small_050"),
    "linknet/mobilenetv3_small_100": NetworkSettings(architecture="linknet", encoder="tu-mobilenetv3_small_100"),
}


def size_of(settings: NetworkSettings) -> tuple[int, float]:
    """Parameters, and multiply-adds of a window."""
    with torch.device("meta"):
        network = SegmentationNetwork(settings, bands=3, logits=len(CLASSES)).eval()
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


def mapping(name: str, settings: NetworkSettings, folder: Path) -> dict[tuple[str, str], Callable[[], object]]:
    """What maps a window with a network, by its name and the engine's."""
    network = build_network(settings, 3, len(CLASSES), [100.0] * 3, [40.0] * 3, seed=0).eval()
    file = folder / f"{len(list(folder.iterdir()))}.safetensors"
    save_network(file, network, CheckpointInfo(network=settings, bands=3, classes=CLASSES))
    export_onnx(file, file.with_suffix(".onnx"), tile=SIDE)
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, SIDE, SIDE)).astype(np.float32)
    engines = {
        "torch": open_engine(file, "torch", "cpu", threads=1),
        "openvino": open_engine(file.with_suffix(".onnx"), "openvino", "cpu", threads=1),
    }
    return {(name, engine): lambda opened=opened: opened(image) for engine, opened in engines.items()}


def speeds(rounds: int) -> str:
    """Speed of every candidate in both engines as a table."""
    jobs: dict[tuple[str, str], Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in CANDIDATES.items():
            jobs |= mapping(name, settings, Path(folder))
        times = in_turn(jobs, rounds, warm_up=1)
    rows = []
    for name, settings in CANDIDATES.items():
        parameters, macs = size_of(settings)
        cells = []
        for engine in ("torch", "openvino"):
            wall, usual = times[name, engine].wall, times[USUAL, engine].wall
            cells += [f"{SIDE**2 / 1e6 / median(wall):.2f}", in_words(ratio(usual, wall))]
        rows.append((name, f"{parameters:,}", f"{macs / SIDE**2 / 1e3:.1f}", *cells))
    header = (
        "network",
        "parameters",
        "thousand MAC a pixel",
        "torch, MPx/s",
        f"x {USUAL}",
        "OpenVINO, MPx/s",
        f"x {USUAL}",
    )
    return table(header, rows)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--speed", action="store_true")
    arguments.add_argument("--rounds", type=int, default=7)
    chosen = arguments.parse_args()
    if not chosen.speed:
        publish("networks", "Size of the networks", sizes(), chosen.save)
        return
    torch.set_num_threads(1)
    body = f"{speeds(chosen.rounds)}\n\nWindows of {SIDE} px, one thread, by the clock; medians of {chosen.rounds} rounds, ratios with their 95 % interval."
    publish("network_speed", "Speed of the networks", body, chosen.save)


if __name__ == "__main__":
    main()
