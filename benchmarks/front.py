"""How good is a student for how fast it is? Networks of many shapes, alone and distilled, against their speed in two engines.

    OMP_NUM_THREADS=1 python benchmarks/front.py --out evidence/front [--seeds 0 1] [--save]

Trains the teacher of `benchmarks/evidence/front.yaml`, then every network of STUDENTS as its student, with the same crops, steps and
labels; the same command goes on where it was stopped, and several processes share the trainings. Then all of them and the teacher
map a window in torch and in OpenVINO, in turn. On the front are the networks that no other one beats in both quality and speed.
`--table` takes what has finished by then.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from evidence import ALONE, Experiment, report
from measuring import ROOT, in_turn, in_words, parser, publish, ratio, table
from networks import SIDE, size_of

from kdcore.deploy.export import export_onnx
from kdcore.errors import KdcoreError
from kdcore.inference.engines import open_engine
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network, without_weights
from kdcore.settings import PRESETS, NetworkSettings

ENGINES = ("torch", "openvino")
ARMS = (ALONE, "classic")
USUAL, TEACHER = "tiny", "teacher"
CLASSES = ("land", "building")
STUDENTS = {  # in the order in which they are trained
    "tiny": PRESETS["tiny"],
    "fast": PRESETS["fast"],
    "lite": PRESETS["lite"],
    "small, stride 4": PRESETS["small"].model_copy(update={"decoder_channels": (96, 64), "stride": 4}),
    "tiny, stride 2": PRESETS["tiny"].model_copy(update={"decoder_channels": (64, 32), "stride": 2}),
    "lite, random weights": without_weights(PRESETS["lite"]),
    "small, stride 2": PRESETS["small"].model_copy(update={"decoder_channels": (96, 64, 32), "stride": 2}),
    "lraspp": PRESETS["lraspp"],
    "fpn/mobilenetv4_conv_small_050": NetworkSettings(architecture="fpn", encoder="tu-mobilenetv4_conv_small_050"),
    "small": PRESETS["small"],
    "fpn/regnetx_002": NetworkSettings(architecture="fpn", encoder="tu-regnetx_002"),
    "linknet/mobilenetv3_small_100": NetworkSettings(architecture="linknet", encoder="tu-mobilenetv3_small_100"),
}


def mapping(name: str, network: NetworkSettings, folder: Path) -> dict[tuple[str, str], Callable[[], object]]:
    """What maps a window with a network, by its name and the engine's."""
    built = build_network(network, 3, 1, [100.0] * 3, [40.0] * 3, seed=0).eval()
    file = folder / f"{len(list(folder.iterdir()))}.safetensors"
    save_network(file, built, CheckpointInfo(network=network, bands=3, band_numbers=(1, 2, 3), classes=CLASSES))
    export_onnx(file, file.with_suffix(".onnx"), tile=SIDE)
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, SIDE, SIDE)).astype(np.float32)
    engines = {
        "torch": open_engine(file, "torch", "cpu", threads=1),
        "openvino": open_engine(file.with_suffix(".onnx"), "openvino", "cpu", threads=1),
    }
    return {(name, engine): lambda opened=opened: opened(image) for engine, opened in engines.items()}


def experiments(out: Path, seeds: tuple[int, ...]) -> dict[str, Experiment]:
    """One for each network; teacher and soft labels are the same for all."""
    found = {}
    for name, network in STUDENTS.items():
        one = Experiment(ROOT / "benchmarks/evidence/front.yaml", out, seeds=seeds)
        one.settings = one.settings.model_copy(update={"student": network})
        one.students = one.out / name.replace("/", "-").replace(", ", "-").replace(" ", "-")
        found[name] = one
    return found


def quality(one: Experiment, arm: str) -> list[float]:
    """Mean AP on the test part of the seeds that have finished, in percent."""
    return [100 * RunDirectory(one.folder(arm, seed)).read_report()["test"]["mean_ap"] for seed in one.finished(arm)]


def on_front(name: str, points: dict[str, tuple[float, float]]) -> bool:
    """Whether no other network is at least as good and as fast, and better in one of both."""
    own = points[name]
    return not any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in points.values())


def page(trained: dict[str, Experiment], rounds: int) -> str:
    """The table of what has finished."""
    first = next(iter(trained.values()))
    _, folder = first.teacher(report)
    qualities = {name: {arm: quality(one, arm) for arm in ARMS} for name, one in trained.items()}
    qualities = {name: found for name, found in qualities.items() if all(found.values())}
    networks = {TEACHER: first.settings.teacher.network, **{name: STUDENTS[name] for name in qualities}}
    jobs = {}
    with tempfile.TemporaryDirectory() as place:
        for name, network in networks.items():
            jobs |= mapping(name, network, Path(place))
        times = in_turn(jobs, rounds, warm_up=1)
    speed = {key: SIDE**2 / 1e6 / median(found.wall) for key, found in times.items()}
    best = {name: max(mean(found[arm]) for arm in ARMS) for name, found in qualities.items()}
    points = {engine: {name: (best[name], speed[name, engine]) for name in qualities} for engine in ENGINES}
    rows = []
    for name, network in networks.items():
        parameters, operations = size_of(network)
        if name == TEACHER:
            shown = [f"{100 * RunDirectory(folder).read_report()['test']['mean_ap']:.1f}", "", "", ""]
        else:
            alone, distilled = (qualities[name][arm] for arm in ARMS)
            front = [engine for engine in ENGINES if on_front(name, points[engine])]
            shown = ["", *(spread(found) for found in (alone, distilled)), ", ".join(front)]
        cells = []
        for engine in ENGINES:
            usual, wall = times[USUAL, engine].wall, times[name, engine].wall
            cells += [
                f"{speed[name, engine]:.2f}",
                in_words(ratio(usual, wall)),
                f"{median(times[TEACHER, engine].wall) / median(wall):.1f}",
            ]
        rows.append((name, f"{parameters:,}", f"{operations / SIDE**2 / 1e3:.1f}", *shown, *cells))
    header = ["network", "parameters", "thousand MAC a pixel", "AP", "AP alone", "AP distilled", "on the front of"]
    for engine in ("torch", "OpenVINO"):
        header += [f"{engine}, MPx/s", f"x {USUAL}", f"x {TEACHER}"]
    seeds = sorted({len(found) for one in qualities.values() for found in one.values()})
    return "\n\n".join(
        [
            table(header, rows),
            f"Banepa, all labels for everyone; {' to '.join(map(str, seeds))} seed(s), in brackets their lowest and highest AP. "
            f"{first.settings.budget.steps} steps of {first.settings.budget.batch_size} crops of {first.settings.budget.crop} px; the teacher's "
            f"answers are averaged over eight views. Windows of {SIDE} px, one thread, by the clock, random weights; medians of {rounds} rounds, ratios with "
            "their 95 % interval. The front takes the better of both arms.",
        ]
    )


def spread(values: list[float]) -> str:
    """A mean with what it was made of."""
    return f"{mean(values):.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else "")


def main() -> None:
    """Train what is missing, then measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--seeds", type=int, nargs="*", default=())
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--table", action="store_true", help="of what has finished, without training")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    try:
        trained = experiments(given.out, tuple(given.seeds))
        for one in () if given.table else trained.values():
            one.work(ARMS)
        body = page(trained, given.rounds)
    except KdcoreError as error:
        sys.exit(str(error))
    publish("front", "Quality against speed", body, given.save)


if __name__ == "__main__":
    main()
