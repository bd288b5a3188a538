"""Inspection: what a folder holds, what is wrong with it, and settings that read it."""

import json
import shutil

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from shapely import box

from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.propose import proposal_text, propose_scene_pattern, propose_split
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings, load
from tests.conftest import paint, write_collection, write_raster

COLOURS = {0: (10, 20, 30), 1: (200, 0, 0), 2: (0, 0, 255)}


@pytest.fixture
def folder(tmp_path):
    """images/ and masks/ of scenes a, b, c, d without settings."""
    path = write_collection(tmp_path / "collection")
    path.unlink()
    return path.parent


def recolour(folder, names="abcd", palette=False):
    """Turn index masks into RGB masks, or into index masks with a palette."""
    table = np.array([COLOURS[index] for index in range(3)], dtype=np.uint8)
    for name in names:
        with rasterio.open(folder / f"masks/{name}.tif") as mask:
            labels = mask.read(1)
        (folder / f"masks/{name}.tif").unlink()
        if palette:
            picture = Image.fromarray(labels, "P")
            picture.putpalette([part for index in range(3) for part in COLOURS[index]])
        else:
            picture = Image.fromarray(table[labels])
        picture.save(folder / f"masks/{name}.png")


def counts(folder, name) -> np.ndarray:
    with rasterio.open(folder / f"masks/{name}.tif") as mask:
        return np.bincount(mask.read(1).ravel(), minlength=3)


def reopened(found, folder) -> Collection:
    """The collection that the proposal, written and read again, opens."""
    (folder / "collection.yaml").write_text(proposal_text(found))
    return Collection.open(folder)


def has(sentences, *words) -> bool:
    return any(all(word in sentence for word in words) for sentence in sentences)


