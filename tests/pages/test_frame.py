"""All pages open, with and without studies; none leads to torch."""

import subprocess
import sys

import pytest

from kdcore.ui.words import PAGES
from tests.pages.conftest import FRAME, HOSTILE, primary_buttons, text_of

NAMES = [page.file.removesuffix(".py") for page in PAGES]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_with_one_thing_to_do_at_most(name, workspace, open_page):
    at = open_page(name)
    assert at.title
    assert len(primary_buttons(at)) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_without_any_study_a_page_offers_one_thing_to_do(name, empty_workspace, open_page):
    at = open_page(name)
    assert len(primary_buttons(at)) == 1


@pytest.mark.parametrize("name", ["train", "map", "curves", "deploy", "runs"])
def test_a_study_that_is_not_there_gets_a_sentence(name, workspace, open_page):
    at = open_page(name, study="gone")
    if name != "runs":
        assert "There is no study “gone”" in text_of(at)


@pytest.mark.parametrize("name", ["train", "map", "curves", "deploy"])
def test_a_title_with_markup_stays_text(name, workspace, open_page):
    at = open_page(name, study="hostile")
    assert HOSTILE not in text_of(at)  # escaped wherever Markdown is understood
    assert not [element for element in at.markdown if element.allow_html and "<img src=x" in element.value]


def test_no_page_imports_torch(finished_studies):
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({str(FRAME)!r}, default_timeout=600).run()
for name in {NAMES!r}:
    at.switch_page(name + ".py").run()
    assert not at.exception, (name, at.exception[0].value)
sys.exit("torch" in sys.modules)
"""
    import os

    environment = os.environ | {"KDCORE_WORKSPACE": str(finished_studies)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
