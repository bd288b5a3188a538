"""A study of seconds, which the tests of training, evaluation, views and command share."""

from pathlib import Path

from safetensors.numpy import load_file

from kdcore.settings import (
    Budget,
    EvaluationSettings,
    Hardware,
    NetworkSettings,
    Recipe,
    StudySettings,
    TeacherSettings,
)
from tests.conftest import TINY

TEACHER = NetworkSettings(encoder="tu-test_resnet", depth=3, decoder_channels=(24, 16, 8))
TEACHER_BUDGET = Budget(steps=24, batch_size=2, crop=64, validate_every=12, save_every=12, learning_rate=5e-3)
STUDENT_BUDGET = Budget(steps=6, batch_size=2, crop=64, validate_every=3, save_every=3, learning_rate=5e-3)


def study_settings(**values) -> StudySettings:
    """Two seeds of a few steps on a CPU; the teacher is larger and trained for longer."""
    base = {
        "teacher": TeacherSettings(network=TEACHER, budget=TEACHER_BUDGET),
        "student": TINY,
        "recipe": Recipe(temperature=2, alpha=0.5),
        "budget": STUDENT_BUDGET,
        "seeds": (0, 1),
        "evaluation": EvaluationSettings(tile=32, window=64, halo=32),
        "hardware": Hardware(device="cpu"),
    }
    return StudySettings(**(base | values))


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same bits; what else their headers say has no order."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, without locks."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "alive.lock"
    }