class TestAFolderWithoutSettings:
    def test_is_described(self, folder):
        found = inspect(folder, crop=64)
        assert found.problems == []
        assert [facts.file for facts in found.images] == ["a.tif", "b.tif", "c.tif", "d.tif"]
        first = found.images[0]
        assert (first.width, first.height, first.bands, first.dtype, first.driver) == (128, 128, 3, "uint8", "GTiff")
        assert first.crs == "EPSG:32633"
        assert first.metres_per_pixel == pytest.approx(0.5002, abs=1e-4)  # UTM shortens by 0.9996 at its middle
        assert [mask.kind for mask in found.masks] == ["index"] * 4
        told = {int(value): pixels for value, pixels in found.masks[0].pixels.items()}
        assert told == dict(enumerate(counts(folder, "a").tolist()))

    def test_gets_settings_that_read_it(self, folder):
        found = inspect(folder, crop=64)
        collection = reopened(found, folder)
        assert [entry.value for entry in collection.settings.classes] == [0, 1, 2]
        assert collection.settings.class_names[0] == "background"
        names = {
            split: [region.scene.id for region in collection.regions(split)]
            for split in ("train", "validation", "test")
        }
        assert names == {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
        expected = dict(zip(collection.settings.class_names, counts(folder, "d").tolist(), strict=True))
        assert found.class_pixels["test"] == expected

    def test_is_not_changed(self, folder):
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        inspect(folder, crop=64)
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before

    @pytest.mark.parametrize("palette", [False, True])
    def test_with_coloured_masks_gets_its_classes_by_colour(self, folder, palette):
        expected = sum(counts(folder, name) for name in "abcd")
        recolour(folder, palette=palette)
        found = inspect(folder, crop=64)
        assert found.problems == []
        assert {mask.kind for mask in found.masks} == {"palette" if palette else "rgb"}
        collection = reopened(found, folder)
        wanted = {"#{:02X}{:02X}{:02X}".format(*COLOURS[index]): int(expected[index]) for index in range(3)}
        got = {
            entry.colour: sum(found.class_pixels[split][entry.name] for split in found.class_pixels)
            for entry in collection.settings.classes
        }
        assert got == wanted

    def test_with_palette_and_rgb_masks_side_by_side_is_read_alike(self, folder):
        expected = counts(folder, "d")
        recolour(folder, "ab", palette=True)
        recolour(folder, "cd")
        found = inspect(folder, crop=64)
        assert found.problems == []
        names = {entry.colour: entry.name for entry in found.proposal.classes}
        got = [found.class_pixels["test"][names["#{:02X}{:02X}{:02X}".format(*COLOURS[index])]] for index in range(3)]
        assert got == expected.tolist()

    def test_with_polygons_gets_their_classes(self, tmp_path):
        folder = tmp_path / "c"
        for index, name in enumerate("abc"):
            west = 500_000 + 1000 * index
            write_raster(folder / f"images/{name}.tif", paint(np.random.default_rng(index), 128, 3)[0], west=west)
            shapes = [box(west + 5, 4_999_950, west + 25, 4_999_990), box(west + 30, 4_999_960, west + 50, 4_999_980)]
            frame = geopandas.GeoDataFrame({"class": ["house", "pond"]}, geometry=shapes, crs="EPSG:32633")
            (folder / "labels").mkdir(exist_ok=True)
            frame.to_crs("EPSG:4326").to_file(folder / f"labels/{name}.geojson")
        found = inspect(folder, crop=64)
        assert found.problems == []
        assert (found.polygons[0].polygons, found.polygons[0].class_field) == (2, "class")
        assert reopened(found, folder).settings.class_names == ("background", "house", "pond")
        # 20 x 40 m and 20 x 20 m at 0.5 m per pixel.
        assert found.class_pixels["test"]["house"] == pytest.approx(40 * 80, rel=0.02)
        assert found.class_pixels["test"]["pond"] == pytest.approx(40 * 40, rel=0.02)

    def test_with_negative_values_takes_them_as_ignored(self, folder):
        for index, name in enumerate("abcd"):
            with rasterio.open(folder / f"masks/{name}.tif") as mask:
                labels = mask.read(1).astype(np.int16)
            labels[60:80] = -1
            write_raster(folder / f"masks/{name}.tif", labels, west=500_000 + 1000 * index)
        found = inspect(folder, crop=64)
        assert found.proposal.ignore == (-1,)
        assert has(found.notes, "-1 in the masks is taken as 'ignore'")
        assert sum(found.class_pixels["test"].values()) == 108 * 128

    def test_learns_names_from_a_file_beside_it_and_says_where_the_masks_disagree(self, folder):
        recolour(folder)
        classes = [{"title": "Roof", "color": "#C80000"}, {"title": "Sea", "color": "#123456"}]
        (folder / "classes.json").write_text(json.dumps({"classes": classes}))
        found = inspect(folder, crop=64)
        assert "Roof" in found.proposal.class_names
        assert has(found.notes, "classes.json lists colours that no mask holds (#123456)")

    def test_of_one_large_scene_is_split_by_block(self, tmp_path):
        image, labels = paint(np.random.default_rng(0), 900, 3)
        write_raster(tmp_path / "c/images/s.tif", image)
        write_raster(tmp_path / "c/masks/s.tif", labels)
        found = inspect(tmp_path / "c", crop=64)
        assert found.problems == []
        assert found.proposal.split.by == "block"

    def test_without_georeference_is_told_what_that_means(self, folder):
        for name in "abcd":
            with rasterio.open(folder / f"images/{name}.tif") as image:
                array = image.read()
            write_raster(folder / f"images/{name}.tif", array, crs=None)
        assert has(inspect(folder, crop=64).notes, "has no georeference", "native_metres_per_pixel")


class TestProblems:
    def test_images_without_labels_and_labels_without_images(self, folder):
        (folder / "masks/b.tif").rename(folder / "masks/z.tif")
        found = inspect(folder, crop=64)
        assert has(found.problems, "1 image has no labels of the same name (images/b.tif)", "unlabelled/")
        assert has(found.problems, "1 label file has no image of the same name (masks/z.tif)", "rename or remove")

    def test_sizes_that_differ(self, folder):
        write_raster(folder / "masks/b.tif", np.zeros((64, 100), np.uint8))
        found = inspect(folder, crop=64)
        assert has(found.problems, "masks/b.tif: the mask is 100 x 64 px but its image is 128 x 128 px", "Export")

    def test_one_picture_twice(self, folder):
        shutil.copy(folder / "images/a.tif", folder / "images/d.tif")
        assert has(inspect(folder, crop=64).problems, "d.tif and a.tif have the same contents", "leak")

    def test_the_same_ground_twice(self, folder):
        write_raster(folder / "images/d.tif", paint(np.random.default_rng(5), 128, 3)[0], west=500_016)
        assert has(inspect(folder, crop=64).problems, "a.tif", "d.tif", "show the same ground", "leaks")

    def test_broken_files_do_not_hide_the_others(self, folder):
        (folder / "images/b.tif").write_bytes(b"nothing")
        found = inspect(folder, crop=64)
        assert has(found.problems, "images/b.tif: is no GeoTIFF")
        assert len(found.images) == 3

    def test_masks_that_were_saved_with_loss(self, folder):
        recolour(folder)
        for name in "abcd":
            Image.open(folder / f"masks/{name}.png").save(folder / f"masks/{name}.jpg", quality=60)
            (folder / f"masks/{name}.png").unlink()
        found = inspect(folder, crop=64)
        assert found.proposal is None
        assert has(found.problems, "different values or colours", "saved with loss (JPEG)", "Export them as PNG")

    def test_bands_that_differ(self, folder):
        write_raster(folder / "images/b.tif", np.ones((5, 128, 128), np.uint16), west=501_000)
        assert has(inspect(folder, crop=64).problems, "different numbers of bands ([3, 5])", "set `bands`")

    def test_no_labels_at_all(self, folder):
        shutil.rmtree(folder / "masks")
        assert has(inspect(folder, crop=64).problems, "no masks and no polygons were found")

    def test_a_class_that_the_test_part_lacks(self, folder):
        for index, name in enumerate("bcd", 1):
            labels = np.indices((128, 128)).sum(axis=0).astype(np.uint8) % 2
            write_raster(folder / f"masks/{name}.tif", labels, west=500_000 + 1000 * index)
        assert has(inspect(folder, crop=64).problems, "does not occur in the test part")

    def test_an_empty_folder(self, tmp_path):
        assert has(inspect(tmp_path).problems, "holds no imagery")

    def test_what_is_not_there(self, tmp_path):
        with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
            inspect(tmp_path / "nowhere")


class TestACollection:
    def test_is_read_as_a_study_would(self, tmp_path):
        path = write_collection(tmp_path / "c", unlabelled=True)
        for place in (path, path.parent):
            found = inspect(place, crop=64)
            assert found.problems == []
            assert found.proposal is None
            assert list(found.class_pixels["test"].values()) == counts(path.parent, "d").tolist()
            assert len(found.unlabelled) == 1

    def test_with_a_wrong_label_says_where(self, tmp_path):
        path = write_collection(tmp_path / "c")
        write_raster(path.parent / "masks/d.tif", np.full((128, 128), 9, np.uint8), west=503_000)
        assert has(inspect(path, crop=64).problems, "masks/d.tif: value 9 at row 0, column 0 is no class")

    def test_becomes_plain_json(self, tmp_path):
        values = inspect(write_collection(tmp_path / "c"), crop=64).to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_several_processes_find_what_one_finds(folder, monkeypatch):
    (folder / "masks/b.tif").write_bytes(b"no raster")
    alone = inspect(folder, crop=32)
    monkeypatch.setattr("kdcore.data.inspect.MANY_FILES", 2)
    together = inspect(folder, crop=32, processes=2)
    assert has(together.problems, "b.tif", "is no GeoTIFF")
    assert [mask.file for mask in together.masks] == ["a.tif", "c.tif", "d.tif"]
    assert together.to_dict() == alone.to_dict()


@pytest.mark.parametrize(
    ("stems", "pattern"),
    [
        ([f"tile{scene}_part{part:03}" for scene in (1, 2, 3) for part in (1, 2)], r"(?P<scene>.+)_part\d+"),
        ([f"area-{scene}-{part}" for scene in "abc" for part in (1, 2)], r"(?P<scene>.+)-\d+"),
        ([f"city{number}" for number in range(9)], None),
        ([f"scene_{number}" for number in range(9)], None),
        (["a_1", "a_2"], None),
        (["a_1", "a_2", "b_1", "other"], None),
    ],
)
def test_files_of_one_scene_are_recognised(stems, pattern):
    assert propose_scene_pattern(stems) == pattern


@pytest.mark.parametrize("number", [3, 4, 6, 10, 50])
def test_a_proposed_split_gives_each_scene_once_and_each_part_some(number):
    groups = [f"s{index:02}" for index in range(number)]
    split = propose_split(groups)
    assert sorted((*split.train, *split.validation, *split.test)) == groups
    assert min(len(split.train), len(split.validation), len(split.test)) >= 1
    assert len(split.train) >= len(split.test)


def test_the_proposal_says_what_was_noticed_and_is_valid_yaml(folder):
    found = inspect(folder, crop=64)
    found.notes.append("a note with `ticks`: and # signs")
    (folder / "collection.yaml").write_text(proposal_text(found))
    assert "# Note: a note with `ticks`: and # signs" in (folder / "collection.yaml").read_text()
    assert load(CollectionSettings, folder / "collection.yaml") == found.proposal
