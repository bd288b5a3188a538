"""What a gap is measured to, and what else the teacher had, in one sentence."""

import copy
import json

import pytest

from kdcore.evaluation.gap import gap_sentence, teacher_extras
from kdcore.jobs.workspace import EXAMPLE_FOLDER
from kdcore.settings import PRESETS, Budget, StudySettings, TeacherSettings


def report(settings: StudySettings | None = None, **mean_ap: float) -> dict:
    """As much of a study's report as the sentence is made from."""
    settings = settings or StudySettings()
    few = {"alone", "distilled"}
    arms = {
        arm: {"mean_ap": value, "labels": settings.labels if arm in few else 1.0}
        for arm, value in ({"teacher": 0.91, "alone": 0.754, "distilled": 0.884} | mean_ap).items()
    }
    return {"arms": arms, "settings": settings.model_dump(mode="json")}


FEW = StudySettings(labels=0.1333, teacher=TeacherSettings(seeds=(0, 1, 2), budget=Budget(ema=0.99), flips=True))


def test_the_gap_lies_between_the_student_alone_and_the_teacher_where_both_have_the_same_labels():
    assert gap_sentence(report()) == (
        "The gap lies between the student alone (mean AP 75.4) and the teacher (mean AP 91.0, 15.6 points above the student alone); "
        "apart from its size and its own budget, the teacher had nothing that the students did not have."
    )


def test_with_fewer_labels_it_lies_to_the_student_with_all_of_them_and_the_teacher_is_still_told():
    assert gap_sentence(report(FEW, all_labels=0.881)) == (
        "The gap lies between the student alone (mean AP 75.4) and the same student with all labels and no teacher (mean AP 88.1, "
        "12.7 points above the student alone), not the teacher (mean AP 91.0, 15.6 points above the student alone); apart from its size "
        "and its own budget, the teacher had all labels (the students 13.3 % of them), three networks that are averaged, weights "
        "averaged over its training (EMA) and an average over eight flips and rotations."
    )


def test_a_study_from_before_says_that_its_gap_is_partly_that_of_the_labels():
    said = gap_sentence(report(FEW))
    assert "and the teacher (mean AP 91.0" in said
    assert said.endswith("; so the gap is partly that of the labels, because no student with all labels was trained.")


def test_nothing_is_claimed_of_the_labels_of_a_teacher_that_came_from_elsewhere():
    settings = StudySettings(labels=0.5, teacher=TeacherSettings(checkpoints=("vendor.onnx",), budget=Budget(ema=0.9)))
    (extra,) = teacher_extras(report(settings))
    assert extra == "labels that are not known here (it was not trained in this study; the students had 50.0 % of them)"
    assert "no student with all labels" not in gap_sentence(report(settings))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": {"network": PRESETS["base"].model_copy(update={"weights": "imagenet"})}}, ["ImageNet"]),
        ({"teacher": {"budget": Budget(ema=0.9)}}, ["EMA"]),
        ({"teacher": {"budget": Budget(ema=0.9)}, "budget": Budget(ema=0.9)}, []),  # the students have it, too
        ({"teacher": {"seeds": (0, 1)}}, ["two networks"]),
        ({"teacher": {"flips": True}}, ["flips"]),
    ],
)
def test_only_what_the_students_do_not_have_is_named(change, said):
    extras = teacher_extras(report(StudySettings.model_validate(copy.deepcopy(change))))
    assert len(extras) == len(said)
    assert all(word in extra for word, extra in zip(said, extras, strict=True))


def test_a_teacher_with_the_students_few_labels_has_no_more_of_them():
    values = report(StudySettings(labels=0.1333, teacher=TeacherSettings(labels=0.1333)))
    values["arms"]["teacher"]["labels"] = 0.1333
    assert teacher_extras(values) == []
    assert "partly that of the labels" not in gap_sentence(values)
    values["arms"]["teacher"]["labels"] = 0.25
    assert teacher_extras(values) == ["25.0 % of the labels (the students 13.3 % of them)"]


def test_numbers_that_are_not_known_are_not_made_up():
    said = gap_sentence(report(teacher=None))
    assert "the teacher (mean AP not known);" in said


def test_the_bundled_example_which_is_older_has_one():
    said = gap_sentence(json.loads((EXAMPLE_FOLDER / "report.json").read_text()))
    assert said.startswith("The gap lies between the student alone (mean AP ")
