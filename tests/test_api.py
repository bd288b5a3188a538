"""A study from Python, as the README shows it."""

import re
from pathlib import Path

import pytest

import kdcore
from kdcore.errors import KdcoreError
from kdcore.jobs.workspace import Workspace
from kdcore.settings import RECIPES, STUDY_PRESETS
from tests.conftest import write_collection
from tests.jobs.studies import tiny_study

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow  # trains seven networks for a few steps, because the README's study has three seeds
def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    write_collection(tmp_path / "demo-area")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(STUDY_PRESETS, "quick", tiny_study())
    (code,) = re.findall(r"```python\n(import kdcore\n.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    known = {}
    exec(code, known)
    verdict, checkpoint = capsys.readouterr().out.splitlines()[-2:]
    assert (
        verdict
        == known["study"].verdict
        == Workspace(tmp_path / "studies").study("first").report()["comparison"]["sentence"]
    )
    assert Path(checkpoint).is_file()
    assert known["precision"].shape == known["recall"].shape
    assert known["study"].folder.settings.recipe.temperature == 2


def test_a_study_gets_no_name_by_which_the_dashboard_finds_something_else(tmp_path):
    with pytest.raises(KdcoreError, match="finds something else by the name 'example'"):
        kdcore.Study(write_collection(tmp_path / "c"), tmp_path / "example")


def test_settings_are_the_presets_with_what_was_asked_for(tmp_path):
    collection = write_collection(tmp_path / "c")
    study = kdcore.Study(collection, tmp_path / "s", recipe="channel-wise", alpha=0.25, seeds=[4])
    settings = study.folder.settings
    assert settings.recipe == RECIPES["channel-wise"].model_copy(update={"alpha": 0.25})
    assert settings.seeds == (4,)
    assert settings.teacher == STUDY_PRESETS["quick"].teacher
    with pytest.raises(KdcoreError, match="is not finished"):
        study.report  # noqa: B018
    with pytest.raises(KdcoreError, match="alpha"):
        kdcore.Study(collection, tmp_path / "other", alpha=2)


def test_importing_the_package_is_light():
    assert kdcore.__version__
    with pytest.raises(AttributeError, match="no attribute 'Stady'"):
        kdcore.Stady  # noqa: B018
