"""What a network costs to run on this machine: its size, its operations, and its speed and memory in each engine, measured."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from kdcore.deploy.macs import count_macs, count_onnx_macs
from kdcore.deploy.power import Meter
from kdcore.deploy.record import EngineName, EngineSpeed
from kdcore.errors import CheckpointError, SettingsError
from kdcore.inference.engines import BFLOAT16, ENGINES, choose_device, processor
from kdcore.jobs.quota import free_memory, thread_count

TILE = 512  # pixels
ROUND_SECONDS = 0.4  # of one engine, before the next one has its turn
ROUNDS = 5
PROCESS_MB = 1000  # that one measuring process may need; so many fit into half of the free memory
PATIENCE = 120.0  # seconds in which an engine must open a network, or run it

Progress = Callable[[int, int], None]


class Size(NamedTuple):
    """What a network costs wherever it runs.

    Attributes:
        parameters: numbers that were learnt.
        macs_per_pixel: multiply-accumulates of convolutions and matrix products for one pixel.
        megabytes: of the file.
    """

    parameters: int
    macs_per_pixel: float
    megabytes: float


class Job(NamedTuple):
    """One file in one engine on one kind of device, 'cpu' or 'cuda'."""

    path: Path
    engine: EngineName
    device: str = "cpu"


class Measured(NamedTuple):
    """Speeds of the jobs that could be run, and a sentence for each of those that could not."""

    speeds: dict[Job, EngineSpeed]
    failed: dict[Job, str]


def network_size(path: Path) -> Size:
    """Parameters, operations and bytes of a checkpoint or an ONNX file.

    Raises:
        CheckpointError: missing, broken, or of a kind that is not known.
    """
    from kdcore.models.checkpoint import load_network
    from kdcore.models.networks import count_parameters

    if path.suffix.lower() == ".onnx":
        from kdcore.models.onnx_reading import read_info
        from kdcore.models.onnx_trial import try_out

        info = read_info(path)
        try_out(path, info)
        return Size(info.parameters, count_onnx_macs(path, info.tile or TILE), path.stat().st_size / 1e6)
    network, facts = load_network(path)
    return Size(count_parameters(network), count_macs(network, facts.bands), path.stat().st_size / 1e6)


def engines_for(path: Path, chosen: Sequence[EngineName] = ENGINES) -> list[EngineName]:
    """The engines among those chosen that can run a file and are installed.

    Raises:
        SettingsError: there is none.
    """
    onnx = path.suffix.lower() == ".onnx"
    fitting: tuple[EngineName, ...] = ("onnxruntime", "openvino", BFLOAT16) if onnx else ("torch",)
    found = [name for name in fitting if name in chosen and importlib.util.find_spec(name.partition("-")[0])]
    if not found:
        raise SettingsError(
            f"{path}: is run by {', '.join(fitting)}, but {', '.join(chosen)} was asked for. Choose another --engine."
        )
    return found


def jobs_for(path: Path, chosen: Sequence[EngineName] = ENGINES) -> list[Job]:
    """Every way to run a file here: each engine of those chosen on the processor, and torch and ONNX Runtime on a GPU where there is one."""
    engines = engines_for(path, chosen)
    jobs = [Job(path, engine) for engine in engines]
    if choose_device("auto").type == "cuda":
        jobs += [Job(path, engine, "cuda") for engine in engines if not engine.startswith("openvino")]
    return jobs


def measure(
    jobs: Sequence[Job],
    *,
    tile: int = TILE,
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Measured:
    """Measure jobs in turn, each in a process of its own, several rounds, so that a disturbance hits them all.

    As many processes as fit into half of the free memory live at once; the jobs of one group are compared best.

    Args:
        jobs: what to run.
        tile: side of the tiles in pixels, for networks that take any.
        threads: of the processor; default: as predictions use.
        progress: is told rounds done and rounds in all; raise in it to stop.

    Returns:
        Medians for one tile, after a warm-up.
    """
    together = max(1, min(len(jobs), int(free_memory() / 1e6 / 2 / PROCESS_MB)))
    groups = [jobs[start : start + together] for start in range(0, len(jobs), together)]
    result = Measured({}, {})
    for index, group in enumerate(groups):

        def tell(done: int, _: int, before: int = index * ROUNDS) -> None:
            progress(before + done, len(groups) * ROUNDS)

        speeds, failed = measure_group(group, tile, threads or thread_count(), tell)
        result.speeds.update(speeds)
        result.failed.update(failed)
    return result


def measure_group(jobs: Sequence[Job], tile: int, threads: int, progress: Progress) -> Measured:
    """Measure jobs whose processes live at the same time; only one of them computes at a time."""
    result = Measured({}, {})
    progress(0, ROUNDS)
    with ExitStack() as stack:
        runners: dict[Job, Runner] = {}
        for job in jobs:  # one after another: imports and warm-ups would disturb each other, too
            try:
                runners[job] = stack.enter_context(running(job, tile, threads))
            except CheckpointError as error:
                result.failed[job] = str(error)
        for number in range(ROUNDS):
            for job, runner in list(runners.items()):
                try:
                    runner.run()
                except CheckpointError as error:
                    result.failed[job] = str(error)
                    del runners[job]
            progress(number + 1, ROUNDS)
        for job, runner in runners.items():
            try:
                result.speeds[job] = runner.finish()
            except CheckpointError as error:
                result.failed[job] = str(error)
    return result


class Runner:
    """A process that runs one job, and what it has measured so far."""

    def __init__(self, job: Job, process: "subprocess.Popen[str]") -> None:
        self.job, self.process = job, process
        ready = self.answer()
        self.pixels, self.device = int(ready["pixels"]), str(ready["device"])
        self.meter = Meter(self.device)
        self.seconds: list[float] = []
        self.rounds: list[float] = []  # the median of each

    def answer(self) -> dict[str, Any]:
        """The next line that the process prints.

        Raises:
            CheckpointError: it ended, hangs, or says that it cannot run the network.
        """
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        timer.cancel()
        values: dict[str, Any] = json.loads(line) if line.startswith("{") else {"error": "its process ended"}
        if "error" in values:
            raise CheckpointError(f"{self.job.path}: cannot be measured in {self.job.engine} ({values['error']}).")
        return values

    def run(self) -> None:
        """One round: as many tiles as take `ROUND_SECONDS`, at least one."""
        count = max(1, int(ROUND_SECONDS / self.seconds[-1])) if self.seconds else 1
        assert self.process.stdin is not None
        self.meter.begin()
        try:
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        except OSError as error:
            raise CheckpointError(f"{self.job.path}: cannot be measured in {self.job.engine} (it ended).") from error
        told = self.answer()["seconds"]
        self.seconds += told
        self.rounds.append(median(told))
        self.meter.end()

    def finish(self) -> EngineSpeed:
        """End the process; what was measured."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        peak = self.answer()["peak_bytes"]
        typical = median(self.seconds)
        return EngineSpeed(
            engine=self.job.engine,
            device=device_name(self.device),
            milliseconds=round(1000 * typical, 3),
            megapixels_per_second=round(self.pixels / 1e6 / typical, 4),
            slowest=round(self.pixels / 1e6 / max(self.rounds), 4),
            fastest=round(self.pixels / 1e6 / min(self.rounds), 4),
            peak_mb=round(peak / 1e6, 1),
            watts=None if self.meter.watts is None else round(self.meter.watts, 1),
        )


@contextmanager
def running(job: Job, tile: int, threads: int) -> Iterator[Runner]:
    """Start a job's process, and make sure that it ends."""
    arguments = [str(job.path), job.engine, job.device, str(threads), str(tile)]
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcore.deploy.measure", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    try:
        yield Runner(job, process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was written and not read any more
                assert pipe is not None
                pipe.close()


def fastest(speeds: Sequence[EngineSpeed]) -> list[EngineSpeed]:
    """Speeds from the fastest on."""
    return sorted(speeds, key=lambda speed: speed.megapixels_per_second, reverse=True)


def device_name(device: str) -> str:
    """The device that a process used, in words."""
    if device == "cpu":
        return processor()
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU"
