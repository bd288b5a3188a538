"""What a page shows of a race: which are recorded, in what words, and what its script is given."""

import numpy as np
import pytest

from kdcore.deploy.race import Lane, Race, course
from kdcore.inference.layer_index import SceneLayers
from kdcore.views.race import (
    headline,
    pace_in_words,
    race_data,
    racing_pictures,
    recorded_races,
    result_in_words,
    seconds_in_words,
)
from tests.deployment import REFUSED, form, make_deployment, speed

SCENE = SceneLayers(
    id="a", name="a", height=256, width=256, part=(0, 0, 256, 256), georeferenced=True, unit="metres", metres_per_pixel=0.5,
    crs="EPSG:32632", transform=(0.5, 0, 0, 0, -0.5, 0), zoom=18,
)  # fmt: skip
PICTURES = {"photo": "data:p", "teacher": "data:t", "distilled": "data:d"}


def race(teacher: float, student: float, metres: float | None = 0.5) -> Race:
    tiles = ((0, 0, 256, 192), (0, 192, 256, 64))
    lanes = {
        arm: Lane(arm=arm, engine="torch", device="cpu", tiles=tiles, seconds=(0.75 * seconds, seconds))
        for arm, seconds in (("teacher", teacher), ("distilled", student))
    }
    return Race(scene="a", metres_per_pixel=metres, teacher=lanes["teacher"], student=lanes["distilled"], measured=0)


def test_every_way_in_which_both_were_measured_is_a_race_the_fastest_student_first():
    races = recorded_races(make_deployment(), SCENE)
    assert {name: round(one.faster, 3) for name, one in races.items()} == {
        "OpenVINO int8": round(6.2 / 1.9, 3),
        "OpenVINO": round(4.1 / 0.9, 3),
        "ONNX Runtime int8": round(3.5 / 0.8, 3),
        "ONNX Runtime": round(3.1 / 0.7, 3),
        "PyTorch": round(1.55 / 0.5, 3),
    }
    assert next(iter(races)) == "OpenVINO int8"
    assert {(one.teacher.engine, one.student.engine) for one in races.values()} == {
        ("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("torch", "torch"),
    }  # fmt: skip


def test_without_the_teacher_and_with_refused_forms_there_is_no_race():
    assert recorded_races(make_deployment(teacher=False), SCENE) == {}
    forms = (form("teacher", "int8", refused=REFUSED), form("distilled", "int8", speed("openvino", 6.2), points=0))
    assert recorded_races(make_deployment().model_copy(update={"forms": forms}), SCENE) == {}


def test_the_script_is_given_tiles_as_shares_and_ground_in_square_kilometres():
    """65,536 pixels of 0.25 m² are 0.016384 km²; in 2 s that makes 29.49 km² an hour."""
    data = race_data(race(8, 2), PICTURES, {"teacher": "79", "distilled": "76"}, course(SCENE))
    teacher, student = data["lanes"]
    assert [lane["name"] for lane in (teacher, student)] == ["Expert", "Apprentice"]
    assert student["boxes"] == [[0, 0, 0.75, 1], [0.75, 0, 0.25, 1]]
    assert student["seconds"] == [1.5, 2]
    assert (student["amount"], student["unit"]) == (pytest.approx(0.016384), "km²")
    assert (student["perHour"], teacher["perHour"]) == ("29.5 km²", "7.37 km²")
    assert (student["score"], student["picture"], data["photo"]) == ("76", "data:d", "data:p")
    assert (data["pace"], data["paceWords"][:21]) == (0.5, "Slowed down 2 times, ")


def test_without_a_ground_sample_distance_it_counts_megapixels():
    data = race_data(race(8, 2, None), PICTURES, {"teacher": "–", "distilled": "–"}, course(SCENE))
    assert data["lanes"][1]["perHour"] == "118 megapixels"  # 0.065536 in 2 s


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1, "In real time."),
        (20, "Sped up 20 times, both alike."),
        (0.05, "Slowed down 20 times, both alike; clocks show the true time."),
    ],
)
def test_one_time_scale_for_both_is_said(factor, words):
    assert pace_in_words(factor) == words


@pytest.mark.parametrize(
    ("teacher", "student", "said"),
    [
        (8, 1, "The apprentice maps 8.0 times as many km² an hour as the expert, both in PyTorch."),
        (
            1,
            1.01,
            "about as many km² an hour as the expert, both in PyTorch: there is no speed to be gained from it here.",
        ),
        (1, 2, "The apprentice maps only 0.50 times as many km² an hour as the expert, both in PyTorch."),
    ],
)
def test_the_headline_says_who_is_faster(teacher, student, said):
    assert said in headline(race(teacher, student))


def test_the_headline_names_the_engines():
    both = race(8, 1)
    assert headline(both, "OpenVINO int8").endswith("as the expert, both in OpenVINO int8.")
    foreign = both.model_copy(update={"teacher": both.teacher.model_copy(update={"engine": "onnxruntime"})})
    assert headline(foreign).endswith("as the expert, PyTorch against ONNX Runtime.")


def test_times_have_the_digits_that_tell_them_apart():
    assert [seconds_in_words(value) for value in (0.0123, 4.567, 78.94, 725)] == [
        "0.012 s",
        "4.57 s",
        "78.9 s",
        "12 min 5 s",
    ]
    assert result_in_words(race(8, 0.5)) == "The apprentice needed 0.500 s, the expert 8.00 s."


def test_hidden_classes_and_unknown_ground_stay_photo():
    photo = np.full((8, 8, 3), 100, dtype=np.uint8)
    classes = np.zeros((8, 8), dtype=np.uint8)
    same = racing_pictures(photo, {"teacher": classes}, ("#FFFFFF", "#000000"), (0,))
    assert same["teacher"] == same["photo"]
    unknown = racing_pictures(photo, {"teacher": np.full_like(classes, 255)}, ("#FFFFFF", "#000000"), ())
    assert unknown["teacher"] == unknown["photo"]
    marked = racing_pictures(photo, {"teacher": np.ones_like(classes)}, ("#FFFFFF", "#000000"), (0,))
    assert marked["teacher"] != marked["photo"]
