"""What it takes to keep a teacher's answers about the scenes, told before anything is computed. Never imports torch."""

from dataclasses import dataclass
from statistics import mean

from kdcore.data.answers import HALO, WINDOW, bytes_of
from kdcore.data.collection import Collection
from kdcore.runs.devices import kind_of
from kdcore.runs.forecast import Costs
from kdcore.runs.plan import asks_teacher
from kdcore.runs.progress import FORWARD_SHARE
from kdcore.settings import StudySettings


@dataclass(frozen=True)
class Extent:
    """How much there is to ask a teacher about.

    Attributes:
        train: pixels of the train part.
        unlabelled: pixels of the scenes without labels.
        logits: maps of a network: one for two classes, else one a class.
    """

    train: int
    unlabelled: int
    logits: int

    @classmethod
    def of(cls, collection: Collection, crop: int) -> "Extent":
        """That of a collection whose crops have this side; only headers are read."""
        train = sum(region.box.area for region in collection.regions("train", crop))
        unlabelled = sum(scene.box.area for scene in collection.unlabelled)
        return cls(train, unlabelled, len(collection.settings.scored))


@dataclass(frozen=True)
class KeptAnswers:
    """What it takes to keep a teacher's answers about the scenes, before anything is computed.

    Attributes:
        bytes: on the disk.
        views: kept of each pixel, 8 or 1.
        seconds: to compute them; None where the teacher's network was not measured on this device.
    """

    bytes: int
    views: int
    seconds: float | None


def kept_answers(settings: StudySettings, extent: Extent, costs: Costs) -> KeptAnswers | None:
    """What keeping the teacher's answers takes; None where nobody is asked, or at each step.

    Args:
        settings: of the study.
        extent: of the data.
        costs: see `kdcore.runs.forecast.measured_costs`.
    """
    if not asks_teacher(settings) or settings.recipe.teacher_sees == "crop":
        return None
    everything = extent.train + extent.unlabelled
    pixels = everything if settings.recipe.unlabelled else round(settings.labels * extent.train)
    teacher = settings.teacher
    views = 8 if teacher.flips or settings.hardware.cache_views == "eight" else 1
    networks = len(teacher.checkpoints or teacher.seeds)
    step = costs.alone.get((kind_of(settings.hardware), teacher.network))
    seconds = None
    if step:
        looked_at = max(views, 2) * (WINDOW / (WINDOW - 2 * HALO)) ** 2  # one view is compared with another one
        seconds = pixels * networks * looked_at * FORWARD_SHARE * mean(step)
    return KeptAnswers(bytes_of(pixels, extent.logits, views, networks), views, seconds)
