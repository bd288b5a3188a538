"""A sweep of seconds, which the tests of training, report and command share."""

from pathlib import Path

from kdcore.jobs.study_folder import About
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.settings import Budget, EvaluationSettings, Hardware, SearchSpace, SweepSettings, TeacherSettings
from tests.conftest import TINY

BUDGET = Budget(steps=6, batch_size=2, crop=64, validate_every=3, save_every=3, learning_rate=5e-3)
STUDENT = "unet/tu-test_resnet"


def sweep_settings(**values) -> SweepSettings:
    """Six trials of a few steps on a CPU: the student alone, two repeats of the centre, three of the search."""
    base = {
        "space": SearchSpace(student=STUDENT),
        "trials": 6,
        "repeats": 2,
        "budget": BUDGET,
        "teacher": TeacherSettings(network=TINY, budget=BUDGET),
        "evaluation": EvaluationSettings(tile=32, window=64, halo=32),
        "hardware": Hardware(device="cpu"),
    }
    return SweepSettings(**(base | values))


def put_sweep(folder: Path, collection: Path = Path("/nowhere/collection.yaml"), **values) -> SweepFolder:
    """A sweep's folder before any trial."""
    about = About(title="sweep", collection=collection, created=1000.0)
    return SweepFolder.begin(folder, sweep_settings(**values), about)
