"""The bundled example is a real study: its weights give its scores again."""

import pytest

from kdcore.data.demo import write_demo
from kdcore.deploy.record import Deployment
from kdcore.evaluation import stored_curves
from kdcore.evaluation.report import study_report
from kdcore.evaluation.scores import Scores
from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs.record import LARGEST
from kdcore.jobs.workspace import Workspace
from kdcore.views.race import recorded_races

EXAMPLE = Workspace().example()


def test_it_is_a_finished_study_that_cannot_be_changed():
    assert EXAMPLE.state == "finished"
    assert EXAMPLE.read_only


def test_it_is_small_and_holds_no_weights_of_the_teacher():
    files = [file for file in EXAMPLE.path.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LARGEST
    assert sorted(file.parents[1].name for file in files if file.suffix == ".safetensors") == [
        "alone-s0",
        "distilled-s0",
    ]


def test_no_path_of_the_machine_that_recorded_it_is_in_it():
    for file in EXAMPLE.path.rglob("*"):
        if file.suffix in (".json", ".yaml", ".jsonl"):
            text = file.read_text(encoding="utf-8")
            assert not any(place in text for place in ("/work", "/root", "/home", "/tmp")), file


def test_the_map_has_imagery_truth_and_every_arm():
    layers = StudyLayers.load(EXAMPLE.path)
    assert layers.scenes
    for scene in layers.scenes:
        assert (EXAMPLE.layers / scene.id / "imagery.tif").is_file()
        assert (EXAMPLE.layers / scene.id / "truth.tif").is_file()
        shown = [run for run in EXAMPLE.runs() if run.settings.arm == "teacher" or run.settings.seed == 0]
        assert len(shown) == 3
        assert all((run.maps / f"{scene.name}.tif").is_file() for run in shown)


def test_teacher_and_student_were_measured_in_the_same_engines():
    known = Deployment.load(EXAMPLE.path / "deploy")
    (scene,) = StudyLayers.load(EXAMPLE.path).scenes
    races = recorded_races(known, scene)
    assert {"PyTorch", "ONNX Runtime", "OpenVINO"} <= set(races)
    assert all(race.faster > 1 for race in races.values())
    measured = {form.arm: form.mean_ap for form in known.forms if form.kind == "torch"}
    for arm, value in measured.items():
        run = EXAMPLE.run(f"{arm}-s0").read_report()
        assert value == run["test"]["mean_ap"]


def test_report_follows_from_the_recorded_scores():
    recorded, again = EXAMPLE.report(), study_report(EXAMPLE.path)
    for metric in ("mean_ap_points", "mean_iou_points", "boundary_iou_points"):
        # An interval depends on sums over pairs of tiles, which are told to a thousandth.
        assert again["comparison"][metric] == pytest.approx(recorded["comparison"][metric], rel=1e-3)
    for arm, values in recorded["arms"].items():
        assert again["arms"][arm]["mean_ap"] == pytest.approx(values["mean_ap"])


def test_its_curves_are_measured_already(monkeypatch):
    monkeypatch.setattr(stored_curves, "study_curves", lambda *given: pytest.fail("measured again"))
    curves = stored_curves.curves_of(EXAMPLE.path)
    for arm, values in EXAMPLE.report()["arms"].items():
        assert curves.arms[arm].ap[-1, 0] == pytest.approx(values["mean_ap"])


def test_teacher_is_at_least_five_points_above_the_student_alone():
    arms = EXAMPLE.report()["arms"]
    assert arms["teacher"]["mean_ap"] - arms["alone"]["mean_ap"] >= 0.05


@pytest.mark.slow  # draws the whole demo area, which takes a quarter of a minute, and reads its test districts
def test_recorded_weights_give_the_recorded_scores(tmp_path):
    from kdcore.data.collection import Collection
    from kdcore.inference.evaluate import evaluate
    from kdcore.models.checkpoint import load_network

    demo = EXAMPLE.about.demo
    assert demo is not None
    collection = Collection.open(write_demo(tmp_path / "area", demo))
    for name in ("alone-s0", "distilled-s0"):
        run = EXAMPLE.run(name)
        recorded = Scores.load(run.scores)
        network, _ = load_network(run.best)
        again = evaluate(network, collection, "test", run.settings.evaluation, fill=network.fill)
        assert again.tiles == recorded.tiles
        moved = abs(again.confusion - recorded.confusion).sum() / 2
        assert moved <= 1e-4 * recorded.pixels  # other processors round otherwise
