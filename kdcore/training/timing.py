"""How long a step of a training takes, from a few steps of that very training in a folder that is thrown away."""

import shutil
from collections.abc import Callable
from pathlib import Path

from kdcore.errors import Stopped
from kdcore.files import write_json
from kdcore.jobs.plan import steps_file
from kdcore.jobs.progress import Progress, Report, Stage
from kdcore.jobs.store import RunDirectory
from kdcore.settings import RunSettings
from kdcore.teacher.soft_labels import FOLDER
from kdcore.training.loop import LOG_EVERY
from kdcore.training.run import execute

ROUNDS = 2  # of each kind, in turn; the shortest counts, because whatever else a machine does only makes steps longer
MANY = 1_000_000  # steps: never reached, so nothing is validated


def measure_alone_steps(
    study: Path,
    alone: RunSettings,
    distilled: RunSettings,
    report: Report,
    should_stop: Callable[[], bool],
) -> int:
    """How many steps the student alone does in the time of the distilled student's training; written to `steps.json`.

    Never fewer than the distilled student has.

    Args:
        study: the folder; its teacher is trained.
        alone: what the student alone is to do, with the distilled student's budget.
        distilled: what the distilled student is to do.
        report: is told what happens.
        should_stop: asked after every step.

    Raises:
        Stopped: `should_stop` said so.
        KdcoreError: what ends any training.
    """
    kinds = {"alone": alone, "distilled": distilled}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    folder = study / ".timing"
    try:
        for number in range(ROUNDS * len(kinds)):
            report(Progress("", Stage.TIMING_STEPS, number, ROUNDS * len(kinds)))
            name = list(kinds)[number % len(kinds)]
            seconds[name].append(seconds_of_step(folder, kinds[name], should_stop))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    steps = distilled.budget.steps
    alone_steps = max(steps, round(steps * min(seconds["distilled"]) / min(seconds["alone"])))
    write_json(
        steps_file(study),
        {
            "alone": alone_steps,
            "distilled": steps,
            "seconds_of_a_step": {name: min(found) for name, found in seconds.items()},
        },
    )
    return alone_steps


def seconds_of_step(folder: Path, settings: RunSettings, should_stop: Callable[[], bool] = lambda: False) -> float:
    """Begin a training in `folder`, end it after its tenth step, and say how long the steps after the first one took.

    Raises:
        Stopped: `should_stop` said so.
        KdcoreError: what ends any training.
    """
    shutil.rmtree(folder, ignore_errors=True)
    budget = settings.budget.model_copy(update={"steps": MANY, "validate_every": MANY, "save_every": MANY})
    run = RunDirectory.create(folder, settings.model_copy(update={"budget": budget}))

    def enough() -> bool:
        return any(line["step"] >= LOG_EVERY for line in run.read_metrics())

    execute(run, should_stop=lambda: should_stop() or enough(), soft_labels=folder.parent.parent / FOLDER)
    if not enough():
        raise Stopped(f"{folder.parent}: was stopped while steps were timed. Start it again to go on.")
    first, *_, last = run.read_metrics()
    return float(last["seconds"] - first["seconds"]) / float(last["step"] - first["step"])
