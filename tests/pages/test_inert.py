"""Names are text: markup, links and marks that turn the direction of writing do nothing on any page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.ui.formatting import plain, visible
from tests.map_study import make_map_study
from tests.server.test_addresses import contents as contents_of

TURNED = "\u202e"  # what follows is shown from right to left: 'photo_gpj.exe' looks like 'photo_exe.jpg'
EVIL = f"<img src=x onerror=alert(1)> **bold**[x](http://y) {TURNED}gpj.exe"
SCENE = f"<img src=x> **bold**[x](y){TURNED}"
MARKED = re.compile(rb"\*\*bold\*\*\[x\]\(|(?<!\\)<img src=x")
# What these show is no Markdown: their texts are shown as they are.
AS_TYPED = {"selectbox", "multiselect", "text_input", "text_area", "code", "dataframe", "number_input", "iframe",
            "component_instance", "plotly_chart", "arrow_vega_lite_chart", "bidi_component"}  # fmt: skip
PAGES = ("start", "train", "map", "curves", "deploy", "runs", "sweep", "data")


@pytest.fixture(scope="module")
def odd_studies(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "studies"
    study = StudyFolder(make_map_study(folder, "odd", classes=("land", EVIL[:60], f"{TURNED}_water_")))
    study.write_about(About(title=EVIL, collection=folder / ".areas/odd/collection.yaml", created=2e9))
    study.write_status(Status(state="finished", device="cpu", seconds=1.0, message=EVIL))
    index = study.path / "layers/layers.json"
    layers = json.loads(index.read_text())
    former, layers["scenes"][0]["name"] = layers["scenes"][0]["name"], SCENE
    index.write_text(json.dumps(layers))
    for run in (study.path / "runs").iterdir():
        (run / f"maps/{former}.tif").rename(run / f"maps/{SCENE}.tif")
    report = json.loads((study.path / "report.json").read_text())
    for arm in ("teacher", "alone", "distilled"):
        report["arms"][arm]["megapixels_per_second"] = 1.0
    (study.path / "report.json").write_text(json.dumps(report))
    return folder


def elements(at: AppTest) -> Iterator[tuple[str, bytes]]:
    """Kind and contents of everything on a page."""
    stack = [at._tree]
    while stack:
        node = stack.pop()
        stack += getattr(node, "children", {}).values()
        proto = getattr(node, "proto", None)
        if proto is not None and hasattr(proto, "SerializeToString"):
            yield node.type, proto.SerializeToString()


@pytest.mark.parametrize("page", PAGES)
def test_names_are_inert(odd_studies, monkeypatch, tmp_path, open_page, page):
    monkeypatch.setenv("KDCORE_WORKSPACE", str(odd_studies))
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "no example")
    address = {"studies": "odd"} if page == "runs" else {"collection": str(odd_studies / ".areas/odd")} if page == "data" else {"study": "odd"}  # fmt: skip
    at = open_page(page, **address)
    found = list(elements(at))
    assert len(found) > 3
    for kind, contents in found:
        assert TURNED.encode() not in contents, f"{kind} turns the direction of writing: {contents[:300]!r}"
        if kind not in AS_TYPED:
            assert not MARKED.search(contents), f"{kind} takes a name for Markdown: {contents[:300]!r}"


def test_the_marks_are_taken_out_and_letters_stay():
    assert visible(f"a{TURNED}b\u2066c\u2069\u200f\u061cd") == "abcd"
    assert visible("नेपाल بانيپا Zürich 北京 👩‍🌾") == "नेपाल بانيپا Zürich 北京 👩‍🌾"  # joiners belong to these
    assert visible("a\x00b\x1b[31mc") == "ab[31mc"
    assert plain(f"{TURNED}**x**") == "\\*\\*x\\*\\*"


@pytest.mark.parametrize("page", PAGES)
def test_opening_a_link_changes_nothing(odd_studies, monkeypatch, tmp_path, open_page, page):
    """Whatever stands in it: buttons act, addresses do not."""
    monkeypatch.setenv("KDCORE_WORKSPACE", str(odd_studies))
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "no example")
    before = contents_of(odd_studies)
    for word in ("delete", "stop", "start"):
        open_page(
            page, study="odd", studies="odd", collection=str(odd_studies / ".areas/odd"), action=word, **{word: "1"}
        )
    names = ("seeds", "steps", "labels", "trial", "tile", "threshold", "temperature", "alpha", "batch_size", "trials")
    for odd in ("9" * 5_000, "nan", "-inf", "1e999"):
        open_page(page, **dict.fromkeys(names, odd))
    assert contents_of(odd_studies) == before
