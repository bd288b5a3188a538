"""Labels: curves of studies and of commands, and what is said of them."""

import json

import pytest

from kdcore.evaluation.label_curve import curve_report
from kdcore.files import write_json
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.settings import save
from tests.pages.conftest import HOSTILE, primary_buttons, text_of, words_of
from tests.synthetic_study import make_study
from tests.views.test_label_curve import REPORT


def figure_of(at) -> dict:
    (chart,) = at.get("plotly_chart")
    return json.loads(chart.proto.spec)


def stored(**changes) -> dict:
    report = json.loads(json.dumps(REPORT)) | {"unfinished": [], "basis": "They do not cover *places*."} | changes
    for point, share in zip(report["points"], (None, 0.4), strict=True):
        point["worth"]["share"] = share
    return report


def test_without_a_curve_there_is_the_way_to_one(workspace, open_page):
    at = open_page("labels")
    assert "No label curve yet" in words_of(at)
    assert primary_buttons(at) == ["Choose shares on Train"]
    assert not at.get("plotly_chart")


def test_a_command_s_curve_is_shown_from_what_it_stored(workspace, open_page):
    (workspace / "curve").mkdir()
    write_json(workspace / "curve/labels.json", stored(unfinished=[0.5]))
    at = open_page("labels")
    assert at.subheader[0].value == "Distilling with 100 % is worth it\\."  # of the first share, nothing can be said
    assert "- Distilling with 10 % is worth it." in words_of(at)
    assert "Not finished: 50 %. Give the command that made this curve again to go on." in words_of(at)
    assert [(trace["name"], trace["y"]) for trace in figure_of(at)["data"]] == [
        ("Student alone", [60, 80]),
        ("Distilled student", [70, 82]),
    ]
    assert list(at.table[0].value["Gain, points"]) == ["+10.0 (+8.0 to +11.0)", "+2.0 (+0.0 to +3.0)"]
    assert primary_buttons(at) == []


@pytest.mark.parametrize("text", ["{}", "[", '{"points": [{"labels": NaN}]}'])
def test_a_broken_one_gets_a_sentence(workspace, open_page, text):
    (workspace / "curve").mkdir()
    (workspace / "curve/labels.json").write_text(text)
    assert "labels.json" in words_of(open_page("labels"))


def test_texts_of_a_stored_curve_are_text(workspace, open_page):
    report = stored(basis=HOSTILE)
    for point in report["points"]:
        point["worth"]["sentence"] = HOSTILE
    (workspace / "curve").mkdir()
    write_json(workspace / "curve/labels.json", report)
    assert HOSTILE not in text_of(open_page("labels"))


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    """Two finished studies with 10 and 30 % of the labels."""
    folder = tmp_path_factory.mktemp("curve")
    for name, share, skills in (("ten", 0.1, (1.6, 1.9)), ("thirty", 0.3, (2.0, 2.2))):
        study = StudyFolder(
            make_study(
                folder / name,
                classes=("land", "building"),
                seeds=2,
                scenes=1,
                labels=share,
                skills={"teacher": 2.6, "alone": skills[0], "distilled": skills[1]},
            )
        )
        study.write_about(About(title=f"Town: {100 * share:g} % of the labels", demo=0, created=1e9))
        study.write_status(Status(state="finished", device="cpu"))
    return folder


def test_studies_of_several_shares_are_a_curve(curve, empty_workspace, open_page):
    empty_workspace.symlink_to(curve)
    expected = curve_report({0.1: curve / "ten", 0.3: curve / "thirty"})
    at = open_page("labels")
    assert [trace["x"] for trace in figure_of(at)["data"]] == [[10, 30], [10, 30]]
    for point in expected["points"]:
        assert point["worth"]["sentence"] in words_of(at)
    assert not at.selectbox  # one curve is no choice


def test_what_is_not_finished_can_be_watched(curve, empty_workspace, open_page):
    empty_workspace.mkdir()
    for name in ("ten", "thirty"):
        (empty_workspace / name).symlink_to(curve / name)
    fifty = StudyFolder(empty_workspace / "fifty")
    fifty.path.mkdir()
    settings = StudyFolder(curve / "ten").settings
    save(settings.model_copy(update={"labels": 0.5}), fifty.settings_file)
    fifty.write_about(About(title="Town: 50 % of the labels", demo=0, created=2e9))
    fifty.write_status(Status(state="stopped"))
    at = open_page("labels", curve="ten")
    assert ":orange-badge[stopped] 50 % of the labels" in text_of(at)
    (link,) = [link for link in at.page_link if link.label == "Watch"]
    assert "study=fifty" in link.proto.query_string
