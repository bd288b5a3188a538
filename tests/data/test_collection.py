"""Collections: pairing, splits that do not leak, and refusals that say what to do."""

import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kdcore.data.collection import Collection, grid_cells, merge_boxes, subtract
from kdcore.data.scene import Box
from kdcore.errors import DataError, SettingsError
from kdcore.settings import SPLITS, SplitSettings
from tests.conftest import paint, write_raster


def cover(boxes, height, width):
    """How often each pixel is covered."""
    canvas = np.zeros((height, width), dtype=int)
    for box in boxes:
        canvas[box.row : box.row + box.height, box.column : box.column + box.width] += 1
    return canvas


boxes = st.builds(Box, st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))


@given(boxes, boxes)
def test_subtracting_leaves_exactly_the_rest(box, hole):
    rest = cover(subtract(box, hole), 40, 40)
    np.testing.assert_array_equal(rest, cover([box], 40, 40) * (1 - cover([hole], 40, 40)))


@given(st.integers(1, 6), st.integers(1, 6), st.sets(st.integers(0, 35)))
def test_merged_blocks_cover_the_same_pixels_once(rows, columns, chosen):
    cells = list(grid_cells(Box(0, 0, 40, 37), (rows, columns)).values())
    some = [cell for index, cell in enumerate(cells) if index in chosen]
    np.testing.assert_array_equal(cover(merge_boxes(some), 40, 37), cover(some, 40, 37))
    assert cover(cells, 40, 37).min() == cover(cells, 40, 37).max() == 1


def one_scene(tmp_path, split: SplitSettings, size=512):
    from kdcore.settings import ClassSettings, CollectionSettings

    image, labels = paint(np.random.default_rng(0), size, 2)
    write_raster(tmp_path / "big/images/s.tif", image)
    write_raster(tmp_path / "big/masks/s.tif", labels)
    classes = (ClassSettings(name="a", value=0), ClassSettings(name="b", value=1))
    return Collection(CollectionSettings(name="big", classes=classes, split=split), tmp_path / "big")


def test_blocks_keep_a_buffer(tmp_path):
    """No train pixel lies within the buffer of a validation or test pixel, for every assignment of blocks."""

    @hypothesis_settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from(["train", "validation", "test"]), min_size=12, max_size=12), st.integers(0, 90))
    def check(owners, buffer):
        if set(owners) != {"train", "validation", "test"}:
            return
        names = [f"r{row}c{column}" for row in (1, 2, 3) for column in (1, 2, 3, 4)]
        parts = {split: tuple(n for n, owner in zip(names, owners, strict=True) if owner == split) for split in SPLITS}
        collection = one_scene(tmp_path, SplitSettings(by="block", grid=(3, 4), **parts), 240)
        covers = {split: cover([r.box for r in collection.regions(split, buffer)], 240, 240) for split in SPLITS}
        assert all(canvas.max(initial=0) <= 1 for canvas in covers.values())
        for split, behind in (("train", ("validation", "test")), ("validation", ("test",))):
            for region in collection.regions(split, buffer):
                for other in behind:
                    for against in collection.regions(other, 0):
                        assert region.box.grown(buffer).intersection(against.box) is None

    check()


def test_scenes_are_found_paired_and_split(make_collection):
    collection = Collection.open(make_collection())
    assert [scene.id for scene in collection.scenes] == ["a", "b", "c", "d"]
    assert [region.scene.id for region in collection.regions("train")] == ["a", "b"]
    assert collection.regions("test")[0].box == Box(0, 0, 128, 128)
    assert collection.metres_per_pixel == pytest.approx(0.5, rel=1e-3)


def test_a_pattern_that_never_ends_is_refused(make_collection):
    """There are more than 2^(n/2) ways to cut n letters into ones and twos, and none leaves the end that is wanted."""
    path = make_collection(
        scene=r"(?P<scene>(\w|\w\w)+)[^a]", split=SplitSettings(train=("a",), validation=("c",), test=("d",))
    )
    for file in (*path.parent.glob("*/a.*"),):
        file.rename(file.with_stem("a" * 60))
    with pytest.raises(DataError, match=r"takes more than 1 s on the name 'aaa.*Repeat nothing that repeats already"):
        Collection.open(path)


