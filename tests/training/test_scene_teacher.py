"""Students taught by answers about the scene: the answers lie as the crops do, and disks, stops and seeds change nothing."""

import json

import numpy as np
import pytest
import torch

from kdcore.data.batches import Batches, keep_inside, turn
from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import CheckpointInfo, load_tensors, save_network
from kdcore.models.networks import build_network
from kdcore.settings import Hardware, Recipe
from kdcore.teacher.soft_labels import FOLDER
from kdcore.teacher.teacher import Teacher
from kdcore.training.run import execute
from tests.conftest import TINY, run_settings, write_collection

SCENE = Recipe(alpha=0.6, teacher_sees="scene")


class Echo:
    """'Answers' that are the imagery itself, twice: whatever a crop shows, its answers must show."""

    def __init__(self, collection) -> None:
        self.collection = collection

    def crop(self, region, box, turns, flip):
        crop = keep_inside(self.collection.reader.read(region.scene, box), box, region.box)
        image = turn(crop.image, turns, flip).astype(np.float16)
        return np.stack([image, image + 1])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("scene") / "collection", unlabelled=True)


@pytest.fixture(scope="module")
def checkpoint(path):
    network = build_network(TINY, 3, 3, [100.0] * 3, [40.0] * 3, seed=9)
    info = CheckpointInfo(
        network=TINY,
        bands=3,
        band_numbers=(1, 2, 3),
        classes=("land", "building", "water"),
        metres_per_pixel=0.5,
        dtype="uint8",
    )
    save_network(path.parent.parent / "teacher.safetensors", network, info)
    return path.parent.parent / "teacher.safetensors"


class TestBatches:
    def make(self, path, crop: int, answers: bool, **options) -> Batches:
        collection = Collection.open(path)
        served = Echo(collection) if answers else None
        found = survey(collection, crop)
        return Batches(collection, found, seed=3, batch_size=4, crop=crop, unlabelled=2, soft_labels=served, **options)

    @pytest.mark.parametrize("crop", [64, 160])
    def test_answers_lie_as_the_crops_do(self, path, crop):
        made = self.make(path, crop, True, jitter=0.0)
        for step in range(8):
            batch = made.batch(step)
            assert batch.teacher.shape == (6, 2, 3, crop, crop)
            valid = batch.valid[:, None].expand_as(batch.image)
            for answer in (0, 1):
                assert torch.equal((batch.teacher[:, answer].float() - answer)[valid], batch.image[valid].round())

    def test_the_crops_are_the_same_with_and_without(self, path):
        with_answers, without = (self.make(path, 64, answers) for answers in (True, False))
        for step in range(4):
            taught, plain = with_answers.batch(step), without.batch(step)
            assert plain.teacher is None
            for name in ("image", "labels", "valid"):
                assert torch.equal(getattr(taught, name), getattr(plain, name))

    def test_moving_a_batch_moves_them(self, path):
        batch = self.make(path, 64, True).batch(0).map(lambda tensor: tensor[:1])
        assert len(batch.teacher) == 1
        assert self.make(path, 64, False).batch(0).map(lambda tensor: tensor[:1]).teacher is None


def run_in(folder, path, checkpoint, name: str = "run", **values) -> RunDirectory:
    settings = run_settings(path, "distilled", **({"recipe": SCENE, "teacher": (checkpoint,)} | values))
    return RunDirectory.create(folder / name, settings)


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_tensors(run.state)[0].items() if name.startswith("network/")}


