"""Watching networks learn, in a browser: the pictures that the trainings write are shown, and renewed while a study runs."""

from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from tests.map_study import make_map_study


def draw(run: Path, step: int) -> None:
    """What a training writes."""
    texts = PngInfo()
    texts.add_text("step", str(step))
    (run / "watched").mkdir(exist_ok=True)
    picture = Image.fromarray(np.full((64, 64, 3), step % 256, dtype=np.uint8))
    picture.save(run / "watched/photo.jpg")
    picture.save(run / "watched/truth.png")
    picture.save(run / "watched/new.png", pnginfo=texts)
    (run / "watched/new.png").replace(run / "watched/prediction.png")


def test_pictures_are_renewed_while_a_study_runs(visit, workspace):
    study = StudyFolder(make_map_study(workspace, "learning"))
    (study.path / "report.json").unlink()
    study.write_status(Status(state="running"))
    with FileLock(study.lock):
        draw(study.path / "runs/teacher-s0", 100)
        page = visit("/train?study=learning")
        teacher = page.get_by_role("img", name="Teacher, step 100 of 400")
        expect(teacher).to_be_visible()
        assert teacher.evaluate("image => image.naturalWidth") == 64
        expect(page.get_by_role("img", name="Student alone, no picture yet")).to_be_visible()
        expect(page.get_by_role("img", name="Truth")).to_be_visible()
        draw(study.path / "runs/teacher-s0", 200)
        draw(study.path / "runs/alone-s0", 100)
        expect(page.get_by_role("img", name="Teacher, step 200 of 400")).to_be_visible()
        expect(page.get_by_role("img", name="Student alone, step 100 of 400")).to_be_visible()
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.locator("[data-testid=stMain]").evaluate("main => main.scrollWidth - main.clientWidth") <= 1
    study.write_status(Status(state="stopped"))
