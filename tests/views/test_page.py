"""The report's page: whole in one file, true to the numbers, and deaf to what names try to say."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import rasterio
from PIL import Image

from kdcore.evaluation.report import arm_runs, study_report
from kdcore.evaluation.scores import Scores
from kdcore.settings import CollectionSettings, SplitSettings, class_colours
from kdcore.views.page import pick_tiles, picture_rows, write_page
from kdcore.views.pictures import blend, data_uri, show_imagery, show_labels
from tests.conftest import write_collection
from tests.odds import map_table
from tests.synthetic_study import make_study

VIRTUAL = ("br", "img", "input", "meta", "link", "hr", "col")


class Page(HTMLParser):
    """Collects what a browser would build: tags with attributes, and the words outside scripts and styles."""

    def __init__(self, path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VIRTUAL:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(tiny_study, tmp_path_factory):
    """The tiny study's report and its page."""
    study = shutil.copytree(tiny_study, tmp_path_factory.mktemp("page") / "study")
    report = study_report(study)
    return report, write_page(study, report)


@pytest.fixture
def page(written):
    return Page(written[1])


def test_nothing_is_fetched_from_elsewhere(page):
    loads = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "poster", "data", "action", "formaction", "background")
    ]
    assert loads
    assert all((value or "").startswith("data:image/png;base64,") for _, _, value in loads)
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed", "base")]
    styles = " ".join(attributes.get("style") or "" for _, attributes in page.tags)
    assert not re.search(r"url\(|@import", styles)


def test_the_page_stands_under_its_name_and_is_whole(written):
    assert written[1].name == "report.html"
    assert written[1].read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert not [file for file in written[1].parent.iterdir() if file.name.startswith(".")]


def test_it_tells_the_verdict_and_the_numbers(written, page):
    report = written[0]
    assert report["comparison"]["sentence"] in page.text
    for arm in report["arms"].values():
        assert f"{arm['parameters']:,}" in page.text
        assert f"{100 * arm['mean_ap']:.1f}" in page.text
        assert f"{100 * arm['mean_iou']:.1f}" in page.text
    assert report["formula"] in page.text
    assert "with T = 2.0 and alpha = 0.5" in page.text


def test_it_warns_of_a_teacher_that_can_hardly_teach(tiny_study, written, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    sentence = "The teacher is only 0.8 points better than the student alone: it can hardly teach anything."
    for clear in (False, True):
        advantage = {"clear": clear, "sentence": sentence}
        text = Page(write_page(study, written[0] | {"teacher_advantage": advantage})).text
        assert (sentence in text) is not clear


def test_it_tells_what_made_the_teacher_stronger_and_what_the_students_had(tiny_study, written, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    parts = [
        {"name": "Best checkpoint", "mean_ap": 0.8, "points": None},
        {"name": "Eight views", "mean_ap": 0.823, "points": 2.3},
    ]
    arms = {name: dict(arm) for name, arm in written[0]["arms"].items()}
    arms["teacher"]["parts"] = parts
    arms["alone"] |= {"labels": 0.1, "steps": 1234}
    arms["distilled"]["labels"] = 0.1
    text = Page(write_page(study, written[0] | {"arms": arms})).text
    assert "Best checkpoint 80.0 –" in text
    assert "Eight views 82.3 +2.30" in text
    assert "the teacher had all labels (the students 10.0 % of them)" in text
    assert "The student alone took 1,234 steps and the distilled student 6" in text


def test_it_shows_masks_beside_the_truth(written, page):
    """Three places, each with imagery, truth and three arms; every picture has a text for those who do not see it."""
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3 * 5
    assert all(attributes["alt"] for attributes in pictures)
    for attributes in pictures:
        raw = base64.b64decode(attributes["src"].partition(",")[2])
        assert Image.open(io.BytesIO(raw)).size == (128, 128)


def test_the_truth_it_shows_is_the_mask(tiny_study, written):
    """Colours of the picture, undone: imagery x 0.4 + class colour x 0.6."""
    colours = ["#FF0000", "#00FF00", "#0000FF"]
    runs = arm_runs(tiny_study)
    row = picture_rows(written[0], runs, colours)[0]
    pictures = {
        title: np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), dtype=float)
        for title, uri in row["pictures"]
    }
    with rasterio.open(tiny_study.parent / "collection/masks/d.tif") as mask:
        labels = mask.read(1)
    with rasterio.open(tiny_study / "runs/alone-s0/maps/d.tif") as levels:
        alone = levels.read().argmax(axis=0)
    for title, expected in (("Truth", labels), ("Student alone", alone)):
        colour = (pictures[title] - 0.4 * pictures["Imagery"]) / 0.6
        np.testing.assert_array_equal(colour.argmax(axis=-1), expected)


def test_places_are_easy_typical_and_hard():
    """Ten tiles of 100 pixels of two classes with 50, 55, ... 95 right ones, not in order."""
    right = np.array([75, 50, 95, 60, 65, 90, 70, 55, 80, 85])
    confusion = np.zeros((10, 2, 2), dtype=np.int64)
    confusion[:, 0, 0], confusion[:, 0, 1] = 40, 10
    confusion[:, 1, 1], confusion[:, 1, 0] = right - 40, 90 - right
    histogram = np.zeros((10, 1, 255), dtype=np.uint8)
    tiles = tuple(("s", 0, 32 * index) for index in range(10))
    scores = Scores(
        ("a", "b"), (1,), tiles, *map_table(), histogram, histogram, confusion, np.zeros((10, 2, 2), dtype=np.int64)
    )
    picked = {name: int(right[index]) for name, index in pick_tiles(scores)}
    assert picked == {"easy": 90, "typical": 70, "hard": 55}


