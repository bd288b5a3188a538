"""From what a person chose on the Train page to the settings of a study. No streamlit here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kdcore.errors import KdcoreError
from kdcore.runs.library import Known
from kdcore.runs.study_folder import StudyFolder
from kdcore.settings import PRESETS, STUDY_PRESETS, NetworkSettings, StudySettings, validate

DEMO: Literal["demo"] = "demo"
AS_PRESET = "as in the preset"  # a network that is none of the named ones
TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
ALPHAS = tuple(round(0.1 * tenths, 1) for tenths in range(11))
SEEDS = (1, 2, 3, 5)

# Parameters with three bands and five classes; a test counts them.
PARAMETERS = {
    "large": 48_986_325,
    "base": 24_436_949,
    "medium": 14_328_789,
    "light": 6_265_293,
    "small": 655_717,
    "tiny": 143_157,
}
TEACHERS = ("large", "base", "medium", "light")
STUDENTS = ("tiny", "small", "light", "medium")


@dataclass(frozen=True)
class Choices:
    """What was chosen. The names of networks are those of `PRESETS`, or `AS_PRESET`.

    Attributes:
        preset: key of `STUDY_PRESETS`, where everything else comes from.
        teacher: a network's name, or the path of an earlier teacher's checkpoint in `reused`.
        reused: an earlier study's teacher: its checkpoint and its network; None to train one.
        steps, teacher_steps: of each student's and the teacher's training.
        seeds: how many.
    """

    preset: str
    temperature: float
    alpha: float
    teacher: str
    student: str
    steps: int
    teacher_steps: int
    seeds: int
    batch_size: int
    crop: int
    learning_rate: float
    task: str
    distillation: str
    reused: "EarlierTeacher | None" = None

    def settings(self) -> StudySettings:
        """The study's settings.

        Raises:
            SettingsError: what does not fit together.
        """
        values = STUDY_PRESETS[self.preset].model_dump(mode="json")
        recipe = {
            "temperature": self.temperature,
            "alpha": self.alpha,
            "task": self.task,
            "distillation": self.distillation,
        }
        values["recipe"] |= recipe | ({"unlabelled": 0.0} if self.alpha == 0 else {})
        budget = {"batch_size": self.batch_size, "crop": self.crop, "learning_rate": self.learning_rate}
        for place, steps in ((values, self.steps), (values["teacher"], self.teacher_steps)):
            place["budget"] |= budget | {"steps": steps}
        values["seeds"] = list(range(self.seeds))
        if self.student != AS_PRESET:
            values["student"] = PRESETS[self.student].model_dump(mode="json")
        if self.reused is not None:
            values["teacher"] |= {
                "checkpoints": [str(self.reused.checkpoint)],
                "network": self.reused.network.model_dump(mode="json"),
                "seeds": [self.reused.seed],
            }
        elif self.teacher != AS_PRESET:
            values["teacher"]["network"] = PRESETS[self.teacher].model_dump(mode="json")
        return validate(StudySettings, values, "the study's settings")


@dataclass(frozen=True)
class EarlierTeacher:
    """A finished teacher of an earlier study on the same data."""

    study: str
    checkpoint: Path
    network: NetworkSettings
    seed: int
    mean_ap: float | None


def network_name(network: NetworkSettings) -> str:
    """The name of a network among `PRESETS`, or `AS_PRESET`."""
    return next((name for name, preset in PRESETS.items() if preset == network), AS_PRESET)


def earlier_teachers(studies: list[StudyFolder], data: str) -> list[EarlierTeacher]:
    """Teachers that can be reused.

    Args:
        studies: where to look.
        data: 'demo' or the path of a collection, as `data_of` gives it.
    """
    found = []
    for study in studies:
        try:
            runs = [] if study.read_only or data_of(study) != data else study.runs()
            for run in runs:
                if run.settings.arm == "teacher" and run.best.exists() and run.report.exists():
                    mean_ap = run.read_report()["test"]["mean_ap"]
                    found.append(
                        EarlierTeacher(study.title, run.best, run.settings.network, run.settings.seed, mean_ap)
                    )
        except KdcoreError:
            continue  # a broken study has nothing to give
    return found


def data_of(study: StudyFolder) -> str:
    """What a study is trained on: 'demo', or its collection's path."""
    return DEMO if study.about.demo is not None else str(study.collection)


def known_data(library: list[Known], studies: list[StudyFolder]) -> dict[str, str]:
    """What a study can be trained on: 'demo' or a collection's path, and its name on screen."""
    names = {str(entry.path): entry.name for entry in library}
    for study in studies:
        try:
            key, data = data_of(study), study.data
        except KdcoreError:
            continue
        if data is not None and key != DEMO and Path(key).exists():
            names.setdefault(key, data["name"])
    repeated = {name for name in names.values() if list(names.values()).count(name) > 1}
    named = {key: f"{name} ({key})" if name in repeated else name for key, name in names.items()}
    return {DEMO: "Demo area (made on this machine)"} | named


def preset_values(name: str) -> dict[str, Any]:
    """What the widgets show for a preset."""
    preset = STUDY_PRESETS[name]
    return {
        "temperature": nearest(preset.recipe.temperature, TEMPERATURES),
        "alpha": nearest(preset.recipe.alpha, ALPHAS),
        "teacher": network_name(preset.teacher.network),
        "student": network_name(preset.student),
        "steps": preset.budget.steps,
        "teacher_steps": preset.teacher.budget.steps,
        "seeds": int(nearest(len(preset.seeds), SEEDS)),
        "batch_size": preset.budget.batch_size,
        "crop": preset.budget.crop,
        "learning_rate": preset.budget.learning_rate,
        "task": preset.recipe.task,
        "distillation": preset.recipe.distillation,
    }


def nearest(value: float, options: tuple[float, ...] | tuple[int, ...]) -> float:
    """The option that is closest to a value."""
    return min(options, key=lambda option: abs(option - value))
