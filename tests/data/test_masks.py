"""Masks as people have them: two values, odd types of numbers, loss, and what they are proposed to mean."""

import numpy as np
import pytest
from PIL import Image

from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.propose import proposal_text
from kdcore.data.scene import SceneReader, describe_scene
from kdcore.errors import DataError
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings
from tests.conftest import write_raster

SIDE = 96


def squares(index: int) -> np.ndarray:
    """Two squares of 20 and 12 px side, 544 px together, and for each scene at another place."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[10 + index : 30 + index, 8:28] = 1
    labels[50:62, 40 + index : 52 + index] = 1
    return labels


def folder(tmp_path, write, names="abc"):
    """Images of noise, and masks that `write(path without suffix, labels, options)` writes."""
    for index, name in enumerate(names):
        image = np.random.default_rng(index).integers(40, 200, (3, SIDE, SIDE), dtype=np.uint8)
        options = {"west": 500_000.0 + 1000 * index}
        write_raster(tmp_path / f"c/images/{name}.tif", image, **options)
        (tmp_path / "c/masks").mkdir(exist_ok=True)
        write(tmp_path / f"c/masks/{name}", squares(index), options)
    return tmp_path / "c"


def tif(change, **more):
    return lambda path, labels, options: write_raster(path.with_suffix(".tif"), change(labels), **options, **more)


def picture(change, suffix=".png", **more):
    return lambda path, labels, options: Image.fromarray(change(labels)).save(path.with_suffix(suffix), **more)


def opened(found, path) -> Collection:
    (path / "collection.yaml").write_text(proposal_text(found))
    return Collection.open(path)


def holed(labels):
    values = labels.astype(np.float32)
    values[80:] = np.nan
    return values


TWO_VALUED = {
    "0 and 255": tif(lambda t: t * np.uint8(255)),
    "0 and 255, of which 255 is declared as nodata": tif(lambda t: t * np.uint8(255), nodata=255),
    "0 and 255, of which 0 is declared as nodata": tif(lambda t: t * np.uint8(255), nodata=0),
    "0 and 255 in three bands": picture(lambda t: np.repeat(t[..., None] * np.uint8(255), 3, axis=2)),
    "0 and 1 in three bands": picture(lambda t: np.repeat(t[..., None], 3, axis=2)),
    "0 and 65535": tif(lambda t: t.astype(np.uint16) * np.uint16(65535)),
    "0 and 100": tif(lambda t: t * np.uint8(100)),
    "1 and 2": tif(lambda t: t + np.uint8(1)),
    "-1 and 1": tif(lambda t: t.astype(np.int16) * 2 - 1),
    "0 and -1": tif(lambda t: -t.astype(np.int16)),
    "-9999 and 1, of which -9999 is nodata": tif(lambda t: np.where(t, 1, -9999).astype(np.int16), nodata=-9999),
    "int64": tif(lambda t: t.astype(np.int64)),
    "uint64": tif(lambda t: t.astype(np.uint64)),
    "float32": tif(lambda t: t.astype(np.float32)),
    "float64 of 0 and 255": tif(lambda t: t.astype(np.float64) * 255),
    "one bit": picture(lambda t: t.astype(bool)),
}


class TestTwoValues:
    @pytest.mark.parametrize("write", TWO_VALUED.values(), ids=TWO_VALUED)
    def test_become_two_classes_of_which_the_second_is_scored(self, tmp_path, write):
        path = folder(tmp_path, write)
        found = inspect(path, crop=32)
        assert found.problems == []
        assert found.proposal.ignore == ()
        background, scored = opened(found, path).settings.class_names
        for counts in found.class_pixels.values():
            assert counts == {background: SIDE * SIDE - 544, scored: 544}

    def test_of_which_the_second_covers_most_are_said_to_be_perhaps_the_wrong_way_round(self, tmp_path):
        found = inspect(folder(tmp_path, tif(lambda t: (1 - t) * np.uint8(255))), crop=32)
        assert any("255 covers 94 % of the masks" in note for note in found.notes)

    def test_in_one_band_here_and_three_there_are_read_alike(self, tmp_path):
        three = picture(lambda t: np.repeat(t[..., None] * np.uint8(255), 3, axis=2))
        one = picture(lambda t: t * np.uint8(255))
        path = folder(tmp_path, lambda place, *rest: (three if place.name == "a" else one)(place, *rest))
        found = inspect(path, crop=32)
        assert found.problems == []
        assert [counts["class-255"] for counts in found.class_pixels.values()] == [544, 544, 544]

    def test_that_differ_from_file_to_file_are_a_problem(self, tmp_path):
        path = folder(
            tmp_path,
            lambda place, t, options: tif(lambda t: t * np.uint8(255 if place.name == "a" else 1))(place, t, options),
        )
        found = inspect(path, crop=32)
        assert any("b.tif holds 0 and 1 but a.tif holds 0 and 255" in problem for problem in found.problems)


class TestOneValue:
    @pytest.mark.parametrize("change", [lambda t: t * 0, lambda t: np.repeat(t[..., None] * 0, 3, axis=2)])
    def test_everywhere_is_a_sentence(self, tmp_path, change):
        found = inspect(folder(tmp_path, picture(change)), crop=32)
        assert found.proposal is None
        assert any("everywhere and no other value" in problem for problem in found.problems)


class TestIgnored:
    def test_are_255_and_negative_values_beside_classes(self, tmp_path):
        def change(labels):
            values = labels.astype(np.int16)
            values[0], values[1] = -1, 255
            return values

        found = inspect(folder(tmp_path, tif(change)), crop=32)
        assert found.proposal.ignore == (-1, 255)
        assert found.class_pixels["test"] == {"background": SIDE * (SIDE - 2) - 544, "class-1": 544}

    def test_is_the_declared_nodata_value_beside_two_classes(self, tmp_path):
        def change(labels):
            labels = labels.copy()
            labels[:5] = 7
            return labels

        found = inspect(folder(tmp_path, tif(change, nodata=7)), crop=32)
        assert found.proposal.ignore == (7,)
        assert sum(found.class_pixels["test"].values()) == SIDE * (SIDE - 5)

    @pytest.mark.parametrize("fill", [None, float(np.finfo(np.float32).min)])
    def test_is_nan_and_a_huge_fill_value(self, tmp_path, fill):
        def change(labels):
            values = holed(labels)
            return values if fill is None else np.nan_to_num(values, nan=fill)

        found = inspect(folder(tmp_path, tif(change, nodata=fill)), crop=32)
        assert found.problems == []
        assert found.class_pixels["train"] == {"background": 80 * SIDE - 544, "class-1": 544}
        assert any("NaN" in note for note in found.notes)


class TestFractions:
    def test_are_refused_with_the_way_to_cut_them(self, tmp_path):
        found = inspect(folder(tmp_path, tif(lambda t: np.where(t, 0.9, 0.05).astype(np.float32))), crop=32)
        assert found.proposal is None
        assert len(found.problems) == 3
        assert all("holds the fraction 0.05" in text and 'calc="A>0.5"' in text for text in found.problems)

    def test_are_refused_when_a_collection_is_read(self, tmp_path):
        classes = (ClassSettings(name="a", value=0), ClassSettings(name="b", value=1))
        settings = CollectionSettings(
            name="x", classes=classes, split=SplitSettings(train=("*",), validation=("v",), test=("t",))
        )
        image = write_raster(tmp_path / "images/s.tif", np.full((3, 8, 8), 9, np.uint8))
        mask = write_raster(tmp_path / "masks/s.tif", np.full((8, 8), 0.5, np.float32))
        scene = describe_scene(image, settings, mask)
        with pytest.raises(DataError, match=r"masks/s\.tif: holds the fraction 0\.5"):
            SceneReader(settings).read(scene, scene.box)


def halved_and_doubled(labels):
    """What a smooth resampling leaves: values between 0 and 255 along the edges."""
    small = Image.fromarray(labels * np.uint8(255)).resize((SIDE // 2, SIDE // 2), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


class TestLoss:
    @pytest.mark.parametrize("quality", [95, 75, 50])
    @pytest.mark.parametrize("bands", [1, 3])
    def test_around_0_and_255_is_snapped_to_the_nearer(self, tmp_path, quality, bands):
        def change(labels):
            return labels * np.uint8(255) if bands == 1 else np.repeat(labels[..., None] * np.uint8(255), 3, axis=2)

        path = folder(tmp_path, picture(change, ".jpg", quality=quality))
        found = inspect(path, crop=32)
        assert found.problems == []
        collection = opened(found, path)
        assert len(collection.settings.classes) == 2
        assert collection.settings.mask_tolerance == 127
        for index, scene in enumerate(collection.scenes):
            decoded = np.asarray(Image.open(scene.mask).convert("L"))
            labels = collection.reader.read(scene, scene.box).labels
            np.testing.assert_array_equal(labels, decoded >= 128)
            assert (labels != squares(index)).mean() < 0.005

    def test_along_edges_after_smooth_resampling_is_snapped(self, tmp_path):
        path = folder(tmp_path, picture(halved_and_doubled))
        found = inspect(path, crop=32)
        assert found.problems == []
        assert [entry.value for entry in found.proposal.classes] == [0, 255]
        collection = opened(found, path)
        labels = collection.reader.read(collection.scenes[0], collection.scenes[0].box).labels
        np.testing.assert_array_equal(labels, halved_and_doubled(squares(0)) >= 128)

    def test_of_more_than_two_values_is_refused(self, tmp_path):
        def change(labels):
            labels = labels * np.uint8(255)
            labels[70:90, 60:90] = 120
            return labels

        found = inspect(folder(tmp_path, picture(change, ".jpg", quality=80)), crop=32)
        assert found.proposal is None
        assert any("saved with loss (JPEG)" in text and "Export them as PNG" in text for text in found.problems)

    def test_does_not_take_grey_levels_that_fill_areas_for_edges(self, tmp_path):
        def change(labels):
            labels = labels * np.uint8(255)
            for index, value in enumerate((64, 128, 192)):
                labels[70:85, 10 + 25 * index : 25 + 25 * index] = value
            return labels

        found = inspect(folder(tmp_path, picture(change)), crop=32)
        assert [entry.value for entry in found.proposal.classes] == [0, 64, 128, 192, 255]
        assert found.class_pixels["test"]["class-128"] == 15 * 15

    def test_at_the_rims_of_several_classes_is_ignored_and_said(self, tmp_path):
        def change(labels):
            labels = labels * np.uint8(100)
            labels[65:90, 60:90] = 40
            labels[65, 60:90], labels[89, 60:90], labels[65:90, 60] = 20, 11, 33
            return labels

        found = inspect(folder(tmp_path, picture(change)), crop=32)
        assert [entry.value for entry in found.proposal.classes] == [0, 40, 100]
        assert found.proposal.ignore == (11, 20, 33)
        assert any("11, 20, 33 in the masks is taken as 'ignore'" in note for note in found.notes)

    def test_beyond_the_tolerance_is_an_error(self, tmp_path):
        classes = (ClassSettings(name="a", colour="#000000"), ClassSettings(name="b", colour="#FF0000"))
        settings = CollectionSettings(
            name="x",
            classes=classes,
            mask_tolerance=10,
            split=SplitSettings(train=("*",), validation=("v",), test=("t",)),
        )
        image = write_raster(tmp_path / "images/s.tif", np.full((3, 2, 2), 9, np.uint8))
        colours = np.array([[[0, 250], [10, 245]], [[0, 8], [0, 0]], [[10, 0], [0, 0]]], np.uint8)
        mask = write_raster(tmp_path / "masks/s.tif", colours)
        scene = describe_scene(image, settings, mask)
        np.testing.assert_array_equal(SceneReader(settings).read(scene, scene.box).labels, [[0, 1], [0, 1]])
        colours[1, 1, 1] = 11
        write_raster(mask, colours)
        with pytest.raises(DataError, match="colour #F50B00 at row 1, column 1 is no class"):
            SceneReader(settings).read(scene, scene.box)

    @pytest.mark.parametrize("values", [(1, 2, 3, 4), tuple(range(1, 41))], ids=["few", "many"])
    @pytest.mark.parametrize("wide", [1, 8])
    def test_is_not_seen_in_class_numbers_beside_255(self, tmp_path, values, wide):
        def change(labels):
            labels = labels * np.uint8(255)
            for index, value in enumerate(values):
                row, column = 62 + 2 * (index // 10), 9 * (index % 10)
                labels[row : row + 2 if wide > 1 else row + 1, column : column + 8] = value
            return labels

        found = inspect(folder(tmp_path, tif(change)), crop=32)
        read = {entry.value for entry in found.proposal.classes} | set(found.proposal.ignore)
        assert read == {0, *values, 255}
        assert found.proposal.mask_tolerance == 0

    def test_is_not_seen_in_numbers_of_single_objects(self, tmp_path):
        def change(labels):
            labels = np.zeros((SIDE, SIDE), np.uint8)
            for value in range(1, 256):
                labels[6 * (value // 16) : 6 * (value // 16) + 4, 6 * (value % 16) : 6 * (value % 16) + 4] = value
            return labels

        found = inspect(folder(tmp_path, tif(change)), crop=32)
        assert found.proposal is None

    def test_in_blocks_is_said(self, tmp_path):
        def change(labels):
            small = Image.fromarray(labels * np.uint8(255)).resize((17, 17), Image.Resampling.BICUBIC)
            return np.kron(np.asarray(small), np.ones((6, 6), np.uint8))[:SIDE, :SIDE]

        found = inspect(folder(tmp_path, picture(change)), crop=32)
        assert any("0 and 255 make up" in text and "`mask_tolerance: 127`" in text for text in found.problems)


class TestManyBands:
    @pytest.mark.parametrize("bands", [2, 5])
    def test_one_for_each_class_are_refused_with_the_way_to_one(self, tmp_path, bands):
        found = inspect(
            folder(tmp_path, tif(lambda t: np.stack([t == index for index in range(bands)]).astype(np.uint8))), crop=32
        )
        assert all(f"has {bands} bands" in text and "argmax" in text for text in found.problems)
        assert len(found.problems) == 3


class TestManyValues:
    def test_that_fill_areas_are_classes_up_to_200(self, tmp_path):
        def change(labels):
            return np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((12, 12), np.uint8))

        found = inspect(folder(tmp_path, tif(change)), crop=32)
        assert len(found.proposal.classes) == 64

    def test_of_single_objects_are_told_how_to_become_one_class(self, tmp_path):
        def change(labels):
            return np.kron(np.arange(256, dtype=np.uint16).reshape(16, 16), np.ones((6, 6), np.uint16)) * 3

        found = inspect(folder(tmp_path, tif(change)), crop=32)
        assert found.proposal is None
        assert any("each object has a number of its own" in text and 'calc="A>0"' in text for text in found.problems)

    def test_of_imagery_are_refused(self, tmp_path):
        def change(labels):
            return np.random.default_rng(0).integers(0, 256, labels.shape, dtype=np.uint8)

        found = inspect(folder(tmp_path, tif(change)), crop=32)
        assert found.proposal is None
        assert any("they are imagery" in text for text in found.problems)
