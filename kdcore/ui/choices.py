"""From what a person chose on the Train page to the settings of a study. No streamlit here."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kdcore.data.collection import FILE_NAME
from kdcore.data.pairing import find
from kdcore.data.rasters import IMAGE_SUFFIXES
from kdcore.errors import KdcoreError
from kdcore.evaluation.label_curve import with_share
from kdcore.jobs.library import Known
from kdcore.jobs.shelf import Shelf
from kdcore.jobs.study_folder import StudyFolder
from kdcore.recipes import OWN, name_of
from kdcore.settings import (
    ADDED,
    FROM_THE_TEACHER,
    PRESETS,
    RECIPES,
    STUDY_PRESETS,
    CollectionSettings,
    NetworkSettings,
    Recipe,
    StudySettings,
    load,
    validate,
)
from kdcore.ui.formatting import told_apart

DEMO: Literal["demo"] = "demo"
AS_PRESET = "as in the preset"  # a network that is none of the named ones
TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
ALPHAS = tuple(round(0.1 * tenths, 1) for tenths in range(11))
SEEDS = (1, 2, 3, 5)
SHARES = (1, 2, 5, 10, 20, 35, 50, 100)  # percent of the labels
OWN_PARTS = (
    "unlabelled",
    "confidence",
    "mix",
    "augment",
    *ADDED,
)  # of a recipe, beside temperature, alpha and the two losses

# Parameters with three bands and five classes; a test counts them.
PARAMETERS = {
    "large": 48_986_325,
    "base": 24_436_949,
    "medium": 14_328_789,
    "light": 6_265_293,
    "lite": 3_591_989,
    "lraspp": 3_218_818,
    "small": 655_717,
    "tiny": 143_157,
    "fast": 101_349,
}
TEACHERS = ("large", "base", "medium", "light", "lite")
STUDENTS = ("fast", "tiny", "small", "lraspp", "lite", "light", "medium")


@dataclass(frozen=True)
class Choices:
    """What was chosen. The names of networks are those of `PRESETS`, or `AS_PRESET`.

    Attributes:
        preset: key of `STUDY_PRESETS`, where everything else comes from.
        teacher: a network's name, or the path of an earlier teacher's checkpoint in `reused`.
        reused: an earlier study's teacher: its checkpoint and its network; None to train one.
        steps, teacher_steps: of each student's and the teacher's training.
        seeds, teacher_seeds: how many.
        recipe: key of `RECIPES`, where the rest of the recipe comes from, or `OWN`: then `own` counts.
        own: a value for each of `OWN_PARTS`.
        labels: percent of the train part's labels.
        shares: further ones, percent: with any there is a study for each, which make up a label curve.
        upper_bound: whether the student with all labels is trained, too, where `labels` is below 100.
        views: of which soft labels are kept, 'eight' or 'one'.
    """

    preset: str
    recipe: str
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
    own: Mapping[str, Any]
    labels: int
    match: str
    teacher_seeds: int
    teacher_flips: bool
    views: str
    upper_bound: bool = True
    shares: Sequence[int] = ()
    reused: "EarlierTeacher | None" = None

    def settings(self) -> StudySettings:
        """The study's settings.

        Raises:
            SettingsError: what does not fit together.
        """
        values = STUDY_PRESETS[self.preset].model_dump(mode="json")
        values["recipe"] = self.recipe_values()
        budget = {"batch_size": self.batch_size, "crop": self.crop, "learning_rate": self.learning_rate}
        for place, steps in ((values, self.steps), (values["teacher"], self.teacher_steps)):
            place["budget"] |= budget | {"steps": steps}
        values["seeds"] = list(range(self.seeds))
        values |= {"labels": self.labels / 100, "match": self.match, "upper_bound": self.upper_bound}
        values["teacher"]["flips"] = self.teacher_flips
        values["hardware"]["cache_views"] = self.views
        if self.teacher_seeds != len(values["teacher"]["seeds"]):
            values["teacher"]["seeds"] = list(range(self.teacher_seeds))
        if self.student != AS_PRESET:
            values["student"] = PRESETS[self.student].model_dump(mode="json")
        if self.reused is not None:
            values["teacher"] |= self.reused.settings()
        elif self.teacher != AS_PRESET:
            values["teacher"]["network"] = PRESETS[self.teacher].model_dump(mode="json")
        return validate(StudySettings, values, "the study's settings")

    def label_curve(self, unlabelled: bool) -> list[StudySettings]:
        """The settings of each study of a label curve, the smallest share first; none where one share was chosen.

        Args:
            unlabelled: whether the data have imagery without labels.

        Raises:
            SettingsError: what does not fit together.
        """
        settings, shares = self.settings(), sorted({self.labels, *self.shares})
        return [with_share(settings, share / 100, unlabelled) for share in shares] if len(shares) > 1 else []

    def recipe_values(self) -> dict[str, Any]:
        """The recipe: that which was named, with what was set otherwise; alpha 0 leaves the teacher out altogether."""
        base = RECIPES.get(self.recipe, STUDY_PRESETS[self.preset].recipe)
        values = base.to_change() | {
            "temperature": self.temperature,
            "alpha": self.alpha,
            "task": self.task,
            "distillation": self.distillation,
        }
        if self.recipe == OWN:
            values |= self.own
        return values | (FROM_THE_TEACHER if self.alpha == 0 else {})


@dataclass(frozen=True)
class EarlierTeacher:
    """A finished teacher of an earlier study on the same data, or a network on the shelf (`shelf` is its name there)."""

    study: str
    checkpoint: Path
    network: NetworkSettings
    seed: int
    mean_ap: float | None
    shelf: str = ""

    def settings(self) -> dict[str, Any]:
        """What `TeacherSettings` say where it teaches, as plain values."""
        network = self.network.model_dump(mode="json")
        return {"checkpoints": [str(self.checkpoint)], "network": network, "seeds": [self.seed]}


def network_name(network: NetworkSettings) -> str:
    """The name of a network among `PRESETS`, or `AS_PRESET`."""
    return next((name for name, preset in PRESETS.items() if preset == network), AS_PRESET)


def earlier_teachers(studies: list[StudyFolder], data: str) -> list[EarlierTeacher]:
    """Teachers that can be reused.

    Args:
        studies: where to look.
        data: 'demo' or the path of a collection, as `StudyFolder.source` gives it.
    """
    found = []
    titles = told_apart({study.id: study.title for study in studies})
    for study in studies:
        try:
            runs = [] if study.read_only or str(study.source) != data else study.runs()
            for run in runs:
                if run.settings.arm == "teacher" and run.best.exists() and run.report.exists():
                    mean_ap = run.read_report()["test"]["mean_ap"]
                    found.append(
                        EarlierTeacher(titles[study.id], run.best, run.settings.network, run.settings.seed, mean_ap)
                    )
        except KdcoreError:
            continue  # a broken study has nothing to give
    return found


def shelved_teachers(shelf: Shelf, data: str) -> list[EarlierTeacher]:
    """Networks on the shelf that know the classes of data; none for the demo area, and for data that cannot be read.

    Args:
        shelf: where to look.
        data: 'demo' or the path of a collection.
    """
    path = Path(data)
    try:
        settings = load(CollectionSettings, path / FILE_NAME if path.is_dir() else path)
    except (KdcoreError, OSError):
        return []
    return [
        EarlierTeacher("", shelf.path / entry.name / entry.file, entry.network, 0, None, shelf=entry.name)
        for entry in shelf.list()
        if set(entry.classes) == set(settings.class_names)
    ]


def studies_on(studies: list[StudyFolder], data: str) -> list[StudyFolder]:
    """Those of the studies that are about some data ('demo' or the path of a collection); broken ones are about none."""
    found = []
    for study in studies:
        with suppress(KdcoreError):
            if str(study.source) == data:
                found.append(study)
    return found


def known_data(library: list[Known], studies: list[StudyFolder]) -> dict[str, str]:
    """What a study can be trained on: 'demo' or a collection's path, and its name on screen."""
    names = {str(entry.path): entry.name for entry in library}
    for study in studies:
        try:
            key, data = str(study.source), study.data
        except KdcoreError:
            continue
        if data is not None and key != DEMO and Path(key).exists():
            names.setdefault(key, data["name"])
    return {DEMO: "Demo area (made on this machine)"} | told_apart(names)


