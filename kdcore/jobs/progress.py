"""How far a job is, as data. Words are made of it on screens only (`kdcore.ui.stages`), so no sentence steers the program."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from pydantic import model_validator

from kdcore.settings import Frozen, SplitName


class Stage(Enum):
    """What is being done. The values stand in status files and logs."""

    STARTING = "starting"
    WAITING = "waiting"
    WAITING_FOR_TEACHER = "waiting for the teacher"
    WAITING_FOR_TRIALS = "waiting for the last trials"
    WAITING_FOR_RUNS = "waiting for runs of other processes"
    DEMO_AREA = "demo area"
    READING = "reading"
    TIMING_STEPS = "timing steps"
    SOFT_LABELS = "soft labels"
    TRAINING = "training"
    SCORING_TRAIN = "scoring train"
    SCORING_VALIDATION = "scoring validation"
    SCORING_TEST = "scoring test"
    TRIALS = "trials"
    LAYERS = "map layers"
    REPORT = "report"
    EXPORTING = "exporting"
    CALIBRATING = "calibrating"
    COMPARING = "comparing"
    MEASURING_SPEED = "measuring speed"
    DESCRIBING = "describing"
    MAPPING = "mapping"
    WRITING_MAP = "writing map"
    WRITING_POLYGONS = "writing polygons"
    DRAWING = "drawing"
    OTHER = "other"  # of another version


SCORING: dict[SplitName, Stage] = {
    "train": Stage.SCORING_TRAIN,
    "validation": Stage.SCORING_VALIDATION,
    "test": Stage.SCORING_TEST,
}


@dataclass(frozen=True)
class Progress:
    """How far one piece of a job is.

    Attributes:
        run: name of the run it belongs to, such as 'alone-s0'; empty for the job as a whole.
        stage: what is being done.
        done, total: how much of it; `total` of a wait for a device is how many come before.
        subject: the file or network that it is about, or how large that is; shown, never compared.
        trial: of a sweep; None outside of its trials.
    """

    run: str
    stage: Stage
    done: int = 0
    total: int = 0
    subject: str = ""
    trial: int | None = None

    def __str__(self) -> str:
        """For logs: 'alone-s0: training'."""
        return ": ".join(part for part in (self.run, self.stage.value, self.subject) if part)


Report = Callable[[Progress], None]
"""Is told how far a job is; raises to stop it."""

Count = Callable[[int, int], None]
"""Is told how much is done and how much there is, by whoever need not know which stage that is."""


def ignore(progress: Progress) -> None:
    """Told by whoever is not listened to."""


def counting(report: Report, stage: Stage, run: str = "", subject: str = "") -> Count:
    """Tell of one stage."""
    return lambda done, total: report(Progress(run, stage, done, total, subject))


class Told(Frozen):
    """The part of a status file that says what is being done; see `Progress`."""

    run: str = ""
    stage: Stage | None = None
    done: int = 0
    total: int = 0
    subject: str = ""
    trial: int | None = None

    @model_validator(mode="before")
    @classmethod
    def read_older(cls, values: Any) -> Any:
        """Status files once said 'alone-s0: training' in one string."""
        if isinstance(values, dict) and isinstance(values.get("stage"), str):
            return values | read_text(values["stage"])
        return values

    @property
    def progress(self) -> Progress | None:
        """What it says; None where nothing is done."""
        if self.stage is None:
            return None
        return Progress(self.run, self.stage, self.done, self.total, self.subject, self.trial)


def told(progress: Progress) -> dict[str, Any]:
    """The fields of `Told`, for `model_copy`."""
    return asdict(progress)


OLDER = {
    "teacher's answers": Stage.SOFT_LABELS,
    "reading the data": Stage.READING,
    "measuring how long steps take": Stage.TIMING_STEPS,
    "measuring": Stage.MEASURING_SPEED,
    "scoring": Stage.SCORING_VALIDATION,
    "pictures for the map": Stage.LAYERS,
    "writing the report": Stage.REPORT,
    "writing polygons": Stage.WRITING_POLYGONS,
    "writing": Stage.WRITING_MAP,
    "looking at train tiles": Stage.CALIBRATING,
    "comparing": Stage.COMPARING,
    "marking": Stage.MAPPING,
}
"""How older strings begin, the longest first where one begins like another."""


def read_text(text: str) -> dict[str, Any]:
    """What a status file's `stage` says: a stage's value, or a string of an older version, as far as it can be understood."""
    if not text:
        return {"stage": None}
    values = {stage.value: stage for stage in Stage}
    if text in values:
        return {"stage": values[text]}
    run, _, words = text.rpartition(": ")
    if run == "marking":
        run, words = words, run
    first = next((stage for start, stage in OLDER.items() if words.startswith(start)), Stage.OTHER)
    return {"run": run, "stage": values.get(words, first)}
