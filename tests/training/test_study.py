"""A study: a controlled experiment that can be interrupted, is never overwritten, and does not find what is not there."""

import hashlib
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from kdcore.data.collection import Collection
from kdcore.errors import DataError, KdcoreError, RunError, Stopped
from kdcore.evaluation.compare import compare
from kdcore.evaluation.report import study_report
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.inference.evaluate import evaluate
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.store import list_runs
from kdcore.models.checkpoint import load_tensors
from kdcore.settings import Recipe, RunSettings, TeacherSettings
from kdcore.teacher.teacher import Teacher
from kdcore.training.study import run_study
from tests.conftest import paint, write_collection, write_raster
from tests.training.studies import STUDENT_BUDGET, TEACHER, TEACHER_BUDGET, contents, study_settings


@pytest.fixture
def collection(tiny_study):
    return tiny_study.parent / "collection/collection.yaml"


@pytest.fixture
def begun(tiny_study, tmp_path):
    """A place for other studies, with the trained teacher of the tiny study beside them."""
    shutil.copytree(tiny_study, tmp_path / "studies/first")
    return tmp_path / "studies"


def runs_of(study):
    return {run.path.name: run for run in list_runs(study / "runs")}


def weights(run):
    return load_tensors(run.best)[0]


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Listener:
    """Remembers which stages were reported."""

    def __init__(self) -> None:
        self.told: list[Progress] = []

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress)

    @property
    def trained(self) -> list[str]:
        return [name for name, _ in itertools.groupby(p.run for p in self.told if p.stage is Stage.TRAINING)]


class TestAStudy:
    def test_runs_teacher_and_both_students_for_each_seed(self, tiny_study):
        runs = runs_of(tiny_study)
        assert set(runs) == {"teacher-s0", "alone-s0", "alone-s1", "distilled-s0", "distilled-s1"}
        assert all(run.status.state == "finished" for run in runs.values())
        assert runs["teacher-s0"].settings.recipe.alpha == 0
        assert not [file for file in tiny_study.rglob(".*") if file.is_file()]

    def test_has_arms_that_differ_in_the_teachers_share_only(self, tiny_study):
        runs = runs_of(tiny_study)
        for seed in (0, 1):
            alone, distilled = (runs[f"{arm}-s{seed}"].settings for arm in ("alone", "distilled"))
            assert distilled.recipe == Recipe(temperature=2, alpha=0.5)
            assert distilled.teacher == (runs["teacher-s0"].best,)
            changed = {"arm": "distilled", "recipe": distilled.recipe, "teacher": distilled.teacher}
            assert alone.model_copy(update=changed) == distilled
            assert alone.recipe.alpha == 0

    def test_reports_what_is_in_its_folder(self, tiny_study):
        report = json.loads((tiny_study / "report.json").read_text())
        for arm in ("alone", "distilled"):
            steps = {line["step"] for seed in (0, 1) for line in runs_of(tiny_study)[f"{arm}-s{seed}"].read_metrics()}
            assert report["arms"][arm]["steps"] == max(steps) == STUDENT_BUDGET.steps
            assert 0 < report["arms"][arm]["seconds"] < 60
        assert report["arms"]["teacher"]["steps"] == TEACHER_BUDGET.steps
        assert report["comparison"]["seeds"] == 2

    def test_is_repeated_exactly(self, tiny_study, tmp_path):
        collection = write_collection(tmp_path / "collection", unlabelled=True)
        run_study(collection, study_settings(seeds=(1,)), tmp_path / "study")
        for name in ("teacher-s0", "alone-s1", "distilled-s1"):
            assert same(weights(runs_of(tmp_path / "study")[name]), weights(runs_of(tiny_study)[name]))

    def test_with_no_share_for_the_teacher_is_the_student_alone_bit_for_bit(self, begun, collection):
        report = run_study(collection, study_settings(recipe=Recipe(alpha=0)), begun / "zero")
        runs = runs_of(begun / "zero")
        for seed in (0, 1):
            assert same(weights(runs[f"alone-s{seed}"]), weights(runs[f"distilled-s{seed}"]))
            assert same(weights(runs[f"alone-s{seed}"]), weights(runs_of(begun / "first")[f"alone-s{seed}"]))
        assert report["comparison"]["mean_ap_points"] == {"mean": 0, "low": 0, "high": 0}
        assert report["comparison"]["verdict"] == "no detectable difference"


