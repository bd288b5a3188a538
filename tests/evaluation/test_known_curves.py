"""Which studies make up a label curve, and what of a stored one is read."""

import json

import pytest

from kdcore.errors import RunError
from kdcore.evaluation.known_curves import curves_among, stored_curve
from kdcore.files import write_json
from kdcore.settings import Recipe
from tests.jobs.studies import put_study, tiny_study
from tests.views.test_label_curve import REPORT

WITH_UNLABELLED = Recipe(temperature=2, alpha=0.5, unlabelled=1.0)


def shares(*studies) -> list[dict[float, str]]:
    return [{share: study.id for share, study in curve.items()} for curve in curves_among(studies)]


@pytest.fixture
def study(tmp_path):
    """Makes a study of a share of the labels, not begun."""

    def make(name: str, labels: float, data: str | None = None, **changes):
        made = put_study(tmp_path / name, tiny_study(labels=labels, **changes))
        if data is not None:
            write_json(made.path / "data.json", {"hash": data})
        return made

    return make


def test_studies_that_differ_in_their_share_only_are_one_curve(study):
    found = shares(study("c", 1.0), study("a", 0.1), study("b", 0.3, upper_bound=False), study("d", 0.2, seeds=(0, 1)))
    assert found == [{0.1: "a", 0.3: "b", 1.0: "c"}]


def test_of_two_with_one_share_the_first_counts(study):
    assert shares(study("new", 0.1), study("old", 0.1), study("b", 0.3)) == [{0.1: "new", 0.3: "b"}]


def test_one_study_is_no_curve(study):
    assert shares(study("a", 0.1)) == []


def test_crops_without_labels_are_part_of_the_recipe_except_where_no_label_is_left_unused(study):
    found = shares(
        study("a", 0.1, recipe=WITH_UNLABELLED),
        study("b", 0.3, recipe=WITH_UNLABELLED),
        study("other", 0.5),
        study("c", 1.0),
    )
    assert found == [{0.1: "a", 0.3: "b", 1.0: "c"}, {0.5: "other", 1.0: "c"}]


def test_other_data_are_no_point_of_the_curve(study):
    assert shares(study("a", 0.1, "new"), study("b", 0.3, "old"), study("c", 0.5)) == [{0.1: "a", 0.5: "c"}]


def test_a_broken_study_is_left_out(study):
    broken = study("a", 0.1)
    (broken.path / "study.yaml").write_text("budget: [")
    assert shares(broken, study("b", 0.3), study("c", 0.5)) == [{0.3: "b", 0.5: "c"}]


def test_a_stored_curve_is_read_as_far_as_it_is_shown(tmp_path):
    assert stored_curve(tmp_path) is None
    report = json.loads(json.dumps(REPORT)) | {"unfinished": [0.5], "basis": "Seeds\u202e."}
    for point in report["points"]:
        point["worth"] |= {"share": 0.3, "low": 0.2}
    write_json(tmp_path / "labels.json", report | {"settings": {}, "later": 1})
    found = stored_curve(tmp_path)
    assert (found["basis"], found["unfinished"]) == ("Seeds.", [0.5])
    assert found["points"][0]["alone"] == {"mean": 60.0, "low": 58.0, "high": 61.0}


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"points": [], "teacher": 1, "unfinished": [], "basis": ""}'])
def test_a_broken_one_says_what_to_do(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(RunError, match=r"again|Remove the file"):
        stored_curve(tmp_path)
