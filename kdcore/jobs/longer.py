"""A study whose teacher could hardly teach anything, once more with a teacher that is trained on. Never imports torch."""

from pathlib import Path

from kdcore.errors import RunError
from kdcore.jobs.plan import run_name
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import StudySettings

LONGER = 2  # times the steps of the teacher's training


def with_longer_teacher(study: StudyFolder) -> StudySettings:
    """The study's settings, with a teacher that begins from the existing one's weights and is trained for twice as many steps.

    Everything else stays the same, so that the two studies differ in the teacher only.

    Raises:
        RunError: the teacher's weights are gone, or they are an ONNX file, which cannot be trained.
    """
    settings = study.settings
    teacher = settings.teacher
    starts = teacher.checkpoints or tuple(study.run(run_name("teacher", seed)).best for seed in teacher.seeds)
    for file in starts:
        check_trainable(file)
    seeds = teacher.seeds if len(teacher.seeds) == len(starts) else tuple(range(len(starts)))
    budget = teacher.budget.model_copy(update={"steps": LONGER * teacher.budget.steps})
    longer = {"start": starts, "checkpoints": (), "seeds": seeds, "budget": budget}
    return settings.model_copy(update={"teacher": teacher.model_copy(update=longer)})


def check_trainable(file: Path) -> None:
    """Refuse weights that cannot be trained on.

    Raises:
        RunError: the file is gone, or an ONNX file.
    """
    if file.suffix.lower() == ".onnx":
        raise RunError(
            f"{file}: an ONNX file can only predict and cannot be trained here. Train it on where it was made, or train a teacher here."
        )
    if not file.is_file():
        raise RunError(f"{file}: the teacher's weights are not there any more, so it cannot be trained on.")
