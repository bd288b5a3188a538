"""The Mistakes page: which tiles it shows, of which class, and what its links and pictures say."""

import re
import shutil

import pytest

from kdcore.evaluation.scores import Scores
from kdcore.evaluation.worst import lost_tiles
from tests.pages.conftest import HOSTILE, text_of, words_of


def ranked(workspace, kind=None):
    teacher, student = (
        Scores.load(workspace / f"town/runs/{run}/scores.npz") for run in ("teacher-s0", "distilled-s0")
    )
    return lost_tiles(teacher, student, kind)


def headings(at) -> list[str]:
    return [element.value for element in at.markdown if " of " in element.value and element.value.startswith("**")]


def button(at, label):
    return next(button for button in at.button if button.label == label)


def test_the_tiles_come_by_what_was_lost_and_are_turned_page_by_page(workspace, open_page):
    tiles = ranked(workspace)
    at = open_page("mistakes", study="town")
    assert len(headings(at)) == min(4, len(tiles))
    assert headings(at)[0].startswith(f"**1 of {len(tiles)}**")
    assert f"wrong in {100 * tiles[0].student / tiles[0].scored:.0f}" in words_of(at)
    assert button(at, "First").disabled
    assert button(at, "Previous").disabled
    button(at, "Next").click().run()
    assert at.query_params["tile"] == "5"
    assert headings(at)[0].startswith(f"**5 of {len(tiles)}**")
    button(at, "Previous").click().run()
    assert headings(at)[0].startswith("**1 of")


def test_a_class_has_an_order_of_its_own(workspace, open_page):
    at = open_page("mistakes", study="town")
    at.selectbox(key="class").set_value("2").run()
    assert at.query_params["class"] == "2"
    assert headings(at)[0].startswith(f"**1 of {len(ranked(workspace, 2))}**")


def test_every_tile_is_four_pictures_with_names(workspace, open_page):
    at = open_page("mistakes", study="town")
    rows = [element.value for element in at.get("html") if "<figure>" in str(element.value)]
    assert len(rows) == len(headings(at))
    assert re.findall(r'alt="(.*?) of the tile"', rows[0]) == ["Photo", "Truth", "Teacher", "Distilled student"]
    assert rows[0].count("data:image/jpeg;base64,") == 4


def test_a_link_shows_the_tile_on_the_map(workspace, open_page):
    links = [link for link in open_page("mistakes", study="town").page_link if link.label == "On the map"]
    assert "tile=1" in links[0].proto.query_string
    assert "study=town" in links[0].proto.query_string


@pytest.mark.parametrize("address", [{"tile": "999"}, {"tile": "x"}, {"class": "9"}, {"class": "../.."}])
def test_an_address_that_asks_for_what_is_not_there_begins_at_the_first(workspace, open_page, address):
    assert headings(open_page("mistakes", study="town", **address))[0].startswith("**1 of")


def test_what_cannot_be_shown_says_so(workspace, open_page):
    (workspace / "town/layers/test-area/truth.tif").unlink()
    at = open_page("mistakes", study="town")
    assert "is broken or of another study" in words_of(at)
    shutil.rmtree(workspace / "town/layers")
    assert "this study has no map yet" in words_of(open_page("mistakes", study="town"))


def test_titles_are_text(workspace, open_page):
    assert HOSTILE not in text_of(open_page("mistakes", study="hostile"))