class TestAStudyWithAShareOfTheLabels:
    def test_trains_a_student_with_all_labels_and_measures_the_gap_with_it(self, begun, tmp_path):
        collection = write_collection(tmp_path / "collection", size=256)
        settings = study_settings(seeds=(0,), labels=0.25, recipe=Recipe(temperature=2, alpha=0.5, unlabelled=1))
        report = run_study(collection, settings, tmp_path / "study")
        runs = runs_of(tmp_path / "study")
        assert {name: run.settings.labels for name, run in runs.items()} == {
            "teacher-s0": 1,
            "alone-s0": 0.25,
            "distilled-s0": 0.25,
            "all-labels-s0": 1,
        }
        # Two scenes of 256 px, crops of 64 px: eight blocks, all labelled, of which two are a quarter.
        assert {arm: values["labels"] for arm, values in report["arms"].items()} == {
            "teacher": 1,
            "alone": 0.25,
            "distilled": 0.25,
            "all_labels": 1,
        }
        # It is the student alone of a study in which everyone has all labels, bit for bit.
        run_study(collection, study_settings(seeds=(0,)), tmp_path / "all")
        assert same(weights(runs["all-labels-s0"]), weights(runs_of(tmp_path / "all")["alone-s0"]))

    def test_may_have_a_teacher_with_the_same_few(self, tmp_path):
        """It is no teacher for a study whose teacher has all labels, though nothing else differs."""
        collection = write_collection(tmp_path / "collection", size=256)
        few = study_settings(seeds=(0,), labels=0.25, upper_bound=False)
        teacher = few.teacher.model_copy(update={"labels": 0.25})
        report = run_study(collection, few.model_copy(update={"teacher": teacher}), tmp_path / "few")
        assert {arm: values["labels"] for arm, values in report["arms"].items()} == {
            "teacher": 0.25,
            "alone": 0.25,
            "distilled": 0.25,
        }
        other = run_study(collection, few, tmp_path / "all")
        assert other["arms"]["teacher"]["labels"] == 1
        assert "reused from" not in (tmp_path / "all/runs/teacher-s0/log.txt").read_text()

    def test_that_cannot_be_had_is_refused_before_anything_is_trained(self, tmp_path):
        collection = write_collection(tmp_path / "collection", size=256)
        with pytest.raises(DataError, match=r"0\.01 of the labels is too little .* Set labels to"):
            run_study(collection, study_settings(labels=0.01), tmp_path / "study")
        assert not runs_of(tmp_path / "study")

    def test_without_imagery_for_unlabelled_crops_is_refused_before_anything_is_trained(self, tmp_path):
        collection = write_collection(tmp_path / "collection")
        with pytest.raises(DataError, match="holds no images"):
            run_study(collection, study_settings(recipe=Recipe(unlabelled=1)), tmp_path / "study")
        assert not runs_of(tmp_path / "study")


class TestTheTeachersAdvantage:
    def test_is_told_before_the_distilled_student_is_trained_and_in_the_report(self, begun, collection):
        seen = []

        def note(progress):
            if (progress.run, progress.stage) == ("distilled-s0", Stage.TRAINING) and not seen:
                seen.append(json.loads((begun / "one/advantage.json").read_text()))

        report = run_study(collection, study_settings(seeds=(0,)), begun / "one", note)
        teacher, alone = (report["arms"][arm]["seeds"][0]["validation_mean_ap"] for arm in ("teacher", "alone"))
        assert seen == [report["teacher_advantage"]]
        assert seen[0]["points"]["mean"] == pytest.approx(100 * (teacher - alone), abs=1e-3)
        assert seen[0]["sentence"] in (begun / "one/log.txt").read_text()

    def test_is_no_matter_where_nobody_asks_the_teacher(self, begun, collection):
        report = run_study(collection, study_settings(seeds=(0,), recipe=Recipe(alpha=0)), begun / "zero")
        assert report["teacher_advantage"] is None
        assert not (begun / "zero/advantage.json").exists()


