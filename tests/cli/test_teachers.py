"""`kdcore teachers`: networks by name, and what is found out about them before they teach."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from kdcore.data.collection import Collection
from kdcore.errors import KdcoreError
from kdcore.jobs.shelf import Shelf, is_shelf_name, resolved
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.models.onnx import OnnxNetwork
from kdcore.settings import save
from kdcore.teacher.soft_labels import keys
from kdcore.ui.choices import shelved_teachers
from tests.cli.test_study import refused, run, write_colours
from tests.conftest import write_collection
from tests.onnx_files import write_pixelwise
from tests.training.studies import study_settings

FACTS = "licence: Apache-2.0\nsource: https://example.org/colours\nmetres_per_pixel: 0.5\n"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path / "studies"))
    return Workspace()


@pytest.fixture
def colours(tmp_path):
    """A network that tells land, building and water by their colour, with its YAML."""
    file = write_colours(tmp_path / "files/colours.onnx", size=64)
    described = file.with_suffix(".yaml")
    described.write_text(described.read_text() + FACTS)
    return file


def findings(*arguments) -> dict[str, dict]:
    """What `kdcore teachers check` finds, by the name of the check."""
    code, out, err = run("teachers", "check", *arguments, "--json")
    values = json.loads(out)
    assert code == (0 if all(one["ok"] for one in values) else 1), err
    return {one["check"]: one for one in values}


class TestTheShelf:
    def test_holds_a_copy_with_what_describes_it(self, workspace, colours):
        code, out, _ = run("teachers", "add", colours, "--name", "colours")
        assert code == 0
        assert "12 parameters, classes land, building, water, bands 1, 2, 3, licence Apache-2.0" in " ".join(
            out.split()
        )
        colours.unlink()
        (entry,) = json.loads(run("teachers", "list", "--json")[1])
        assert (entry["name"], entry["parameters"], entry["metres_per_pixel"]) == ("colours", 12, 0.5)
        assert entry["source"] == "https://example.org/colours"
        assert Shelf().file("colours").is_file()
        assert Shelf().file("colours").with_suffix(".yaml").is_file()
        assert "colours" in run("teachers", "list")[1]
        assert workspace.folders() == []  # the shelf is no study

    def test_holds_a_checkpoint_as_well(self, workspace, tiny_study):
        trained = tiny_study / "runs/teacher-s0/checkpoints/best.safetensors"
        run("teachers", "add", trained, "--name", "mine", "--licence", "CC0-1.0")
        entry = Shelf().find("mine")
        assert (entry.licence, entry.classes) == ("CC0-1.0", ("land", "building", "water"))

    def test_takes_a_description_from_elsewhere(self, workspace, tmp_path, colours):
        described = colours.with_suffix(".yaml").rename(tmp_path / "about.yaml")
        assert "does not say what its channels mean" in refused("teachers", "add", colours, "--name", "a")
        assert Shelf().list() == []
        run("teachers", "add", colours, "--name", "a", "--description", described)
        assert Shelf().find("a").classes == ("land", "building", "water")

    def test_never_replaces_a_network(self, workspace, tmp_path, colours):
        run("teachers", "add", colours, "--name", "a")
        assert run("teachers", "add", colours, "--name", "a")[0] == 0  # the same one
        other = write_colours(tmp_path / "other.onnx", size=32)
        assert "a teacher of this name is on the shelf" in refused("teachers", "add", other, "--name", "a")
        assert sorted(path.name for path in Shelf().path.iterdir()) == ["a"]

    @pytest.mark.parametrize("name", ["../up", "a/b", "x.onnx", ""])
    def test_has_names_that_are_no_paths(self, workspace, colours, name):
        assert "letters, digits" in refused("teachers", "add", colours, "--name", name)
        assert not is_shelf_name(name)

    def test_names_what_it_has_where_a_name_is_unknown(self, workspace, colours):
        with pytest.raises(KdcoreError, match="it is empty"):
            resolved(Path("colours"))
        run("teachers", "add", colours, "--name", "colours")
        with pytest.raises(KdcoreError, match=r"\(colours\)"):
            resolved(Path("colour"))
        assert resolved(Path("colours")) == Shelf().path / "colours/colours.onnx"
        assert resolved(colours) == colours

    def test_is_offered_on_the_train_page_where_the_classes_are_the_same(self, workspace, tmp_path, colours):
        run("teachers", "add", colours, "--name", "colours")
        same = write_collection(tmp_path / "same")
        (offered,) = shelved_teachers(Shelf(), str(same))
        assert (offered.shelf, offered.checkpoint) == ("colours", Shelf().file("colours"))
        assert offered.settings()["checkpoints"] == [str(Shelf().file("colours"))]
        assert shelved_teachers(Shelf(), str(write_collection(tmp_path / "other", classes=2))) == []
        assert shelved_teachers(Shelf(), "demo") == []


class TestAStudy:
    def test_names_its_teacher_in_its_settings(self, workspace, tmp_path, colours):
        run("teachers", "add", colours, "--name", "colours")
        save(study_settings(seeds=(0,)), tmp_path / "settings.yaml")
        values = yaml.safe_load((tmp_path / "settings.yaml").read_text())
        values["teacher"]["checkpoints"] = ["colours"]
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values))
        place = write_collection(tmp_path / "collection")
        code, out, err = run(
            "study", place, "--out", tmp_path / "study", "--settings", tmp_path / "settings.yaml", "--json"
        )
        assert code == 0, err
        assert json.loads(out)["arms"]["teacher"]["parameters"] == 12
        assert StudyFolder(tmp_path / "study").settings.teacher.checkpoints == (Shelf().file("colours"),)

    def test_names_its_teacher_by_an_option(self, workspace, tmp_path):
        place = write_collection(tmp_path / "collection")
        said = refused("study", place, "--out", tmp_path / "study", "--teacher", "colours")
        assert "no teacher of this name is on the shelf" in said
        assert not (tmp_path / "study").exists()


class TestACheck:
    def test_of_one_that_fits(self, workspace, tmp_path, colours):
        run("teachers", "add", colours, "--name", "colours")
        found = findings("colours", write_collection(tmp_path / "collection"))
        assert list(found) == ["classes and bands", "resolution", "type", "scaling", "optimised graph", "quality"]
        assert all(one["ok"] for one in found.values())
        assert "0.5 m per pixel; it was trained at 0.5 m" in found["resolution"]["sentence"]

    def test_of_other_classes_ends_there(self, workspace, tmp_path, colours):
        found = findings(colours, write_collection(tmp_path / "collection", classes=2))
        assert list(found) == ["classes and bands"]
        assert "names water" in found["classes and bands"]["sentence"]

    def test_of_another_resolution(self, workspace, tmp_path, colours):
        described = colours.with_suffix(".yaml")
        described.write_text(described.read_text().replace("0.5", "30"))
        found = findings(colours, write_collection(tmp_path / "collection"))
        assert not found["resolution"]["ok"]
        assert "Set `metres_per_pixel: 30`" in found["resolution"]["sentence"]

    def test_of_a_scale_that_is_10000_times_too_small(self, workspace, tmp_path):
        """Reflectance of 0..1 was expected, and 0..255 comes: (100 - 0.3) / 0.2 is hundreds of standard deviations away."""
        text = "classes: {land: 0, building: 1, water: 2}\noutput: logits\nmean: 0.3\nstd: 0.2\n"
        file = write_pixelwise(tmp_path / "n.onnx", np.eye(3), yaml=text)
        found = findings(file, write_collection(tmp_path / "collection"))
        assert not found["scaling"]["ok"]
        assert "`divide_by`" in found["scaling"]["sentence"]

    def test_of_classes_in_another_order(self, workspace, tmp_path, colours):
        described = colours.with_suffix(".yaml")
        swapped = described.read_text().replace("land: 0", "land: 1").replace("building: 1", "building: 0")
        described.write_text(swapped)
        found = findings(colours, write_collection(tmp_path / "collection"))
        assert not found["quality"]["ok"]
        assert "It hardly knows" in found["quality"]["sentence"]
        assert "building" in found["quality"]["sentence"].partition("here")[0]

    def test_of_a_graph_that_changes_when_it_is_optimised(self, workspace, tmp_path, colours, monkeypatch):
        """The optimised graph of this test answers otherwise by 0.5 of a logit; what is measured is probabilities."""
        place = write_collection(tmp_path / "collection")
        plain = OnnxNetwork.run

        def shifted(network, pixels):
            logits = plain(network, pixels)
            logits[:, 0] += 0.5 * network.info.optimise
            return logits

        monkeypatch.setattr(OnnxNetwork, "run", shifted)
        found = findings(colours, place)
        assert not found["optimised graph"]["ok"]
        assert "Set `optimise: false`" in found["optimised graph"]["sentence"]
        described = colours.with_suffix(".yaml")
        described.write_text(described.read_text() + "optimise: false\n")
        assert findings(colours, place)["optimised graph"]["ok"]

    def test_of_nothing(self, workspace, tmp_path):
        place = write_collection(tmp_path / "collection")
        assert "no teacher of this name" in refused("teachers", "check", "nobody", place)
        assert "there is no such file" in refused("teachers", "check", tmp_path / "absent.onnx", place)


def test_a_graph_is_run_as_it_is_in_the_file_where_the_yaml_says_so(tmp_path, monkeypatch):
    import onnxruntime

    levels = []
    opened = onnxruntime.InferenceSession

    def session(path, options, **values):
        levels.append(options.graph_optimization_level.name)
        return opened(path, options, **values)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for text in ("", "optimise: false\n"):
        file = write_colours(tmp_path / f"n{len(text)}.onnx")
        described = file.with_suffix(".yaml")
        described.write_text(described.read_text() + text)
        OnnxNetwork(file)
    assert levels == ["ORT_ENABLE_ALL", "ORT_DISABLE_ALL"]


def test_soft_labels_are_computed_again_when_the_yaml_changes(tmp_path, colours):
    """Another scaling gives other answers of the same file."""
    collection = Collection.open(write_collection(tmp_path / "collection"))
    (before,) = keys([colours], collection, 8, "cpu")
    described = colours.with_suffix(".yaml")
    described.write_text(described.read_text() + "divide_by: 2\n")
    (after,) = keys([colours], collection, 8, "cpu")
    assert before != after
    described.unlink()
    (without,) = keys([colours], collection, 8, "cpu")
    assert without not in (before, after)
