"""The Map page: what it says, what its widgets lead to, and what happens when an address asks for what is not there."""

import json
import shutil

import pytest

from kdcore.evaluation.scores import Scores
from kdcore.evaluation.worst import lost_tiles
from kdcore.inference.uploads import receive
from kdcore.jobs.workspace import Workspace
from tests.pages.conftest import HOSTILE, primary_buttons, text_of, words_of


def drawn(at) -> dict:
    """What streamlit-folium is given."""
    (component,) = at.get("component_instance")
    return json.loads(component.proto.json_args)


def test_it_opens_with_teacher_and_distilled_student(workspace, open_page):
    at = open_page("map", study="town")
    assert "Left of the handle what the teacher marked; right of it what the distilled student marked." in words_of(at)
    shown = drawn(at)
    assert '"name": "Teacher"' in shown["feature_group"]
    assert "mask-distilled-s0" in shown["feature_group"]
    assert shown["returned_objects"] == []
    assert all(link.startswith("../../leaflet/") for link in shown["js_links"] + shown["css_links"])
    assert len(primary_buttons(at)) <= 1


def test_other_layers_change_what_is_shown_but_not_the_map(workspace, open_page):
    at = open_page("map", study="town")
    before = drawn(at)
    at.selectbox(key="left").select("truth").run()
    at.selectbox(key="right").select("disagreement").run()
    at.segmented_control(key="view").select("side").run()
    after = drawn(at)
    assert after["script"] == before["script"]  # another one would mean a new frame
    assert '"mode": "side"' in after["feature_group"]
    assert "disagreement-teacher-s0-distilled-s0" in after["feature_group"]
    assert "On the left the truth, as people labelled it; on the right colours show where the teacher or" in words_of(
        at
    )


def test_the_next_worst_tile_is_the_next_worst_tile(workspace, open_page):
    teacher, student = (
        Scores.load(workspace / f"town/runs/{run}/scores.npz") for run in ("teacher-s0", "distilled-s0")
    )
    ranked = lost_tiles(teacher, student)
    at = open_page("map", study="town")
    for number in (1, 2, 3):
        next(button for button in at.button if button.label == "Next worst tile").click().run()
        tile = ranked[number - 1]
        assert f"number {number} of {len(ranked)} by what was lost" in words_of(at)
        assert f"the student is wrong in {100 * tile.student / tile.scored:.0f}" in words_of(at)
        assert f'"key": "test-area {tile.row} {tile.column}"' in drawn(at)["feature_group"]
        assert at.query_params["tile"] == str(number)


def test_tiles_of_a_scene_without_a_map_are_passed_over(workspace, open_page):
    file = workspace / "town/layers/layers.json"
    file.write_text(file.read_text().replace('"name": "test_area"', '"name": "another"'))
    at = open_page("map", study="town")
    assert next(button for button in at.button if button.label == "Next worst tile").disabled


@pytest.mark.parametrize(
    "address", [{"scene": "nope", "left": "nope"}, {"tile": "999999"}, {"tile": "x"}, {"view": "up"}, {"tile": "-1"}]
)
def test_an_address_that_asks_for_what_is_not_there_shows_the_default(workspace, open_page, address):
    at = open_page("map", study="town", **address)
    assert "Left of the handle what the teacher marked" in words_of(at)
    assert "outlined tile" not in words_of(at)


NAMES = ("red", "green", "blue", "nir", "<i>fifth</i>")


def give_bands(file, numbers=(1, 2, 3, 4, 5)):
    """What `layers.json` says of imagery with more bands than three."""
    layers = json.loads(file.read_text())
    known = {"red": "red", "green": "green", "blue": "blue", "nir": "nir"}
    for scene in layers["scenes"]:
        scene["bands"] = [
            {"number": number, "name": NAMES[number - 1], "meaning": known.get(NAMES[number - 1], "")}
            for number in numbers
        ]
        scene["shown"] = [1, 2, 3]
    file.write_text(json.dumps(layers))