def test_files_of_one_scene_are_grouped(make_collection):
    path = make_collection(
        scene=r"(?P<scene>[abcd])", split=SplitSettings(train=("[ab]",), validation=("c",), test=("d",))
    )
    for folder in ("images", "masks"):
        for name in "abcd":
            file = path.parent / folder / f"{name}.tif"
            file.rename(file.with_name(f"s{'1' if name in 'ab' else name}_part{name}.tif"))
    text = (
        path.read_text()
        .replace("(?P<scene>[abcd])", r"(?P<scene>.+)_part\w")
        .replace("- '[ab]'", "- s1")
        .replace("- c", "- sc")
        .replace("- d", "- sd")
    )
    path.write_text(text)
    assert [scene.group for scene in Collection.open(path).scenes] == ["s1", "s1", "sc", "sd"]


def test_data_may_lie_elsewhere(make_collection, tmp_path):
    path = make_collection()
    elsewhere = tmp_path / "settings.yaml"
    elsewhere.write_text(path.read_text() + "root: collection\n")
    path.unlink()
    assert len(Collection.open(elsewhere).scenes) == 4


def test_the_hash_follows_the_contents(make_collection):
    path = make_collection()
    before = Collection.open(path).content_hash
    assert Collection.open(path).content_hash == before
    image, _ = paint(np.random.default_rng(9), 128, 3)
    write_raster(path.parent / "images/a.tif", image)
    assert Collection.open(path).content_hash != before


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (
            {"train": ("a", "b"), "validation": ("b",), "test": ("d",)},
            "'b' is both in train and in validation; that would leak",
        ),
        (
            {"train": ("a", "x"), "validation": ("c",), "test": ("d",)},
            "names 'x', which is no scene here. There are: a, b, c, d",
        ),
    ],
)
def test_a_wrong_split_is_refused(make_collection, split, words):
    with pytest.raises(DataError, match=words):
        Collection.open(make_collection(split=SplitSettings(**split)))


def test_the_same_ground_in_two_parts_is_refused(make_collection):
    path = make_collection()
    image, _ = paint(np.random.default_rng(3), 128, 3)
    write_raster(path.parent / "images/d.tif", image, west=500_032)  # half of a's ground
    with pytest.raises(DataError, match=r"a\.tif and d\.tif show the same ground"):
        Collection.open(path)


def test_the_same_file_in_two_parts_is_refused(make_collection):
    path = make_collection()
    for name in "abcd":  # without a georeference only the contents tell
        write_raster(path.parent / f"images/{name}.tif", paint(np.random.default_rng(ord(name)), 128, 3)[0], crs=None)
    shutil.copy(path.parent / "images/a.tif", path.parent / "images/d.tif")
    with pytest.raises(DataError, match=r"same contents as a\.tif"):
        Collection.open(path)


def test_an_image_without_labels_is_refused(make_collection):
    path = make_collection()
    (path.parent / "masks/b.tif").unlink()
    with pytest.raises(DataError, match=r"b\.tif: is in the train part but has no labels"):
        Collection.open(path)


def test_images_of_different_bands_are_refused(make_collection):
    path = make_collection()
    write_raster(path.parent / "images/b.tif", np.ones((4, 128, 128), np.uint8), west=501_000, photometric="MINISBLACK")
    with pytest.raises(DataError, match=r"has 4 bands but a\.tif has 3"):
        Collection.open(path)


def test_missing_things_are_named(tmp_path, make_collection):
    with pytest.raises(SettingsError, match="no such folder"):
        Collection.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="kdcore data inspect"):
        Collection.open(tmp_path / "empty")
    path = make_collection()
    shutil.rmtree(path.parent / "images")
    with pytest.raises(DataError, match="holds no images"):
        Collection.open(path)


def test_a_path_outside_the_folder_is_refused(make_collection):
    path = make_collection()
    path.write_text(path.read_text().replace("images: images", "images: ../../etc"))
    with pytest.raises(SettingsError, match="outside the collection's folder"):
        Collection.open(path)


