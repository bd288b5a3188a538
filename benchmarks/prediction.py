"""Mapping a raster: how fast, how large, and how right, beside the bare network and other libraries.

    OMP_NUM_THREADS=1 python benchmarks/prediction.py ../shared/data tiny right [--peers PEERS/bin/python] [--save]
    OMP_NUM_THREADS=1 python benchmarks/prediction.py ../shared/data tiny speed --copies 1 2 [--peers ...] [--save]

and the same for `medium`. Each takes about five minutes on two cores, and `--networks FOLDER` keeps the networks, which are trained first (three minutes). A
network, U-Net with the encoder of the preset, learns buildings on the Banepa orthophoto for a few hundred steps; then each
way of mapping has a process of its own, one after the other, round after round.

The other libraries are asked for with `--peers`, the Python of an environment that has them beside what this project has:

    python -m venv PEERS && PEERS/bin/pip install torchgeo geoai-py
    PEERS/bin/pip install -e .        # or put the path of this project's site-packages into a .pth file of PEERS

A library that cannot be imported there is left out, by name. What the environment variable BEFORE holds is put before each process'
command, for example `taskset -c 1`.

Speed: the orthophoto, repeated, in tiles without loss, 8 bits; as it comes, in JPEG with YCbCr colours, geoai 0.40 stops with an error
when it writes. *ours* is what `kdcore predict` does, maps as
Cloud-Optimized GeoTIFFs included; *mapping* is the same without that last step. *bare* is the engine on the same tiles, reading and
writing left out. Tiles are 512 px with 64 px overlap in all but *geoai-default*, which has geoai's own 256 and 64.

Correctness, on pieces of the orthophoto without loss: labels that differ from one pass over the whole piece; labels given to nodata
and taken from valid pixels where a piece has a hole of nodata; labels that differ where the same piece and network are scaled to
16 bits; how many pixels the network looks at for each pixel of the raster, and how many tiles it looks at twice.

Limit: mapping reaches 0.95 of the bare network's speed.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rasterio
import yaml
from measuring import RESULTS, parser, publish, table
from rasterio.windows import Window

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.files import write_json, write_text
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import CheckpointInfo, load_network, save_network
from kdcore.models.networks import build_network
from kdcore.settings import PRESETS, Budget, Hardware, Recipe, RunSettings
from kdcore.training.fabric import make_fabric
from kdcore.training.loop import train

LIMIT = 0.95
STEPS = {"tiny": 300, "small": 200, "medium": 60}
PEERS = {"torchgeo": "torchgeo", "geoai": "geoai", "geoai-default": "geoai"}
HERE = Path(__file__).parent
BEFORE = shlex.split(os.environ.get("BEFORE", ""))
PIECE = Window(0, 0, 1500, 2000)
SMALL = Window(512, 512, 700, 1000)
HOLE = (slice(300, 600), slice(200, 500))  # and the piece's left border


def make_network(preset: str, data: Path, folder: Path) -> Path:
    """Train a network on the orthophoto at its own resolution; keep it under its preset's name."""
    path = folder / f"{preset}.safetensors"
    if path.exists():
        return path
    settings = yaml.safe_load((HERE / "collections/banepa.yaml").read_text())
    settings |= {"root": str((data / "banepa-buildings").resolve())}
    del settings["metres_per_pixel"]
    write_text(folder / "collection.yaml", yaml.safe_dump(settings))
    collection = Collection.open(folder / "collection.yaml")
    budget = Budget(steps=STEPS[preset], crop=256, batch_size=4, validate_every=10**6, save_every=10**6)
    found = survey(collection, budget.crop)
    classes = collection.settings.class_names
    info = CheckpointInfo(network=PRESETS[preset], bands=3, band_numbers=(1, 2, 3), classes=classes)
    network = build_network(info.network, 3, info.logits, found.mean.tolist(), found.std.tolist(), seed=0)
    run = RunSettings(
        arm="alone", seed=0, collection=folder / "collection.yaml", network=info.network, recipe=Recipe(alpha=0), budget=budget,
        hardware=Hardware(device="cpu"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        train(
            RunDirectory.create(Path(name) / "run", run),
            network,
            info,
            Batches(collection, found, seed=0, batch_size=budget.batch_size, crop=budget.crop),
            None,
            fabric=make_fabric("cpu", 1, "32-true"),
            validate=lambda _: 0.0,
        )
    save_network(path, network, info)
    return path


def for_16_bits(path: Path) -> Path:
    """The same network for imagery whose values are 257 times as large."""
    network, info = load_network(path)
    network.mean *= 257
    network.std *= 257
    scaled = path.with_name(f"{path.stem}-16-bits.safetensors")
    save_network(scaled, network, info.model_copy(update={"dtype": "uint16"}))
    return scaled


def orthophoto(data: Path) -> Path:
    return data / "banepa-buildings/images/banepa.tif"


def write_copies(data: Path, out: Path, down: int, across: int) -> float:
    """Repeat the orthophoto; gives megapixels."""
    with rasterio.open(orthophoto(data)) as source:
        image = source.read()
        profile = {key: source.profile[key] for key in ("driver", "dtype", "count", "crs", "transform", "tiled")}
    height, width = image.shape[1:]
    profile |= {
        "height": down * height,
        "width": across * width,
        "compress": "deflate",
        "zlevel": 1,
        "blockxsize": 512,
        "blockysize": 512,
    }
    with rasterio.open(out, "w", **profile) as dataset:
        for row in range(down):
            for column in range(across):
                dataset.write(image, window=Window(column * width, row * height, width, height))
    return down * height * across * width / 1e6


def write_piece(data: Path, out: Path, window: Window, scale: int = 1, hole: bool = False) -> np.ndarray:
    """Cut a piece out; gives where it is valid."""
    with rasterio.open(orthophoto(data)) as source:
        image = source.read(window=window)
        transform, crs = source.window_transform(window), source.crs
    valid = np.ones(image.shape[1:], dtype=bool)
    if hole:
        valid[HOLE] = False
        valid[:, :37] = False
        image = np.where(valid, np.maximum(image, 1), 0)
    image = image.astype(np.uint16) * scale if scale > 1 else image.astype(np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": image.shape[1], "width": image.shape[2], "dtype": image.dtype}
    profile |= {"crs": crs, "transform": transform, "tiled": True, "compress": "deflate", "nodata": 0 if hole else None}
    with rasterio.open(out, "w", **profile) as dataset:
        dataset.write(image)
    return valid


def run(name: str, python: str, network: Path, raster: Path, folder: Path, *options: str) -> dict[str, Any]:
    """Let one way map one raster in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as out,
        tempfile.TemporaryFile("w+") as said,
        tempfile.TemporaryFile("w+") as told,
    ):
        command = [python, str(HERE / "prediction_contenders.py"), name, str(network), str(raster), out, *options]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "GDAL_CACHEMAX": "256"}
        code = subprocess.run([*BEFORE, *command], stdout=said, stderr=told, env=environment, check=False).returncode
        said.seek(0), told.seek(0)
        if code:
            raise SystemExit(f"{name} failed:\n{told.read()[-3000:]}")
        found: dict[str, Any] = json.loads(said.read().strip().splitlines()[-1])
        if "classes" in found:
            with rasterio.open(found["classes"]) as dataset:
                found["map"], found["valid"] = dataset.read(1), dataset.dataset_mask() > 0
        print(f"{name}: {found['seconds']:.1f} s, {found['peak_mb']:.0f} MB", file=sys.stderr, flush=True)
    return found


def ways(peers: str | None) -> dict[str, str]:
    """Each way of mapping with the Python that runs it."""
    found = {"ours": sys.executable, "bare": sys.executable}
    for name, module in PEERS.items():
        if (
            peers is None
            or subprocess.run([peers, "-c", f"import {module}"], capture_output=True, check=False).returncode
        ):
            print(f"{name}: left out, {module} is not installed there", file=sys.stderr)
        else:
            found[name] = peers
    return found


def versions(peers: str | None) -> str:
    if peers is None:
        return "none installed"
    code = "from importlib.metadata import version as v; print('torchgeo', v('torchgeo') + ', geoai-py', v('geoai-py'))"
    return subprocess.run([peers, "-c", code], capture_output=True, text=True, check=False).stdout.strip() or "none"


def measure_speed(
    found: dict[str, str], network: Path, raster: Path, size: float, folder: Path, rounds: int
) -> dict[str, Any]:
    """MPx/s of each way in each round, and its largest memory."""
    speeds: dict[str, Any] = {name: {"mapping": [], "all": [], "peak_mb": [], "before_mb": []} for name in found}
    for index in range(rounds):
        for name, python in list(found.items())[:: 1 if index % 2 == 0 else -1]:
            one = run(name, python, network, raster, folder)
            speeds[name]["all"].append(size / one["seconds"])
            speeds[name]["mapping"].append(size / one.get("mapped", one["seconds"]))
            speeds[name]["peak_mb"].append(one["peak_mb"])
            speeds[name]["before_mb"].append(one["before_mb"])
    return speeds


def measure_right(found: dict[str, str], network: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Shares of labels that are wrong, in percent."""
    plain, small, holed, deep = (folder / f"{name}.tif" for name in ("plain", "small", "holed", "deep"))
    write_piece(data, plain, PIECE)
    write_piece(data, small, SMALL)
    valid = write_piece(data, holed, SMALL, hole=True)
    write_piece(data, deep, SMALL, scale=257)
    scaled = for_16_bits(network)
    truth = run("whole", sys.executable, network, plain, folder)["map"]
    small_truth = run("whole", sys.executable, network, small, folder)["map"]
    results: dict[str, Any] = {}
    for name, python in found.items():
        if name == "bare":
            continue
        one = run(name, python, network, plain, folder, "--count")
        hole = run(name, python, network, holed, folder)
        sixteen = run(name, python, scaled, deep, folder)["map"]
        results[name] = {
            "flips": 100 * float((one["map"] != truth).mean()),
            "seen": one["pixels_seen"] / truth.size,
            "twice": one["passes"] - one["distinct"],
            "nodata_labelled": 100 * float((hole["valid"] & ~valid).sum() / (~valid).sum()),
            "valid_lost": 100 * float((~hole["valid"] & valid).sum() / valid.sum()),
            "flips_16": 100 * float((sixteen != small_truth).mean()),
        }
        if name == "geoai":
            # Its own scaling expects a network that was trained with it; this one was trained on 0 to 255.
            own = rescaled(network)
            default = run(name, python, own, small, folder, "--plain-scaling")["map"]
            deep_default = run(name, python, own, deep, folder, "--plain-scaling")["map"]
            results[name]["flips_16_own_scaling"] = 100 * float((deep_default != default).mean())
    return results


def rescaled(path: Path) -> Path:
    """The same network for imagery of 0 to 1, which geoai's own scaling makes of 8 bits."""
    network, info = load_network(path)
    network.mean /= 255
    network.std /= 255
    own = path.with_name(f"{path.stem}-of-0-to-1.safetensors")
    save_network(own, network, info)
    return own


def speed_in_words(values: dict[str, Any]) -> str:
    """The table of speed and memory."""
    bare = median(values["ways"]["bare"]["all"])
    rows = []
    for name, one in values["ways"].items():
        mapping, everything = median(one["mapping"]), median(one["all"])
        peak = median(one["peak_mb"])
        beyond = peak - median(one["before_mb"])
        rows.append(
            (name, f"{mapping:.2f}", f"{everything:.2f}", f"{everything / bare:.3f}", f"{peak:.0f}", f"{beyond:.0f}")
        )
    ours, bare_rounds = values["ways"]["ours"]["mapping"], values["ways"]["bare"]["all"]
    ratios = [a / b for a, b in zip(ours, bare_rounds, strict=True)]
    reached = median(ratios)
    return (
        f"`{values['arguments']}`, {values['date']}. {values['megapixels']:.0f} megapixels, {len(ratios)} round(s), medians. Mapping "
        f"reaches **{reached:.3f}** of the bare network (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)}); limit {LIMIT}: "
        f"{'kept' if reached >= LIMIT else 'missed'}. Others: {values['peers']}.\n\n"
        + table(
            ("", "mapping, MPx/s", "maps written too, MPx/s", "of bare", "largest memory, MB", "beyond the start, MB"),
            rows,
        )
    )


def right_in_words(values: dict[str, Any]) -> str:
    """The table of what is wrong."""
    rows = []
    for name, one in values["ways"].items():
        own = f" ({one['flips_16_own_scaling']:.1f} with its own scaling)" if "flips_16_own_scaling" in one else ""
        rows.append(
            (name, f"{one['flips']:.3f}", f"{one['nodata_labelled']:.2f}", f"{one['valid_lost']:.3f}", f"{one['flips_16']:.3f}{own}",
             f"{one['seen']:.2f}", one["twice"])
        )  # fmt: skip
    header = ("", "labels that differ from one pass, %", "nodata that got a label, %", "valid pixels lost, %",
              "labels that differ with 16 bits, %", "pixels looked at per pixel", "tiles looked at twice")  # fmt: skip
    return f"`{values['arguments']}`, {values['date']}. Others: {values['peers']}.\n\n{table(header, rows)}"


def in_words(every: dict[str, Any]) -> str:
    """All that was measured so far."""
    texts = []
    for preset, steps in STEPS.items():
        if preset in every:
            texts.append(f"## {preset}: {PRESETS[preset].architecture}, {PRESETS[preset].encoder}, {steps} steps")
            texts += [words(every[preset][part]) for part, words in PARTS.items() if part in every[preset]]
    return "\n\n".join(texts)


PARTS = {"speed": speed_in_words, "right": right_in_words}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, help="folder with banepa-buildings/")
    arguments.add_argument("preset", choices=STEPS)
    arguments.add_argument("part", choices=PARTS)
    arguments.add_argument("--copies", nargs=2, type=int, default=(1, 2), help="of the orthophoto, down and across")
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--more", action="store_true", help="add the rounds to those that are saved")
    arguments.add_argument("--networks", type=Path, help="where the networks are or are to be kept")
    arguments.add_argument("--peers", help="Python of the environment with the other libraries")
    chosen = arguments.parse_args()
    file = RESULTS / "prediction.json"
    every: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    values: dict[str, Any] = {
        "arguments": " ".join(["benchmarks/prediction.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "peers": versions(chosen.peers),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = chosen.networks or folder
        kept.mkdir(parents=True, exist_ok=True)
        network = make_network(chosen.preset, chosen.data, kept)
        found = ways(chosen.peers)
        if chosen.part == "right":
            values["ways"] = measure_right(found, network, chosen.data, folder)
        else:
            size = write_copies(chosen.data, folder / "large.tif", *chosen.copies)
            values["megapixels"] = size
            values["ways"] = measure_speed(found, network, folder / "large.tif", size, folder, chosen.rounds)
    before = every.get(chosen.preset, {}).get("speed")
    if chosen.more and chosen.part == "speed" and before and before["megapixels"] == values["megapixels"]:
        for way, one in values["ways"].items():
            for what, numbers in one.items():
                numbers[:0] = before["ways"].get(way, {}).get(what, [])
    every.setdefault(chosen.preset, {})[chosen.part] = values
    if chosen.save:
        write_json(file, every)
    publish("prediction", "Mapping a raster, beside the bare network and other libraries", in_words(every), chosen.save)


if __name__ == "__main__":
    main()
