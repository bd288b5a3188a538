"""A run from its directory: what it writes, that it survives SIGKILL and full disks, and what it refuses."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_recall_curve

from kdcore.data.collection import Collection
from kdcore.errors import CheckpointError, DataError, KdcoreError, RunError, SettingsError, TrainingDiverged
from kdcore.evaluation.scores import Scores
from kdcore.files import HALF_WRITTEN
from kdcore.inference.evaluate import evaluate
from kdcore.jobs.progress import Stage
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import load_network, load_tensors
from kdcore.models.networks import build_network
from kdcore.settings import Budget, ClassSettings, EvaluationSettings, Recipe, SplitSettings
from kdcore.training import run as run_module
from kdcore.training.run import evaluate_checkpoint, execute
from kdcore.training.work import checkpoint_info
from tests.conftest import QUICK, SMALL_WINDOWS, paint, run_settings, write_collection, write_raster
from tests.disks import mounted, small_disk

SURVIVOR = Budget(steps=12, batch_size=2, crop=64, validate_every=3, save_every=2, ema=0.9)


def contents(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def leftovers(folder) -> list[str]:
    """Files that were being written."""
    return [str(file) for file in folder.rglob(".*") if file.is_file()]


def same_result(a: RunDirectory, b: RunDirectory) -> None:
    """Weights, averaged weights, optimiser, best checkpoint, scores, maps and reported numbers agree to the bit."""
    for file in ("state", "best"):
        (ours, told), (theirs, expected) = (load_tensors(getattr(run, file)) for run in (a, b))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert {**told, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("positives", "negatives", "confusion", "boundary"):
        np.testing.assert_array_equal(getattr(Scores.load(a.scores), name), getattr(Scores.load(b.scores), name))
    assert {f.name: f.read_bytes() for f in a.maps.iterdir()} == {f.name: f.read_bytes() for f in b.maps.iterdir()}
    measured = dict.fromkeys(("seconds", "finished", "megapixels_per_second"))
    reports = [run.read_report() | measured for run in (a, b)]
    assert reports[0] == reports[1]


class TestAFinishedRun:
    def test_leaves_everything_that_the_design_names(self, finished):
        names = {file.name for file in finished.path.iterdir()} - {"alive.lock"}
        assert names == {
            "settings.yaml", "status.json", "metrics.jsonl", "log.txt", "checkpoints", "watched", "scores.npz",
            "scores-validation.npz", "maps", "report.json",
        }  # fmt: skip
        assert not finished.alive
        assert finished.status.state == "finished"
        assert finished.status.step == finished.status.steps == QUICK.steps
        assert [file.name for file in finished.maps.iterdir()] == ["d.tif"]
        assert not leftovers(finished.path)

    def test_reports_what_its_scores_say(self, finished):
        report = finished.read_report()
        network, info = load_network(finished.best)
        assert report["parameters"] == sum(parameter.numel() for parameter in network.parameters())
        assert (report["arm"], report["seed"], report["steps"]) == ("alone", 0, QUICK.steps)
        assert report["best_step"] == info.step
        assert report["seconds"] > 0
        confusion = Scores.load(finished.scores).confusion.sum(axis=0)
        iou = np.diag(confusion) / (confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion))
        assert report["test"]["mean_iou"] == pytest.approx(np.nanmean(iou))
        assert confusion.sum() == 128 * 128

    def test_takes_thresholds_from_validation_and_reads_the_test_split_with_them(self, finished):
        """All 255 thresholds tried on the validation pixels with scikit-learn; the chosen one then read on the test pixels."""
        validation, test = Scores.load(finished.validation_scores), Scores.load(finished.scores)
        assert {tile[0] for tile in validation.tiles} == {"c"}
        assert {tile[0] for tile in test.tiles} == {"d"}
        for index, name in enumerate(validation.classes):
            positives, negatives = (counts[index] for counts in validation.on_map())
            levels = np.arange(255)
            values = np.concatenate([np.repeat(levels, positives), np.repeat(levels, negatives)])
            truth = np.repeat([1, 0], [positives.sum(), negatives.sum()])
            precision, recall, _ = precision_recall_curve(truth, values)
            best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
            told = finished.read_report()["at_threshold"][name]
            level = round(told["threshold"] * 254)
            assert f1_score(truth, values >= level, zero_division=0) == pytest.approx(best)
            positives, negatives = (counts[index] for counts in test.on_map())
            hit, false = positives[level:].sum(), negatives[level:].sum()
            assert told["recall"] == pytest.approx(hit / positives.sum())
            if hit + false:
                assert told["precision"] == pytest.approx(hit / (hit + false))

    def test_is_never_touched_again(self, finished):
        before = contents(finished.path)
        execute(finished)
        execute(RunDirectory.create(finished.path, finished.settings))
        assert contents(finished.path) == before

    def test_is_not_given_to_other_settings(self, finished, collection):
        before = contents(finished.path)
        with pytest.raises(RunError, match="holds a run with other settings"):
            RunDirectory.create(finished.path, run_settings(collection, seed=1))
        assert contents(finished.path) == before

    def test_gives_the_scores_that_its_checkpoint_gives(self, finished, collection):
        opened = Collection.open(collection)
        network, _ = load_network(finished.best)
        again = evaluate(network, opened, "test", SMALL_WINDOWS, fill=network.fill)
        np.testing.assert_array_equal(again.confusion, Scores.load(finished.scores).confusion)


def work_until_told_otherwise(path, pipe) -> None:
    """What the process that will be killed does: it asks after each report whether it may go on."""

    def report(progress):
        pipe.send((progress.stage, progress.done))
        pipe.recv()

    execute(RunDirectory(path), report)


@pytest.fixture(scope="module")
def undisturbed(collection, tmp_path_factory):
    """The run that the killed ones must end like."""
    run = RunDirectory.create(tmp_path_factory.mktemp("whole") / "run", run_settings(collection, budget=SURVIVOR))
    execute(run)
    return run


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have torch at hand already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kdcore.training.run"])
    return context


class TestSigkill:
    """A real process, killed at a random step or a little after it: in a validation, while saving, in the next step."""

    SEED = int(os.environ.get("KDCORE_TEST_SEED", time.time_ns() % 2**32))

    @pytest.mark.parametrize("number", [0, 1])
    def test_ends_with_the_weights_of_an_undisturbed_run(self, collection, tmp_path, undisturbed, processes, number):
        rng = np.random.default_rng([self.SEED, number])
        step, delay = int(rng.integers(1, SURVIVOR.steps)), float(rng.uniform(0, 0.05))
        print(f"KDCORE_TEST_SEED={self.SEED}: killed {1000 * delay:.0f} ms after step {step}")
        run = RunDirectory.create(tmp_path / "run", run_settings(collection, budget=SURVIVOR))
        ours, theirs = processes.Pipe()
        process = processes.Process(target=work_until_told_otherwise, args=(run.path, theirs))
        process.start()
        while ours.recv() != (Stage.TRAINING, step):
            ours.send("go on")
        assert run.alive
        ours.send("go on")
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert run.status.state == "running"
        assert not run.alive
        assert not run.report.exists()
        execute(run)
        same_result(run, undisturbed)
        assert not leftovers(run.path)

    def test_half_written_files_of_a_killed_process_are_cleared_away(self, collection, tmp_path):
        run = RunDirectory.create(tmp_path / "run", run_settings(collection))
        for name in (
            f"checkpoints/{HALF_WRITTEN}state-abc123.safetensors",
            "checkpoints/.tmpcicEQE",
            f"maps/{HALF_WRITTEN}d-abc123.tif",
            f"{HALF_WRITTEN}report-abc123.json",
        ):
            (run.path / name).parent.mkdir(exist_ok=True)
            (run.path / name).write_bytes(b"half")
        (run.path / ".my-notes.txt").write_text("not half-written, but a person's")
        execute(run)
        assert leftovers(run.path) == [str(run.path / ".my-notes.txt")]


class TestInterruptions:
    def test_a_request_to_stop_is_followed_and_can_be_undone(self, collection, tmp_path, finished):
        run = RunDirectory.create(tmp_path / "run", run_settings(collection))
        steps = []
        execute(run, lambda told: steps.append(told.stage), lambda: steps.count(Stage.TRAINING) == 2)
        assert run.status.state == "stopped"
        assert "resume" in run.status.message
        assert not run.report.exists()
        execute(run)
        assert run.status.state == "finished"
        same_result(run, finished)

    def test_ctrl_c_leaves_a_run_that_goes_on(self, collection, tmp_path, finished):
        run = RunDirectory.create(tmp_path / "run", run_settings(collection))

        def press(progress):
            if (progress.stage, progress.done) == (Stage.TRAINING, 5):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(run, press)
        assert run.status.state == "stopped"
        execute(run)
        same_result(run, finished)

    def test_an_interruption_between_training_and_report_does_not_train_again(self, collection, tmp_path, finished):
        run = RunDirectory.create(tmp_path / "run", run_settings(collection))

        def press(progress):
            if progress.stage is Stage.SCORING_TEST:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(run, press)
        assert not leftovers(run.path)  # the map was half written
        stages = []
        execute(run, lambda told: stages.append(told.stage))
        assert Stage.TRAINING not in stages
        same_result(run, finished)

    def test_two_processes_cannot_work_on_one_run(self, collection, tmp_path):
        run = RunDirectory.create(tmp_path / "run", run_settings(collection))
        with run.working(), pytest.raises(RunError, match="another process is working on this run"):
            execute(RunDirectory(run.path))
        assert run.status.state == "queued"


class TestAFullDisk:
    def test_says_so_and_can_be_resumed_when_there_is_space(self, collection, tmp_path, finished):
        with small_disk(tmp_path / "disk", kilobytes=1000) as disk:
            run = RunDirectory.create(disk / "run", run_settings(collection))
            with pytest.raises(KdcoreError, match=r"disk is full.*Free space, then resume"):
                execute(run)
            assert not leftovers(run.path)
            assert not run.report.exists()
            for file in run.checkpoints.glob("*.safetensors"):
                load_tensors(file)  # whatever is there is whole
            mounted(disk, kilobytes=50_000)
            execute(run)
            same_result(run, finished)


class TestFailures:
    def test_are_written_into_the_status(self, collection, tmp_path):
        budget = QUICK.model_copy(
            update={"learning_rate": 10.0, "weight_decay": 1.0, "clip": None, "steps": 60, "validate_every": 60}
        )
        run = RunDirectory.create(tmp_path / "run", run_settings(collection, budget=budget))
        with pytest.raises(TrainingDiverged) as error:
            execute(run)
        assert run.status.state == "failed"
        assert run.status.message == str(error.value)
        assert "Lower the learning rate" in (run.path / "log.txt").read_text()

    def test_of_a_missing_teacher(self, collection, tmp_path):
        settings = run_settings(
            collection, "distilled", recipe=Recipe(alpha=0.5), teacher=(tmp_path / "none.safetensors",)
        )
        run = RunDirectory.create(tmp_path / "run", settings)
        with pytest.raises(CheckpointError, match=r"none\.safetensors: there is no such file"):
            execute(run)
        assert run.status.state == "failed"

    def test_of_a_teacher_of_other_classes(self, collection, tmp_path, finished):
        other = write_collection(tmp_path / "other", classes=4)
        settings = run_settings(other, "distilled", recipe=Recipe(alpha=0.5), teacher=(finished.best,))
        with pytest.raises(
            CheckpointError, match="trained for the classes land, building, water, but the collection has"
        ):
            execute(RunDirectory.create(tmp_path / "run", settings))

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_of_a_part_without_the_only_scored_class(self, tmp_path, part):
        """Two classes have one map. A part without a pixel of it has no AP: nothing could be chosen or compared."""
        path = write_collection(tmp_path / "collection", classes=2)
        name, index = {"validation": ("c", 2), "test": ("d", 3)}[part]
        write_raster(path.parent / f"masks/{name}.tif", np.zeros((128, 128), np.uint8), west=500_000 + 1000 * index)
        run = RunDirectory.create(tmp_path / "run", run_settings(path))
        with pytest.raises(DataError, match=f"the {part} part has no pixel of class 'building'"):
            execute(run)


class TestArmsOfOneSeed:
    """What `train` is given in each arm, without training."""

    @pytest.fixture
    def given(self, monkeypatch):
        calls = []

        class Enough(Exception):
            pass

        def catch(run, network, info, batches, teacher, **others):
            weights = {name: value.clone() for name, value in network.state_dict().items()}
            calls.append((weights, [batches.batch(step) for step in range(3)], teacher))
            raise Enough

        monkeypatch.setattr(run_module, "train", catch)

        def give(folder, settings):
            with pytest.raises(Enough):
                execute(RunDirectory.create(folder, settings))
            return calls[-1]

        return give

    def test_share_first_weights_and_batches(self, collection, tmp_path, finished, given):
        for seed in (0, 1):
            alone = given(tmp_path / f"alone-{seed}", run_settings(collection, seed=seed))
            distilled = given(
                tmp_path / f"distilled-{seed}",
                run_settings(collection, "distilled", seed=seed, recipe=Recipe(alpha=0.5), teacher=(finished.best,)),
            )
            assert all(torch.equal(value, distilled[0][name]) for name, value in alone[0].items())
            for ours, theirs in zip(alone[1], distilled[1], strict=True):
                assert torch.equal(ours.image, theirs.image)
                assert torch.equal(ours.labels, theirs.labels)
            assert alone[2] is None
            assert all(batch.teacher is None for batch in alone[1])
            assert all(batch.teacher is not None for batch in distilled[1])

    def test_with_unlabelled_crops_share_the_labelled_ones(self, tmp_path, given):
        path = write_collection(tmp_path / "collection", unlabelled=True)
        run = RunDirectory.create(tmp_path / "teacher", run_settings(path, "teacher"))
        network = build_network(run.settings.network, 3, 3, seed=5)
        from kdcore.models.checkpoint import save_network

        save_network(run.best, network, checkpoint_info(run.settings, Collection.open(path)))
        alone = given(tmp_path / "alone", run_settings(path))
        recipe = Recipe(alpha=0.5, unlabelled=1.5)
        distilled = given(tmp_path / "distilled", run_settings(path, "distilled", recipe=recipe, teacher=(run.best,)))
        for ours, theirs in zip(alone[1], distilled[1], strict=True):
            assert torch.equal(ours.image, theirs.image[:2])
            assert len(theirs.image) == 2 + 3

    def test_of_other_seeds_differ(self, collection, tmp_path, given):
        first, second = (given(tmp_path / f"s{seed}", run_settings(collection, seed=seed)) for seed in (0, 1))
        assert not torch.equal(first[1][0].image, second[1][0].image)
        assert any(not torch.equal(value, second[0][name]) for name, value in first[0].items())


class TestSplits:
    def test_validation_keeps_a_crop_away_from_the_test_blocks(self, tmp_path):
        """One scene of 512 px in 4 x 4 blocks of 128: validation is r1c3-4, right above the test blocks r2-4c3-4."""
        image, labels = paint(np.random.default_rng(0), 512, 2)
        write_raster(tmp_path / "collection/images/s.tif", image)
        write_raster(tmp_path / "collection/masks/s.tif", labels)
        split = SplitSettings(
            by="block", grid=(4, 4), train=("r*c[12]",), validation=("r1c[34]",), test=("r[234]c[34]",)
        )
        path = write_collection(tmp_path / "settings", classes=2, split=split)
        path.write_text(path.read_text() + f"root: {tmp_path / 'collection'}\n")
        run = RunDirectory.create(tmp_path / "run", run_settings(path, budget=QUICK.model_copy(update={"steps": 3})))
        execute(run)
        validation, test = Scores.load(run.validation_scores), Scores.load(run.scores)
        assert validation.confusion.sum() == (128 - QUICK.crop) * 256
        assert test.confusion.sum() == 384 * 256


class TestEvaluatingACheckpoint:
    def test_gives_the_numbers_of_the_run(self, finished, collection):
        told = evaluate_checkpoint(finished.best, collection, "test", "cpu")
        assert told["mean_ap"] == pytest.approx(finished.read_report()["test"]["mean_ap"], abs=0.02)
        assert set(told["classes"]) == {"land", "building", "water"}

    def test_of_other_classes_is_refused(self, finished, tmp_path):
        names = ("land", "water", "building")
        classes = tuple(ClassSettings(name=name, value=index) for index, name in enumerate(names))
        other = write_collection(tmp_path / "other", classes=3)
        text = other.read_text()
        other.write_text(text.replace("building", "?").replace("water", "building").replace("?", "water"))
        assert Collection.open(other).settings.classes == classes
        with pytest.raises(CheckpointError, match="same class list in the same order"):
            evaluate_checkpoint(finished.best, other)

    def test_trained_at_another_resolution_is_refused(self, finished, tmp_path):
        coarse = write_collection(tmp_path / "coarse", metres_per_pixel=1.0)
        with pytest.raises(CheckpointError, match=r"trained at 0\.5 m per pixel, but the collection gives 1 m"):
            evaluate_checkpoint(finished.best, coarse)

    def test_on_no_part_of_the_split_is_refused(self, finished, collection):
        with pytest.raises(
            SettingsError, match="--split all: there is no such part; choose one of train, validation, test"
        ):
            evaluate_checkpoint(finished.best, collection, "all")


def test_windows_of_the_evaluation_do_not_change_the_report_much(finished, collection):
    """The halo sees to it: windows of 64 and of 128 px agree on all but a few pixels of a network with a small field."""
    opened = Collection.open(collection)
    network, _ = load_network(finished.best)
    scores = [
        evaluate(network, opened, "test", EvaluationSettings(tile=32, window=window, halo=64), fill=network.fill)
        for window in (64, 128)
    ]
    first, second = (one.confusion.sum(axis=0) for one in scores)
    assert np.abs(first - second).sum() < 0.01 * first.sum()
