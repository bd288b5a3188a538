"""What a job does now, in words, for pages and for the terminal. No streamlit here."""

from kdcore.jobs.plan import parse_run
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.status import Status
from kdcore.ui.formatting import sentence
from kdcore.views.arms import ARM_NAMES

STAGES = {
    Stage.STARTING: "starting",
    Stage.WAITING: "waiting",
    Stage.WAITING_FOR_TEACHER: "waiting for the teacher",
    Stage.WAITING_FOR_TRIALS: "waiting for the last trials",
    Stage.WAITING_FOR_RUNS: "waiting for runs of other processes",
    Stage.DEMO_AREA: "making the demo area",
    Stage.READING: "reading the data",
    Stage.TIMING_STEPS: "measuring how long steps take",
    Stage.SOFT_LABELS: "the teacher predicts the scenes",
    Stage.TRAINING: "training",
    Stage.SCORING_TRAIN: "scoring train",
    Stage.SCORING_VALIDATION: "scoring validation",
    Stage.SCORING_TEST: "scoring test",
    Stage.TRIALS: "trials",
    Stage.LAYERS: "pictures for the map",
    Stage.REPORT: "writing the report",
    Stage.EXPORTING: "exporting",
    Stage.CALIBRATING: "measuring ranges for 8 bits",
    Stage.COMPARING: "comparing with the original",
    Stage.MEASURING_SPEED: "measuring",
    Stage.DESCRIBING: "describing",
    Stage.MAPPING: "mapping",
    Stage.WRITING_MAP: "writing {subject}",
    Stage.WRITING_POLYGONS: "writing polygons",
    Stage.DRAWING: "drawing pictures",
    Stage.OTHER: "working",
}


CONFIRMATION = {"best": "confirmation, best", "default": "confirmation, default"}  # runs of a sweep's confirmation


def stage_in_words(progress: Progress) -> str:
    """'student alone, seed 0: training', without how much of it is done."""
    words = STAGES[progress.stage]
    if progress.stage is Stage.WAITING:
        before = f"{progress.total:,} before it" if progress.total else "it is next"
        words = f"waits for {progress.subject or 'a device'}; {before}"
    elif "{subject}" in words:
        words = words.replace("{subject}", progress.subject or "the map")
    elif progress.subject:
        words += f" ({progress.subject})"
    of = run_in_words(progress.run) if progress.trial is None else f"trial {progress.trial}"
    return f"{of}: {words}" if of else words


def doing(progress: Progress | None, starting: str, alone: bool = True) -> str:
    """What is done now and how much of it: 'Student alone, seed 0: training, 12 of 300'.

    Args:
        progress: of a job; None before it says anything.
        starting: what to say meanwhile.
        alone: it stands at the beginning of a line.
    """
    if progress is None or progress.stage is Stage.STARTING:
        return starting
    of = (
        f", {progress.done:,} of {progress.total:,}"
        if progress.total > 1 and progress.stage is not Stage.WAITING
        else ""
    )
    words = f"{stage_in_words(progress)}{of}"
    return sentence(words) if alone else words


def message_of(status: Status) -> str:
    """What a job says of its state: what it waits for, or why it failed."""
    progress = status.progress
    waits = status.state == "queued" and progress is not None and progress.stage is Stage.WAITING
    return stage_in_words(progress) if waits and progress is not None else status.message


def run_in_words(name: str) -> str:
    """A run's directory as people call it: 'alone-s1' is 'student alone, seed 1'."""
    arm, seed = parse_run(name)
    title = CONFIRMATION.get(arm) or ARM_NAMES.get(arm, arm).lower()
    return title if seed is None else f"{title}, seed {seed}"