class TestAStrongTeacher:
    def test_has_its_flips_averaged_weights_and_members_scored(self, begun, collection):
        budget = TEACHER_BUDGET.model_copy(update={"steps": 4, "validate_every": 2, "ema": 0.5})
        teacher = TeacherSettings(network=TEACHER, budget=budget, seeds=(0, 1), flips=True)
        report = run_study(collection, study_settings(seeds=(0,), teacher=teacher), begun / "strong")
        runs = runs_of(begun / "strong")
        opened = Collection.open(collection)
        names, files = opened.settings.class_names, [runs[f"teacher-s{seed}"].best for seed in (0, 1)]
        steps = {step["name"]: step["mean_ap"] for step in report["arms"]["teacher"]["parts"]}
        for name, flips in (
            ("Answers of 2 networks averaged", False),
            ("Answers to eight turned and mirrored views averaged", True),
        ):
            asked = Teacher.load(files, names, 3, flips=flips)
            scores = evaluate(asked, opened, "validation", study_settings().evaluation, fill=asked.fill)
            assert steps[name] == pytest.approx(summarise(scores)["mean_ap"], abs=1e-6)
        members = [runs[f"teacher-s{seed}"] for seed in (0, 1)]
        ends = [
            [line["validation_mean_ap"] for line in run.read_metrics() if "validation_mean_ap" in line][-1]
            for run in members
        ]
        assert steps["Weights averaged over the last steps (EMA)"] == pytest.approx(np.mean(ends))
        assert 0 < steps["Last weights"] < 1
        assert runs["distilled-s0"].settings.teacher_flips


class TestATeacherThatIsTrainedOn:
    def test_begins_from_the_weights_it_had_and_says_which(self, begun, collection):
        before = runs_of(begun / "first")["teacher-s0"]
        crawl = TEACHER_BUDGET.model_copy(update={"steps": 1, "learning_rate": 1e-12})
        teacher = TeacherSettings(network=TEACHER, budget=crawl, start=(before.best,))
        run_study(collection, study_settings(seeds=(0,), teacher=teacher), begun / "on")
        after = runs_of(begun / "on")["teacher-s0"]
        assert after.settings.start == before.best
        assert f"SHA-256 {hashlib.sha256(before.best.read_bytes()).hexdigest()}" in (after.path / "log.txt").read_text()
        learnt = {
            name for name, value in weights(before).items() if value.is_floating_point() and "running" not in name
        }
        assert all(torch.allclose(weights(before)[name], weights(after)[name], atol=1e-7) for name in learnt)

    def test_is_not_taken_for_one_that_began_from_nothing(self, begun, collection):
        """The study beside it has the same network, budget, seed and data."""
        before = runs_of(begun / "first")["teacher-s0"]
        listener = Listener()
        teacher = TeacherSettings(network=TEACHER, budget=TEACHER_BUDGET, start=(before.best,))
        run_study(collection, study_settings(seeds=(0,), teacher=teacher), begun / "on", listener)
        assert listener.trained[0] == "teacher-s0"

    def test_must_be_the_same_network(self, begun, collection):
        student = runs_of(begun / "first")["alone-s0"].best
        teacher = TeacherSettings(network=TEACHER, budget=TEACHER_BUDGET, start=(student,))
        with pytest.raises(KdcoreError, match=r"best\.safetensors: does not fit the network"):
            run_study(collection, study_settings(teacher=teacher), begun / "on")