@pytest.mark.parametrize("angle", [0, -25, 45])
def test_neighbouring_tiles_may_be_in_different_parts(make_collection, angle):
    """One orthophoto away from its zone's middle, cut into four tiles."""
    path = make_collection()
    start = Affine.translation(300_000, 5_000_000) @ Affine.rotation(angle) @ Affine.scale(0.5, -0.5)
    for index, name in enumerate("abcd"):
        image, _ = paint(np.random.default_rng(index), 128, 3)
        with rasterio.open(
            path.parent / f"images/{name}.tif", "w", driver="GTiff", width=128, height=128, count=3, dtype="uint8",
            crs="EPSG:32633", transform=start @ Affine.translation(128 * index, 0),
        ) as file:  # fmt: skip
            file.write(image)
    assert len(Collection.open(path).scenes) == 4


def test_the_same_ground_on_a_turned_grid_is_refused(make_collection):
    path = make_collection()
    turned = Affine.translation(700_000, 5_000_000) @ Affine.rotation(-45) @ Affine.scale(0.5, -0.5)
    for index, name in enumerate("ad"):  # half of it
        image, _ = paint(np.random.default_rng(index), 128, 3)
        with rasterio.open(
            path.parent / f"images/{name}.tif", "w", driver="GTiff", width=128, height=128, count=3, dtype="uint8",
            crs="EPSG:32633", transform=turned @ Affine.translation(64 * index, 0),
        ) as file:  # fmt: skip
            file.write(image)
    with pytest.raises(DataError, match=r"a\.tif and d\.tif show the same ground"):
        Collection.open(path)


@pytest.mark.parametrize(("west", "part"), [(502_000, "validation"), (503_032, "test"), (502_936 + 2, "test")])
def test_unlabelled_imagery_of_held_back_ground_is_refused(make_collection, west, part):
    """c lies 2 km, d 3 km east of a; each is 64 m wide. The last one shows two metres of d only."""
    path = make_collection()
    image, _ = paint(np.random.default_rng(3), 128, 3)
    write_raster(path.parent / "unlabelled/u.tif", image, west=west)
    with pytest.raises(DataError, match=rf"u\.tif: shows ground of [cd]\.tif, which is in the {part} part"):
        Collection.open(path)


@pytest.mark.parametrize("west", [500_000, 502_936, 503_064, 509_000])
def test_unlabelled_imagery_may_show_train_ground_and_lie_beside_the_rest(make_collection, west):
    path = make_collection()
    image, _ = paint(np.random.default_rng(3), 128, 3)
    write_raster(path.parent / "unlabelled/u.tif", image, west=west)
    assert len(Collection.open(path).unlabelled) == 1


def test_unlabelled_imagery_may_show_the_train_blocks_of_a_scene_and_no_others(tmp_path):
    """A scene of 256 m is cut in two rows; the upper one trains, the left half of the lower one is tested."""
    split = SplitSettings(by="block", grid=(2, 2), train=("r1*",), validation=("r2c2",), test=("r2c1",))
    image, _ = paint(np.random.default_rng(3), 200, 2)
    write_raster(tmp_path / "big/unlabelled/u.tif", image, north=5_000_000)  # 100 m of the upper 128
    assert len(one_scene(tmp_path, split).unlabelled) == 1
    write_raster(tmp_path / "big/unlabelled/u.tif", image, north=4_999_900)
    with pytest.raises(DataError, match=r"u\.tif: shows ground of s\.tif, which is in the test part"):
        one_scene(tmp_path, split)


def test_an_unlabelled_copy_of_a_test_image_is_refused_without_a_place(make_collection):
    path = make_collection()
    for name in "abcd":
        write_raster(path.parent / f"images/{name}.tif", paint(np.random.default_rng(ord(name)), 128, 3)[0], crs=None)
    (path.parent / "unlabelled").mkdir()
    shutil.copy(path.parent / "images/a.tif", path.parent / "unlabelled/of_a.tif")
    assert len(Collection.open(path).unlabelled) == 1
    shutil.copy(path.parent / "images/d.tif", path.parent / "unlabelled/of_d.tif")
    with pytest.raises(DataError, match=r"of_d\.tif: has the same contents as d\.tif, which is in the test part"):
        Collection.open(path)
