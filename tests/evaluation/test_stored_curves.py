"""Curves are measured once: what is kept is what was measured, for as long as the scores behind it are the same."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from kdcore.evaluation import stored_curves
from kdcore.evaluation.stored_curves import FILE, curves_of
from kdcore.jobs.store import RunDirectory
from kdcore.ui import curves as page
from kdcore.views.page import write_page
from tests.synthetic_study import make_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study whose curves are kept."""
    folder = make_study(tmp_path_factory.mktemp("stored") / "study", seeds=2, scenes=1)
    curves_of(folder, keep=True)
    return folder


@pytest.fixture
def kept(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "kept")


@pytest.fixture
def study(kept):
    """One whose curves are not."""
    (kept / FILE).unlink()
    return kept


@pytest.fixture
def measured(monkeypatch):
    """How often curves were measured."""
    calls = []
    really = stored_curves.study_curves
    monkeypatch.setattr(stored_curves, "study_curves", lambda *given: calls.append(1) or really(*given))
    return calls


def flat(value):
    """Every array and number of curves, with its path."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return [(f"{key} {path}", leaf) for key, entry in value.items() for path, leaf in flat(entry)]
    if isinstance(value, (list, tuple)):
        return [(f"{index} {path}", leaf) for index, entry in enumerate(value) for path, leaf in flat(entry)]
    return [("", value)]


def test_what_is_kept_is_what_was_measured(study, measured):
    first, again = flat(curves_of(study, keep=True)), flat(curves_of(study))
    assert len(measured) == 1
    assert [path for path, _ in first] == [path for path, _ in again]
    for (path, one), (_, other) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=path)
        assert np.asarray(one).dtype == np.asarray(other).dtype


def test_page_report_and_dashboard_measure_nothing_again(study, measured):
    report = json.loads((study / "report.json").read_text())
    write_page(study, report)
    assert (study / FILE).is_file()
    write_page(study, report)
    assert page.load_curves.__wrapped__(str(study), ()).classes
    moved = shutil.move(study, study.with_name("elsewhere"))
    curves_of(moved)
    assert len(measured) == 1


def test_looking_writes_nothing(study, measured):
    curves_of(study)
    page.load_curves.__wrapped__(str(study), ())
    assert len(measured) == 2
    assert not (study / FILE).exists()


def test_other_scores_are_measured_anew(kept, measured):
    study, before = kept, curves_of(kept)
    shutil.copy(RunDirectory(study / "runs/teacher-s0").scores, RunDirectory(study / "runs/distilled-s0").scores)
    after = curves_of(study, keep=True)
    assert after.gains[-1].mean > before.gains[-1].mean
    assert curves_of(study).gains == after.gains
    assert len(measured) == 1


@pytest.mark.parametrize("damage", ["text", "half", "scores", "shape", "kind", "arms", "number", "folder"])
def test_a_file_that_holds_something_else_is_not_believed(kept, measured, damage):
    right, file = curves_of(kept), kept / FILE
    whole, arrays = file.read_bytes(), dict(np.load(file))
    file.unlink()
    if damage == "text":
        file.write_text("curves")
    elif damage == "half":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "scores":
        shutil.copy(RunDirectory(kept / "runs/teacher-s0").scores, file)
    elif damage == "folder":
        file.mkdir()
    else:
        change = {
            "shape": {"alone band": arrays["alone band"][:, :, :50]},
            "kind": {"teacher map": arrays["teacher map"].astype(float)},
            "number": {"tiles": np.array(np.inf)},
            "arms": {"arms": np.array(["teacher", "alone", "someone"])},
        }[damage]
        np.savez(file, **(arrays | change))
    np.testing.assert_array_equal(curves_of(kept).gain_band, right.gain_band)
    assert len(measured) == 1


def test_a_page_is_written_where_curves_cannot_be_kept(study):
    (study / FILE).mkdir()
    assert write_page(study, json.loads((study / "report.json").read_text())).is_file()