def test_imagery_that_is_gone_is_no_reason_to_fail(tiny_study, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    report = study_report(study)
    report["data"]["collection"] = str(tmp_path / "gone.yaml")
    page = Page(write_page(study, report))
    assert "imagery is not at hand any more" in page.text
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_maps_that_are_gone_are_no_reason_to_fail(tiny_study, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    report = study_report(study)
    shutil.rmtree(study / "runs/alone-s0/maps")
    assert report["comparison"]["sentence"] in Page(write_page(study, report)).text


def test_other_imagery_in_its_place_is_no_reason_to_fail(tiny_study, tmp_path):
    """Since the study somebody renamed the scenes."""
    study = shutil.copytree(tiny_study, tmp_path / "study")
    other = write_collection(tmp_path / "collection")
    for folder in ("images", "masks"):
        (other.parent / folder / "d.tif").rename(other.parent / folder / "e.tif")
    other.write_text(other.read_text().replace("- d\n", "- e\n"))
    report = study_report(study)
    report["data"]["collection"] = str(other)
    assert "imagery is not at hand any more" in Page(write_page(study, report)).text


EVIL = (
    '<script>alert("1")</script>',
    "</script><img src=x onerror=alert(2)>",
    '"><b onmouseover=alert(3)>',
    "a & b < c",
)


def test_names_are_shown_and_never_run(tmp_path):
    study = make_study(tmp_path / "study", classes=EVIL, seeds=2, scenes=1)
    report = json.loads((study / "report.json").read_text())
    page = Page(write_page(study, report))
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert "img" not in [tag for tag, _ in page.tags]
    raw = (study / "report.html").read_text()
    assert "<script>alert" not in raw
    assert "<img src=x" not in raw
    assert "<b onmouseover" not in raw
    for name in EVIL:
        assert name in page.text


@pytest.mark.parametrize("values", [{"seeds": 1}, {"metres_per_pixel": None}, {"classes": ("background", "building")}])
def test_studies_of_other_kinds_have_a_page_too(tmp_path, values):
    study = make_study(tmp_path / "study", **({"seeds": 2, "scenes": 1} | values))
    report = json.loads((study / "report.json").read_text())
    page = Page(write_page(study, report))
    assert report["comparison"]["sentence"] in page.text
    assert ("one seed only" in page.text) == (values.get("seeds") == 1)


def test_a_single_tile_has_no_interval_and_still_a_page(tiny_study, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    for run in (study / "runs").iterdir():
        for name in ("scores.npz", "scores-validation.npz"):
            Scores.load(run / name).select([5]).save(run / name)
    report = study_report(study)
    assert report["comparison"]["mean_ap_points"]["low"] is None
    assert "one test tile is too few" in Page(write_page(study, report)).text


class TestPictures:
    def test_8_bit_colours_are_shown_as_they_are(self):
        image = np.random.default_rng(0).integers(0, 255, (3, 5, 6), dtype=np.uint8)
        valid = np.ones((5, 6), bool)
        valid[0, 0] = False
        shown = show_imagery(image, valid)
        np.testing.assert_array_equal(shown[1:], np.moveaxis(image, 0, -1)[1:])
        assert shown[0, 0].tolist() == [255, 255, 255]

    @pytest.mark.parametrize("bands", [1, 4, 13])
    @pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
    def test_anything_else_is_stretched(self, bands, dtype):
        ramp = np.linspace(-300, 3000, 10_000).reshape(100, 100)
        image = np.repeat(np.maximum(ramp, 0 if dtype == np.uint16 else -300)[None], bands, axis=0).astype(dtype)
        shown = show_imagery(image, np.ones((100, 100), bool))
        assert shown.shape == (100, 100, 3)
        assert (shown.min(), shown.max()) == (0, 255)
        assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()

    def test_imagery_without_any_data_is_white(self):
        assert (show_imagery(np.zeros((1, 4, 4), np.uint16), np.zeros((4, 4), bool)) == 255).all()

    def test_labels_have_their_colours_and_the_rest_is_grey(self):
        picture = show_labels(np.array([[0, 1, 255]], dtype=np.uint8), ["#102030", "#FF0000"])
        assert picture.tolist() == [[[0x10, 0x20, 0x30], [255, 0, 0], [120, 120, 120]]]

    def test_a_blend_is_a_weighted_mean(self):
        white, black = np.full((1, 1, 3), 255, np.uint8), np.zeros((1, 1, 3), np.uint8)
        assert blend(white, black, 0.2).tolist() == [[[204, 204, 204]]]

    def test_an_address_holds_the_picture(self):
        picture = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
        again = Image.open(io.BytesIO(base64.b64decode(data_uri(picture).partition(",")[2])))
        np.testing.assert_array_equal(np.asarray(again), picture)


def test_collections_may_give_colours_to_some_classes_only():
    """Then all get colours of one palette, so that no two look alike."""
    assert class_colours(["#112233", "#445566"]) == ["#112233", "#445566"]
    mixed = class_colours(["#112233", None, None])
    assert len(set(mixed)) == 3
    settings = {"name": "x", "split": SplitSettings(train=("a",), validation=("b",), test=("c",))}
    many = CollectionSettings(**settings, classes=tuple({"name": f"c{index}"} for index in range(30)))
    assert len(class_colours([entry.colour for entry in many.classes])) == 30