class TestBands:
    @pytest.fixture
    def wide(self, workspace):
        give_bands(workspace / "town/layers/layers.json")

    def test_of_plain_colour_imagery_cannot_be_chosen(self, workspace, open_page):
        at = open_page("map", study="town", bands="3,2,1")
        assert not [box for box in at.selectbox if box.key == "combination"]
        assert "bands=" not in drawn(at)["feature_group"]

    def test_that_are_usual_are_shown_first(self, wide, open_page):
        at = open_page("map", study="town")
        assert at.selectbox(key="combination").options == [
            "True colour: 1, 2, 3",
            "Colour infrared: 4, 1, 2",
            "Bands of your own choice",
        ]
        assert "In the imagery, red is band 1 (red), green is band 2 (green), blue is band 3 (blue)." in words_of(at)
        assert "bands=" not in drawn(at)["feature_group"]

    def test_are_chosen_together_one_by_one_or_in_grey(self, wide, open_page):
        at = open_page("map", study="town")
        before = drawn(at)["script"]
        at.selectbox(key="combination").select((4, 1, 2)).run()
        assert "\\u0026bands=4,1,2" in drawn(at)["feature_group"]
        assert at.query_params["bands"] == "4,1,2"
        assert "red is band 4 (near infrared), green is band 1 (red)" in words_of(at)
        at.selectbox(key="band 1").select(5).run()
        assert at.query_params["bands"] == "4,5,2"
        assert at.selectbox(key="combination").value == ()
        assert "green is band 5 (<i>fifth</i>)" in words_of(at)
        at.toggle(key="grey").set_value(True).run()
        assert "In the imagery, grey is band 4 (near infrared)." in words_of(at)
        at.selectbox(key="band 0").select(2).run()
        assert "\\u0026bands=2" in drawn(at)["feature_group"]
        at.toggle(key="grey").set_value(False).run()
        assert "bands=" not in drawn(at)["feature_group"]
        assert drawn(at)["script"] == before  # the same map, with other pictures

    @pytest.mark.parametrize("bands", ["4,1,2", "5"])
    def test_stand_in_the_address(self, wide, open_page, bands):
        assert f"bands={bands}" in drawn(open_page("map", study="town", bands=bands))["feature_group"]

    @pytest.mark.parametrize("bands", ["9,1,2", "1,2", "<b>", "0", "1e3", "\u0661"])
    def test_that_are_not_there_leave_the_usual_ones(self, wide, open_page, bands):
        assert "bands=" not in drawn(open_page("map", study="town", bands=bands))["feature_group"]

    def test_of_a_file_of_ones_own_are_its_own(self, workspace, open_page):
        upload = given(workspace, "mine.tif", "finished")
        layers = json.loads((workspace / "town/layers/layers.json").read_text())
        layers["scenes"][0]["id"] = upload.id
        (upload.path / "layers.json").write_text(json.dumps(layers))
        give_bands(upload.path / "layers.json", numbers=(1, 2, 3, 5))
        at = open_page("map", study="town", bands="5,2,1")
        at.selectbox(key="scene").select(upload.id).run()
        assert f"tiles/town/{upload.id}/imagery" in drawn(at)["feature_group"]
        assert "bands=5,2,1" in drawn(at)["feature_group"]
        at.selectbox(key="scene").select("test-area").run()
        assert "bands=" not in drawn(at)["feature_group"]


def test_a_study_without_maps_says_so(workspace, open_page):
    shutil.rmtree(workspace / "town/layers")
    at = open_page("map", study="town")
    assert "this study has no map yet" in words_of(at)
    assert not at.get("component_instance")


def test_without_studies_there_is_one_button(empty_workspace, open_page):
    at = open_page("map")
    assert len(at.button) == 1
    assert not at.get("component_instance")


def test_titles_are_text(workspace, open_page):
    at = open_page("map", study="hostile")
    assert HOSTILE not in text_of(at)
    assert "onerror" not in drawn(at)["script"]


def given(workspace, name, state):
    """A file of one's own in a state, as its process would leave it."""
    with (workspace / ".areas/town/images/test_area.tif").open("rb") as file:
        upload = receive(Workspace(workspace), "town", name, file)
    upload.write_status(upload.status.model_copy(update={"state": state, "message": "A *note*."}))
    return upload


def test_show_stands_outside_the_part_that_redraws_itself(workspace, open_page, monkeypatch):
    """A button in a fragment reruns no more than the fragment: 'Show' would not move the map."""
    given(workspace, "done.tif", "finished")
    given(workspace, "busy.tif", "queued")
    redrawn = []
    monkeypatch.setattr("kdcore.ui.own_file.watch", lambda *given: redrawn.append(given[-1]))
    at = open_page("map", study="town")
    assert redrawn == [1]
    assert [button.label for button in at.button if button.label in ("Show", "Stop")] == ["Show"]


def test_a_file_of_ones_own_has_no_truth(workspace, open_page):
    upload = given(workspace, "roofs [x](y).tif", "finished")
    layers = Workspace(workspace).study("town").layers
    text = (layers / "layers.json").read_text().replace('"id": "test-area"', f'"id": "{upload.id}"')
    (upload.path / "layers.json").write_text(text)
    upload.maps.mkdir()
    shutil.copy(workspace / "town/runs/teacher-s0/maps/test_area.tif", upload.maps / "teacher-s0.probabilities.tif")
    at = open_page("map", study="town")
    at.selectbox(key="left").select("truth").run()
    at.selectbox(key="scene").select(upload.id).run()
    assert not at.exception
    assert f"tiles/town/{upload.id}/mask-teacher-s0" in drawn(at)["feature_group"]
    assert at.selectbox(key="left").options == [
        "Imagery",
        "Teacher",
        *(f"Teacher: probability of {name}" for name in ("land", "building", "water")),
    ]
    assert "roofs [x](y).tif: finished – A *note*." in words_of(at)
    next(button for button in at.button if button.label == "Remove").click().run()
    assert not at.exception
    assert not upload.path.exists()
    assert at.selectbox(key="scene").value == "test-area"
