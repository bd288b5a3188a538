"""What a sweep costs beside its trainings: seconds from asking for a trial to its first step, and two workers against one.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py [--trials 12] [--steps 40] [--rounds 2] [--save]    # about eight minutes on two cores

- *Asked to first step*: in one process, from before the sampler is asked until the first step of the training has ended; data and
  teacher are there, and the first trial, which warms up, is not counted.
- *Two workers against one*: sweeps of the same trials by processes of one thread each, in turn. Trials a minute, from the first
  trial's start to the last one's end: starting Python and importing torch are left out, waiting for each other is not. Nothing is
  ended early, so that all sweeps do the same work.

Limits: 3 s, and 1.6 times as many trials.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from measuring import parser, publish, table

from kdcore.data.demo import write_demo
from kdcore.jobs import sweep_library
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.study_folder import About
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.settings import PRESETS, Budget, Hardware, SearchSpace, SweepSettings, TeacherSettings
from kdcore.training.sweep import work_on_sweep

SECONDS_LIMIT, SPEED_LIMIT = 3.0, 1.6
CROP, BATCH = 128, 4


def begin(folder: Path, data: Path, trials: int, steps: int, teacher: TeacherSettings) -> SweepFolder:
    settings = SweepSettings(
        space=SearchSpace(student="tiny"),
        trials=trials,
        repeats=2,
        pruning=False,
        budget=Budget(steps=steps, crop=CROP, batch_size=BATCH, validate_every=steps, save_every=steps),
        teacher=teacher,
        hardware=Hardware(device="cpu"),
    )
    return SweepFolder.begin(folder, settings, About(title=folder.name, collection=data, created=time.time()))


def until_first_step(sweep: SweepFolder) -> list[float]:
    """Seconds of every trial from asking to the end of the first step, in the order in which they were done."""
    asked: list[float] = []
    begun: dict[int, float] = {}
    real: Callable = Claims.next

    def ask(claims: Claims) -> object:
        asked.append(time.perf_counter())
        return real(claims)

    def tell(progress: Progress) -> None:
        if progress.trial is not None and progress.stage is Stage.TRAINING and progress.done == 1:
            begun.setdefault(progress.trial, time.perf_counter())

    Claims.next = ask
    try:
        work_on_sweep(sweep, 0, tell, lambda: False)
    finally:
        Claims.next = real
    return [begun[number] - when for number, when in zip(sorted(begun), asked, strict=False)]


def trials_a_minute(sweep: SweepFolder, workers: int) -> float:
    """Rate of a sweep that is done by processes of its own."""
    sweep_library.start(sweep, workers)
    while (progress := sweep.progress()).state == "running":
        time.sleep(0.5)
    assert progress.state == "finished", (progress, sweep.log_tail())
    trials = sweep.trials()
    spent = max(trial.ended for trial in trials) - min(trial.started for trial in trials)
    return 60 * len(trials) / spent


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=12)
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--rounds", type=int, default=2)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_demo(folder / "area", 0)
        budget = Budget(steps=40, crop=CROP, batch_size=BATCH, validate_every=40)
        first = begin(
            folder / "warm", data, chosen.trials, chosen.steps, TeacherSettings(network=PRESETS["light"], budget=budget)
        )
        waits = until_first_step(first)[1:]
        teacher = TeacherSettings(network=PRESETS["light"], checkpoints=tuple(run.best for run in first.teacher_runs()))
        rates: dict[int, list[float]] = {1: [], 2: []}
        for number in range(chosen.rounds):
            for workers in (1, 2) if number % 2 == 0 else (2, 1):
                sweep = begin(folder / f"{number}-{workers}", data, chosen.trials, chosen.steps, teacher)
                rates[workers].append(trials_a_minute(sweep, workers))
    one, two = median(rates[1]), median(rates[2])
    body = "\n\n".join(
        [
            f"Demo area, student tiny, teacher light, {chosen.steps} steps of {BATCH} crops of {CROP} px, {chosen.trials} trials a sweep.",
            table(
                ("asked to the end of the first step", "median, s", "largest, s", "limit"),
                [
                    (
                        f"{len(waits)} trials, warm",
                        f"{median(waits):.2f}",
                        f"{max(waits):.2f}",
                        f"{SECONDS_LIMIT:g} s {'kept' if max(waits) <= SECONDS_LIMIT else 'missed'}",
                    )
                ],
            ),
            table(
                ("workers", "trials a minute, each round", "median", "against one", "limit"),
                [
                    (
                        workers,
                        ", ".join(f"{rate:.2f}" for rate in rates[workers]),
                        f"{median(rates[workers]):.2f}",
                        f"{median(rates[workers]) / one:.2f}",
                        "" if workers == 1 else f"{SPEED_LIMIT:g} {'kept' if two / one >= SPEED_LIMIT else 'missed'}",
                    )
                    for workers in (1, 2)
                ],
            ),
        ]
    )
    publish("sweep", "What a sweep costs beside its trainings", body, chosen.save)


if __name__ == "__main__":
    main()