def preset_values(name: str) -> dict[str, Any]:
    """What the widgets show for a preset."""
    preset = STUDY_PRESETS[name]
    return {
        "recipe": name_of(preset.recipe),
        **recipe_values(preset.recipe),
        "teacher": network_name(preset.teacher.network),
        "student": network_name(preset.student),
        "steps": preset.budget.steps,
        "teacher_steps": preset.teacher.budget.steps,
        "seeds": int(nearest(len(preset.seeds), SEEDS)),
        "batch_size": preset.budget.batch_size,
        "crop": preset.budget.crop,
        "learning_rate": preset.budget.learning_rate,
        "labels": round(100 * preset.labels),
        "match": preset.match,
        "upper_bound": preset.upper_bound,
        "teacher_seeds": len(preset.teacher.seeds),
        "teacher_flips": preset.teacher.flips,
        "views": preset.hardware.cache_views,
    }


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """What the widgets show for a recipe."""
    return {
        "temperature": nearest(recipe.temperature, TEMPERATURES),
        "alpha": nearest(recipe.alpha, ALPHAS),
        **{name: getattr(recipe, name) for name in ("task", "distillation", *OWN_PARTS)},
    }


def has_unlabelled(data: str) -> bool:
    """Whether data have imagery without labels.

    Args:
        data: 'demo' or the path of a collection; one that cannot be read has none.
    """
    if data == DEMO:
        return True  # the demo area has a district without labels
    path = Path(data)
    file = path / FILE_NAME if path.is_dir() else path
    try:
        settings = load(CollectionSettings, file)
        root = file.parent / settings.root.expanduser() if settings.root else file.parent
        return bool(find(root, settings.unlabelled, IMAGE_SUFFIXES))
    except (KdcoreError, OSError):
        return False


def nearest(value: float, options: tuple[float, ...] | tuple[int, ...]) -> float:
    """The option that is closest to a value."""
    return min(options, key=lambda option: abs(option - value))