class TestAFinishedStudy:
    def test_is_not_done_again_and_not_touched(self, begun, collection):
        study, listener = begun / "first", Listener()
        before = contents(study)
        times = {file: file.stat().st_mtime_ns for file in (study / "runs").rglob("*") if file.is_file()}
        report = run_study(collection, study_settings(), study, listener)
        assert listener.trained == []
        assert contents(study) == before
        assert {file: file.stat().st_mtime_ns for file in times} == times
        assert report == json.loads(before["report.json"])

    @pytest.mark.parametrize(
        "other",
        [
            {"recipe": Recipe(temperature=3, alpha=0.5)},
            {"seeds": (0, 1, 2)},
            {"budget": STUDENT_BUDGET.model_copy(update={"steps": 7})},
        ],
    )
    def test_is_not_given_to_other_settings(self, begun, collection, other):
        before = contents(begun / "first")
        with pytest.raises(RunError, match=r"first: holds a study with other settings.*Choose another --out"):
            run_study(collection, study_settings(**other), begun / "first")
        assert contents(begun / "first") == before

    def test_is_not_given_to_other_data(self, begun, tmp_path):
        other = write_collection(tmp_path / "other")
        write_raster(other.parent / "images/d.tif", paint(np.random.default_rng(99), 128, 3)[0], west=503_000)
        before = contents(begun / "first")
        with pytest.raises(RunError, match=r"first: this study began with other data.*Choose another --out"):
            run_study(other, study_settings(), begun / "first")
        assert contents(begun / "first") == before

    def test_may_have_moved_together_with_its_data(self, begun, tmp_path):
        """Where files lie is no setting: the same collection elsewhere is the same data."""
        elsewhere = write_collection(tmp_path / "elsewhere/collection", unlabelled=True)
        listener = Listener()
        run_study(elsewhere, study_settings(), begun / "first", listener)
        assert listener.trained == []


@pytest.mark.parametrize("what", ["a file", "a folder with something else"])
def test_what_is_no_study_is_left_alone(tmp_path, collection, what):
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(KdcoreError, match=r"out: is .*Choose another --out"):
        run_study(collection, study_settings(), out)
    assert contents(tmp_path) == before


class TestAnInterruptedStudy:
    @pytest.mark.parametrize("stop", [10, 27, 41])
    def test_goes_on_and_ends_as_an_undisturbed_one(self, tiny_study, tmp_path, stop):
        """Stopped in the teacher's, the first student's and the last student's training (asked 23 and four times 5 times)."""
        collection = write_collection(tmp_path / "collection", unlabelled=True)
        calls = itertools.count(1)
        with pytest.raises(Stopped, match="Start the study again with the same settings to go on"):
            run_study(collection, study_settings(), tmp_path / "study", should_stop=lambda: next(calls) >= stop)
        assert not (tmp_path / "study/report.json").exists()
        with pytest.raises(RunError, match="is not finished"):
            study_report(tmp_path / "study")
        report = run_study(collection, study_settings(), tmp_path / "study")
        ours, theirs = runs_of(tmp_path / "study"), runs_of(tiny_study)
        assert all(same(weights(ours[name]), weights(theirs[name])) for name in theirs)
        assert report["comparison"] == json.loads((tiny_study / "report.json").read_text())["comparison"]


