"""Tested in other places: scored once, beside the study's own test part, and chosen by nothing."""

import re

import pytest

from kdcore.data.collection import Collection
from kdcore.errors import SettingsError
from kdcore.evaluation.places import by_scene
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.jobs.store import RunDirectory
from kdcore.settings import SplitSettings
from kdcore.training.places import open_places
from kdcore.training.run import evaluate_checkpoint
from kdcore.training.study import run_study
from kdcore.views.page import write_page
from tests.conftest import write_collection
from tests.training.studies import contents, study_settings


def elsewhere(folder, **values):
    """Another town, with two test scenes."""
    split = SplitSettings(train=("a",), validation=("b",), test=("c", "d"))
    return write_collection(folder, **({"name": "elsewhere", "split": split} | values))


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A finished study that was tested elsewhere: its folder, its report, the other place."""
    folder = tmp_path_factory.mktemp("places")
    home, place = write_collection(folder / "home"), elsewhere(folder / "elsewhere")
    settings = study_settings(test_on=(place,))
    return folder, settings, home, place, run_study(home, settings, folder / "study")


def test_every_arm_is_scored_there_as_evaluate_scores_it(tested):
    folder, _, _, place, report = tested
    (found,) = report["places"]
    assert found["name"] == "elsewhere"
    assert found["arms"].keys() == {"teacher", "alone", "distilled"}
    for arm, runs in {"teacher": ["teacher-s0"], "alone": ["alone-s0", "alone-s1"]}.items():
        each = [
            evaluate_checkpoint(RunDirectory(folder / "study/runs" / name).best, place, "test", "cpu")["mean_ap"]
            for name in runs
        ]
        assert found["arms"][arm] == pytest.approx(sum(each) / len(each), abs=0.02)  # other tiles, so other levels
    assert found["comparison"]["mean_ap_points"]["mean"] == pytest.approx(
        100 * (found["arms"]["distilled"] - found["arms"]["alone"]), abs=1e-3
    )
    assert [(scene["scene"], scene["tiles"]) for scene in found["scenes"]] == [("c", 16), ("d", 16)]


def test_the_page_says_what_came_out_there(tested):
    """Both scenes of the other place and the study's own, and the sentence of its own comparison."""
    folder, *_, report = tested
    page = write_page(folder / "study", report).read_text(encoding="utf-8")
    rows = re.findall(r"<tr><td>(\w+)</td><td>(\w+)</td><td>16</td>", page)
    assert rows == [("small", "d"), ("elsewhere", "c"), ("elsewhere", "d")]
    assert report["places"][0]["comparison"]["sentence"] in page


def test_its_own_test_part_is_reported_by_scene(tested):
    report = tested[-1]
    (scene,) = report["scenes"]
    assert (scene["scene"], scene["tiles"]) == ("d", 16)
    for arm, mean in scene["mean_ap"].items():
        assert mean == pytest.approx(report["arms"][arm]["mean_ap"], abs=1e-5)


def test_places_may_be_added_and_nothing_is_trained_again(tested, tmp_path):
    folder, settings, home, place, report = tested
    more = settings.model_copy(update={"test_on": (place, elsewhere(tmp_path / "third", name="third"))})
    before = contents(folder / "study/runs")
    again = run_study(home, more, folder / "study")
    assert [one["name"] for one in again["places"]] == ["elsewhere", "third"]
    assert again["places"][0] == report["places"][0]
    after = contents(folder / "study/runs")
    assert all(after[name] == before[name] for name in before)
    assert len(after) == len(before) + 5  # one file a network
    none = run_study(home, settings.model_copy(update={"test_on": ()}), folder / "study")
    assert none["places"] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"classes": 2}, "has the classes land, building, but the study's are land, building, water"),
        ({"bands": (1, 2)}, "gives 2 bands, but the study's imagery 3"),
        ({"metres_per_pixel": 1.0}, r"has 1 m per pixel, but the study's imagery 0.5 m. Set `metres_per_pixel: 0.5`"),
        ({"name": "small"}, "'small' is the name of two collections"),
    ],
)
def test_a_place_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path, values, said):
    classes = values.pop("classes", 3)
    place = elsewhere(tmp_path / "place", **values) if classes == 3 else write_collection(tmp_path / "place", classes=2)
    home = write_collection(tmp_path / "home")
    with pytest.raises(SettingsError, match=said):
        run_study(home, study_settings(test_on=(place,)), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_no_places_are_none(tmp_path):
    assert open_places(study_settings(), Collection.open(write_collection(tmp_path / "home"))) == []


def test_a_scene_s_mean_ap_is_that_of_its_tiles(tested):
    """Two networks with the same tiles: each scene is what `summarise` says of its tiles alone."""
    folder = tested[0]
    files = sorted((folder / "study/runs").glob("alone-s*/scores-at-elsewhere-*.npz"))
    arms = {"alone": [Scores.load(file) for file in files]}
    for scene in by_scene(arms):
        each = []
        for scores in arms["alone"]:
            part = scores.select([i for i, tile in enumerate(scores.tiles) if tile[0] == scene["scene"]])
            each.append(summarise(part)["mean_ap"])
        assert scene["mean_ap"]["alone"] == pytest.approx(sum(each) / 2, abs=1e-5)
