"""Several processes that are given one command: share of ideal of two against one, and seconds from submitting to the first part.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py [--rounds 3] [--pixels 16] [--save]    # about three minutes on two idle cores

- *predict*: the example's student maps one raster, in parts of half a megapixel. Processes are ready (torch imported, one tile looked at)
  before the clock starts; it stops when all parts are finished. Putting the maps together, which one process does, is left out.
- *sweep*: trials a minute by one worker and by two are in `benchmarks/sweep.py`.
- *From submitting to the first part*: `kdcore predict --launch slurm` on a Slurm of two idle nodes on this machine; and the maps' bytes.

One process and two take turns, each with one thread. Share of ideal is what two reach, divided by twice what one reaches, by the clock: it
needs two cores that nobody else uses. Two further shares hold on a busy machine: *beside two that share nothing* compares two processes
on one raster with two at the same time on half a raster each, and *by processor time* the pixels for each second of it, two against
one. Limit: 0.8.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import rasterio
from measuring import ROOT, parser, publish, table

EXAMPLE = ROOT / "kdcore/example"
STUDENT = EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors"
IMAGERY = EXAMPLE / "layers/outskirts/imagery.tif"
LIMIT = 0.8
LOOK = 0.005  # seconds


def raster_of(folder: Path, megapixels: float) -> Path:
    """The example's imagery again and again, side by side and one below another."""
    with rasterio.open(IMAGERY) as dataset:
        values, profile = dataset.read(), dataset.profile
    below = max(1, round(megapixels * 1e6 / (2 * values.shape[1] * values.shape[2])))
    values = np.tile(values, (1, below, 2))
    for name in ("photometric", "compress", "interleave"):
        profile.pop(name, None)
    profile |= {"driver": "GTiff", "height": values.shape[1], "width": values.shape[2], "tiled": True}
    folder.mkdir(exist_ok=True)
    with rasterio.open(folder / "raster.tif", "w", **profile) as dataset:
        dataset.write(values)
    return folder / "raster.tif"


def child(raster: Path, out: Path, number: str, begins: bool) -> None:
    """One process: ready, then parts until all are finished; prints its processor time."""
    import torch

    from kdcore.inference import parts
    from kdcore.inference.engines import open_engine
    from kdcore.inference.mapping import MappingOptions
    from kdcore.inference.prediction import PolygonOptions, Prediction, begin
    from kdcore.inference.source import open_source

    torch.set_num_threads(1)
    parts.PART_PIXELS = 500_000
    engine = open_engine(STUDENT, device="cpu")
    engine(np.zeros((1, engine.info.bands, 512, 512), np.float32))
    source = open_source(raster, engine.info)
    plan = parts.plan_prediction(raster, source, [STUDENT], engine, MappingOptions(), PolygonOptions(format="none"))
    prediction = Prediction(out, "raster")
    if begins:
        begin(prediction, plan)
    (out.parent / f"ready-{number}").touch()
    while not (out.parent / "go").exists():
        time.sleep(LOOK)
    before = time.process_time()
    parts.make_parts(prediction, plan, source, engine)
    print(time.process_time() - before)


def mapped(rasters: list[Path], shared: bool = True) -> tuple[float, float]:
    """Seconds until a process for each raster has made all parts, by the clock and of their processors.

    Args:
        rasters: one for each process.
        shared: they work on one prediction, of the same raster.
    """
    processes = len(rasters)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = []
        for number, raster in enumerate(rasters):
            out = folder / ("out" if shared else f"out{number}")
            out.mkdir(exist_ok=True)
            command = [sys.executable, __file__, "--child", raster, out, number, int(number == 0 or not shared)]
            started.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True))
        while len(list(folder.glob("ready-*"))) < processes:
            time.sleep(LOOK)
        begun = time.perf_counter()
        (folder / "go").touch()
        said = [process.communicate()[0] for process in started]
        return time.perf_counter() - begun, sum(map(float, said))