class TestTheTeacher:
    def test_of_a_neighbour_is_taken_over(self, begun, collection):
        listener = Listener()
        settings = study_settings(recipe=Recipe(alpha=0.9, temperature=4), seeds=(0,))
        report = run_study(collection, settings, begun / "second", listener)
        assert listener.trained == ["alone-s0", "distilled-s0"]
        taken = runs_of(begun / "second")["teacher-s0"]
        assert same(weights(taken), weights(runs_of(begun / "first")["teacher-s0"]))
        assert "reused from" in (taken.path / "log.txt").read_text()
        first = json.loads((begun / "first/report.json").read_text())
        assert report["arms"]["teacher"]["mean_ap"] == first["arms"]["teacher"]["mean_ap"]
        assert report["arms"]["teacher"]["seconds"] == first["arms"]["teacher"]["seconds"]

    def test_of_a_neighbour_with_other_settings_is_not(self, begun, collection):
        listener = Listener()
        teacher = TeacherSettings(network=TEACHER, budget=TEACHER_BUDGET.model_copy(update={"steps": 3}))
        run_study(collection, study_settings(teacher=teacher, seeds=(0,)), begun / "second", listener)
        assert listener.trained[0] == "teacher-s0"

    def test_of_a_neighbour_with_other_data_is_not(self, begun, tmp_path):
        other = write_collection(tmp_path / "other")
        image, _ = paint(np.random.default_rng(99), 128, 3)
        write_raster(other.parent / "images/a.tif", image)
        listener = Listener()
        run_study(other, study_settings(seeds=(0,)), begun / "second", listener)
        assert listener.trained[0] == "teacher-s0"

    def test_may_be_checkpoints_that_exist(self, begun, collection):
        checkpoint = runs_of(begun / "first")["teacher-s0"].best
        before = checkpoint.read_bytes()
        listener = Listener()
        settings = study_settings(teacher=TeacherSettings(checkpoints=(checkpoint,)), seeds=(0,))
        report = run_study(collection, settings, begun / "second", listener)
        assert listener.trained == ["alone-s0", "distilled-s0"]
        first = json.loads((begun / "first/report.json").read_text())
        assert report["arms"]["teacher"]["mean_ap"] == pytest.approx(first["arms"]["teacher"]["mean_ap"], abs=1e-6)
        assert same(
            weights(runs_of(begun / "second")["distilled-s0"]), weights(runs_of(begun / "first")["distilled-s0"])
        )
        assert checkpoint.read_bytes() == before

    def test_may_be_an_ensemble(self, begun, collection):
        budget = TEACHER_BUDGET.model_copy(update={"steps": 4})
        settings = study_settings(teacher=TeacherSettings(network=TEACHER, budget=budget, seeds=(3, 4)), seeds=(0,))
        report = run_study(collection, settings, begun / "second")
        runs = runs_of(begun / "second")
        members = [runs["teacher-s3"], runs["teacher-s4"]]
        assert runs["distilled-s0"].settings.teacher == tuple(run.best for run in members)
        told = report["arms"]["teacher"]
        assert told["steps"] == 8
        assert told["seconds"] == pytest.approx(sum(run.read_report()["seconds"] for run in members), abs=0.1)
        assert told["parameters"] == sum(run.read_report()["parameters"] for run in members)
        assert [member["seed"] for member in told["members"]] == [3, 4]
        opened = Collection.open(collection)
        teacher = Teacher.load([run.best for run in members], opened.settings.class_names, 3)
        again = summarise(evaluate(teacher, opened, "test", settings.evaluation, fill=teacher.fill))
        assert told["mean_ap"] == pytest.approx(again["mean_ap"], abs=1e-6)
        assert told["mean_ap"] not in [member["mean_ap"] for member in told["members"]]


@pytest.fixture(scope="module")
def control(tiny_study, tmp_path_factory):
    """An A/A study of three seeds: its folder and its report. By design one of twenty finds something; these seeds do not."""
    begun = tmp_path_factory.mktemp("control")
    shutil.copytree(tiny_study, begun / "first")
    settings = study_settings(control="same recipe", seeds=(3, 4, 5))
    collection = tiny_study.parent / "collection/collection.yaml"
    return begun / "control", run_study(collection, settings, begun / "control")


class TestTheSameRecipeTwice:
    """An A/A study: nothing may be found between arms that differ in their seeds only."""

    def test_finds_no_difference(self, control):
        comparison = control[1]["comparison"]
        assert comparison["verdict"] == "no detectable difference"
        assert comparison["mean_ap_points"]["low"] < 0 < comparison["mean_ap_points"]["high"]
        assert comparison["seeds"] == 3

    def test_has_arms_of_one_recipe_and_other_seeds(self, control):
        runs = runs_of(control[0])
        settings: list[RunSettings] = [
            runs[f"{arm}-s{seed}"].settings for arm in ("alone", "distilled") for seed in (3, 4, 5)
        ]
        assert len({one.seed for one in settings}) == 6
        assert all(one.recipe.alpha == 0 and not one.teacher for one in settings)
        assert len({one.model_copy(update={"arm": "alone", "seed": 0}).model_dump_json() for one in settings}) == 1
        assert not same(weights(runs["alone-s3"]), weights(runs["distilled-s3"]))

    def test_seldom_finds_one_however_the_trainings_are_paired(self, control):
        """All 60 ways to pair six trainings of one recipe; nominal are 5 %, and pairings of the same six are not independent."""
        scores = [
            Scores.load(run.scores) for name, run in runs_of(control[0]).items() if not name.startswith("teacher")
        ]
        pairings = [
            (first, second)
            for first in itertools.combinations(range(6), 3)
            if 0 in first  # each pairing once, not again with the arms exchanged
            for second in itertools.permutations(sorted(set(range(6)) - set(first)))
        ]
        assert len(pairings) == 60
        verdicts = [
            compare([scores[i] for i in first], [scores[i] for i in second]).verdict for first, second in pairings
        ]
        assert verdicts.count("no detectable difference") >= 51