def same_weights(one: RunDirectory, other: RunDirectory) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestRuns:
    def test_the_report_tells_how_they_were_served_and_another_seed_finds_them(self, path, checkpoint, tmp_path):
        told: list[Progress] = []
        one = run_in(tmp_path, path, checkpoint)
        execute(one, told.append, test=False)
        served = one.read_report()["soft_labels"]
        # Two train scenes of 128 x 128 px; three classes and their level; eight views of two bytes.
        assert served["bytes"] == 2 * 128 * 128 * 4 * 8 * 2
        assert (served["served"], served["views"], served["reason"]) == ("cache", 8, "")
        assert 0 <= served["disagreement"]["other_class"] <= 1
        told = [progress for progress in told if progress.stage is Stage.SOFT_LABELS]
        assert told[0] == Progress("run", Stage.SOFT_LABELS, 0, 2, "2.1 MB")
        assert (told[-1].done, told[-1].total) == (2, 2)
        files = {file: file.stat().st_mtime_ns for file in (tmp_path / FOLDER).glob("*/*.f16")}
        assert len(files) == 2
        execute(run_in(tmp_path, path, checkpoint, "other", seed=1), test=False)
        assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / FOLDER).glob("*/*.f16")}

    def test_without_space_the_student_is_the_same_bit_for_bit(self, path, checkpoint, tmp_path):
        kept, live = (
            run_in(tmp_path, path, checkpoint, f"{gb}", hardware=Hardware(device="cpu", cache_gb=gb)) for gb in (1, 0)
        )
        for run in (kept, live):
            execute(run, test=False)
        assert (kept.read_report()["soft_labels"]["served"], live.read_report()["soft_labels"]["served"]) == (
            "cache",
            "live",
        )
        assert same_weights(kept, live)
        assert "computed live" in (live.path / "log.txt").read_text()

    @pytest.mark.parametrize("gb", [1.0, 0.0])
    def test_a_stopped_run_goes_on_exactly(self, path, checkpoint, tmp_path, gb):
        hardware = Hardware(device="cpu", cache_gb=gb)
        straight, halted = (run_in(tmp_path, path, checkpoint, name, hardware=hardware) for name in ("a", "b"))
        execute(straight, test=False)
        steps: list[Stage] = []
        execute(halted, lambda told: steps.append(told.stage), lambda: steps.count(Stage.TRAINING) == 3)
        assert halted.status.state == "stopped"
        execute(halted, test=False)
        assert same_weights(straight, halted)

    def test_a_wish_to_stop_while_they_are_computed_is_heard(self, path, checkpoint, tmp_path):
        run = run_in(tmp_path, path, checkpoint)
        told: list[Progress] = []

        def should_stop() -> bool:
            return any(progress.stage is Stage.SOFT_LABELS and progress.done == 1 for progress in told)

        execute(run, told.append, should_stop)
        assert run.status.state == "stopped"
        assert not any(progress.stage is Stage.TRAINING for progress in told)
        execute(run, test=False)
        assert run.report.exists()

    @pytest.mark.parametrize(("limit", "stays"), [(20.0, False), (0.0, True)])
    def test_its_weights_leave_the_memory_once_its_answers_are_kept(
        self, path, checkpoint, tmp_path, monkeypatch, limit, stays
    ):
        loaded = []
        load = Teacher.load

        def remember(*arguments, **options):
            loaded.append(load(*arguments, **options))
            return loaded[-1]

        monkeypatch.setattr(Teacher, "load", remember)
        run = run_in(tmp_path, path, checkpoint, hardware=Hardware(device="cpu", cache_gb=limit))
        execute(run, test=False)
        assert {tensor.is_meta for tensor in loaded[0].state_dict().values()} == {not stays}

    def test_the_student_alone_asks_nobody(self, path, tmp_path):
        run = RunDirectory.create(tmp_path / "run", run_settings(path, "alone"))
        execute(run, test=False)
        assert not (tmp_path / FOLDER).exists()
        assert "soft_labels" not in run.read_report()

    def test_the_teacher_sees_the_scene_and_not_the_crop(self, path, checkpoint, tmp_path):
        """Another student comes of it, because the crops are jittered and end at their edges."""
        scene = run_in(tmp_path, path, checkpoint, "scene")
        crop = run_in(tmp_path, path, checkpoint, "crop", recipe=SCENE.model_copy(update={"teacher_sees": "crop"}))
        for run in (scene, crop):
            execute(run, test=False)
        assert not same_weights(scene, crop)
        assert "soft_labels" not in crop.read_report()

    @pytest.mark.parametrize(
        "values",
        [
            {"teacher_flips": True},
            {"recipe": SCENE.model_copy(update={"mix": "cutmix"})},
            {"recipe": SCENE.model_copy(update={"unlabelled": 1.0, "alpha": 1.0})},
            {"recipe": SCENE.model_copy(update={"distillation": "channel"})},
        ],
        ids=["flips", "cutmix", "unlabelled", "channel"],
    )
    def test_every_recipe_trains_with_them(self, path, checkpoint, tmp_path, values):
        run = run_in(tmp_path, path, checkpoint, **values)
        execute(run, test=False)
        served = run.read_report()["soft_labels"]
        scenes = 3 if run.settings.recipe.unlabelled else 2
        assert served["bytes"] == scenes * 128 * 128 * 4 * 8 * 2
        losses = [line["distillation"] for line in run.read_metrics() if "distillation" in line]
        assert losses
        assert np.isfinite(losses).all()
        json.dumps(served, allow_nan=False)