def predict_shares(raster: Path, half: Path, rounds: int) -> dict[str, list[float]]:
    """Of each round: the three shares of ideal, and megapixels a second of one process."""
    found: dict[str, list[float]] = {"clock": [], "apart": [], "processor": [], "speed": []}
    with rasterio.open(raster) as dataset:
        megapixels = dataset.width * dataset.height / 1e6
    for number in range(rounds):
        kinds = {"one": ([raster], True), "two": ([raster] * 2, True), "apart": ([half] * 2, False)}
        order = list(kinds) if number % 2 == 0 else list(kinds)[::-1]
        seconds = {kind: mapped(*kinds[kind]) for kind in order}
        found["clock"].append(seconds["one"][0] / (2 * seconds["two"][0]))
        found["apart"].append(seconds["apart"][0] / seconds["two"][0])
        found["processor"].append(seconds["one"][1] / seconds["two"][1])
        found["speed"].append(megapixels / seconds["one"][0])
    return found


def until_first_part(folder: Path, raster: Path) -> tuple[float, float, float, float]:
    """Seconds from submitting until the first process runs, and until its first part is there; bytes a pixel of both maps."""
    from kdcore.inference.prediction import Prediction

    sys.path.insert(0, str(ROOT))
    from tests.cluster.conftest import running_slurm
    from tests.jobs.studies import wait_for

    with running_slurm(folder / "slurm") as cluster:
        begun = time.perf_counter()
        command = ("predict", STUDENT, raster, "--out", folder / "maps", "--launch", "slurm", "--polygons", "none")
        submitted = cluster.kdcore(*command, cwd=folder)
        prediction = Prediction(folder / "maps", "raster")
        wait_for(lambda: any(state == "RUNNING" for _, state, _, _ in cluster.queue()))
        runs = time.perf_counter() - begun
        wait_for(lambda: prediction.finished_parts() or prediction.manifest.exists(), 300)
        part = time.perf_counter() - begun
        submitted.communicate()
        wait_for(lambda: not cluster.queue(), 300)
    with rasterio.open(raster) as dataset:
        pixels = dataset.width * dataset.height
    maps = [(folder / f"maps/raster.{kind}.tif").stat().st_size / pixels for kind in ("probabilities", "classes")]
    return runs, part, *maps


def main() -> None:
    """Measure and show."""
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5] == "1")
        return
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--pixels", type=float, default=16, help="megapixels of the raster")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raster, half = raster_of(folder, chosen.pixels), raster_of(folder / "half", chosen.pixels / 2)
        mapping = predict_shares(raster, half, chosen.rounds)
        print(mapping, flush=True)
        runs, part, probabilities, classes = until_first_part(folder, raster_of(folder / "few", 3))
    rows = [
        row("predict, by the clock", mapping["clock"]),
        row("predict, beside two that share nothing", mapping["apart"]),
        row("predict, by processor time", mapping["processor"]),
    ]
    body = table(["two processes against one", "share of ideal", "rounds", "limit 0.8"], rows)
    body += (
        f"\n\nOne process mapped {median(mapping['speed']):.2f} MPx/s. From submitting to a running process {runs:.1f} s, to the first "
        f"part {part:.1f} s, of which most is Python and torch (a Slurm of two idle nodes on this machine).\n\n"
        f"The maps took {probabilities:.2f} bytes a pixel (probabilities of the five classes) and {classes:.2f} (classes), overviews included.\n\n"
        "Two workers of a sweep against one: [sweep](sweep.md)."
    )
    publish("cluster", "Several processes that are given one command", body, chosen.save)


def row(name: str, shares: list[float]) -> list[str]:
    """A line of the table."""
    kept = "kept" if median(shares) >= LIMIT else "missed"
    return [name, f"{median(shares):.2f}", ", ".join(f"{share:.2f}" for share in shares), kept]


if __name__ == "__main__":
    main()
