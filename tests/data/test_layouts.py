"""Folders as people have them: what is paired, what the split is, and that the proposal, written and read again, gives the right labels."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from shapely.geometry import box

from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.pairing import same_grid
from kdcore.data.propose import proposal_text
from kdcore.settings import SPLITS, save
from tests.conftest import UTM, write_collection, write_raster
from tests.folders import SIZE, bar, build, pixels, put, scene, write_vector


def proposed(root, problems=0) -> Collection:
    """The collection that the written proposal opens."""
    found = inspect(root, crop=32)
    assert len(found.problems) == problems, found.problems
    (root / "collection.yaml").write_text(proposal_text(found), encoding="utf-8")
    return Collection.open(root)


def bars(collection: Collection) -> dict[str, int]:
    """Pixels of the second class of each scene."""
    read = {scene.id: collection.reader.read(scene, scene.box).labels for scene in collection.scenes if scene.labelled}
    return {name: int((labels == 1).sum()) for name, labels in read.items()}


def parts(collection: Collection) -> dict[str, list[str]]:
    return {split: [region.scene.id for region in collection.regions(split)] for split in SPLITS}


PAIRS = [  # images, masks, patterns that are proposed
    ("images/{n}.tif", "masks/{n}.tif", "images", "masks"),
    ("images/{n}_sat.jpg", "masks/{n}_mask.png", "images/{name}_sat", "masks/{name}_mask"),
    ("{n}_sat.jpg", "{n}_mask.png", "{name}_sat", "{name}_mask"),
    ("images/{n}.jpg", "masks/{n}_mask.png", "images", "masks/{name}_mask"),
    ("images/IMG_{n:06}.tif", "masks/MSK_{n:06}.tif", "images/IMG_{name}", "masks/MSK_{name}"),
    ("i/top_potsdam_2_{n}_RGB.tif", "m/top_potsdam_2_{n}_label.tif", "i/{name}_RGB", "m/{name}_label"),
    ("images_png/{n}.png", "masks_png/{n}.png", "images_png", "masks_png"),
    ("images/image_{n}.tif", "labels/label_{n}.tif", "images/image_{name}", "labels/label_{name}"),
    ("img/austin_img_{n}.tif", "gt/austin_gt_{n}.tif", "img/austin_img_{name}", "gt/austin_gt_{name}"),
    ("austin{n}.tif", "gt/austin{n}.tif", "{name}", "gt"),
    ("x/{n}.tif", "y/{n}.png", "x", "y"),  # only the contents tell which is which
    ("{n}.jpg", "{n}.png", "{name}.jpg", "{name}.png"),
    ("images/images/{n}.tif", "images/masks/{n}.tif", "images/images", "images/masks"),
    ("RGB-PanSharpen_Vegas_img{n}.tif", "masks/mask_Vegas_img{n}.tif", "RGB-PanSharpen_{name}", "masks/mask_{name}"),
    ("data/imagesTr/a_{n}_0000.tif", "data/labelsTr/a_{n}.tif", "data/imagesTr/{name}_0000", "data/labelsTr"),
    ("Images/{n}.TIF", "Masks/{n}.PNG", "Images", "Masks"),
    ("my images/área {n}.tif", "my masks/área {n}.tif", "my images", "my masks"),
]


@pytest.mark.parametrize(("images", "masks", "image_pattern", "mask_pattern"), PAIRS)
def test_images_and_masks_are_paired_by_what_their_names_share(tmp_path, images, masks, image_pattern, mask_pattern):
    collection = proposed(build(tmp_path / "c", images, masks))
    assert (collection.settings.images, collection.settings.masks) == (image_pattern, mask_pattern)
    assert sorted(bars(collection).values()) == [pixels(number) for number in range(1, 6)]
    assert sorted(name for names in parts(collection).values() for name in names) == sorted(bars(collection))


SPLIT_FOLDERS = [
    ("{part}/images/{n}.tif", "{part}/masks/{n}.tif", ("train", "val", "test")),
    ("images/{part}/{n}.tif", "masks/{part}/{n}.tif", ("training", "validation", "testing")),
    ("{part}/{n}.tif", "{part}_labels/{n}.tif", ("train", "val", "test")),
    ("{part}/{n}_sat.jpg", "{part}/{n}_mask.png", ("train", "valid", "test")),
    ("{part}/Rural/images_png/{n}.png", "{part}/Rural/masks_png/{n}.png", ("Train", "Val", "Test")),
    ("img_dir/{part}/{n}.png", "ann_dir/{part}/{n}.png", ("train", "val", "test")),
    ("images/{part}_{n}.tif", "masks/{part}_{n}.tif", ("train", "val", "test")),
    ("{part}/{n}.png", "{part}annot/{n}.png", ("train", "val", "test")),
]


@pytest.mark.parametrize(("images", "masks", "names"), SPLIT_FOLDERS)
def test_a_split_that_folders_or_names_have_is_kept(tmp_path, images, masks, names):
    root, numbers = tmp_path / "c", iter(range(1, 9))
    wanted: dict[str, list[int]] = {}
    for split, name, count in zip(SPLITS, names, (4, 2, 2), strict=True):
        wanted[split] = [next(numbers) for _ in range(count)]
        build(root, images.replace("{part}", name), masks.replace("{part}", name), wanted[split])
    collection = proposed(root)
    counted = bars(collection)
    for split, scenes in parts(collection).items():
        assert sorted(counted[scene] for scene in scenes) == [pixels(number) for number in wanted[split]]


def test_scenes_of_one_number_in_different_folders_are_different_scenes(tmp_path):
    root = tmp_path / "c"
    for index, part in enumerate(("train", "val", "test")):
        for number in (1, 2):
            put(root / f"{part}/images/{number}.tif", 10 * index + number, "image")
            put(root / f"{part}/masks/{number}.tif", 10 * index + number, "mask")
    assert bars(proposed(root)) == {
        f"{part}_{number}": pixels(10 * index + number)
        for index, part in enumerate(("train", "val", "test"))
        for number in (1, 2)
    }


def test_a_validation_folder_alone_chooses_on_a_third_and_tests_on_the_rest(tmp_path):
    root = build(tmp_path / "c", "train/images/{n}.tif", "train/masks/{n}.tif", range(1, 5))
    build(root, "val/images/{n}.tif", "val/masks/{n}.tif", range(11, 17))
    found = inspect(root, crop=32)
    assert found.proposal.split.train == ("train_*",)
    assert (len(found.proposal.split.validation), len(found.proposal.split.test)) == (2, 4)
    assert all(name.startswith("val_") for name in (*found.proposal.split.validation, *found.proposal.split.test))
    assert any("a third of their validation part chooses and the rest tests" in note for note in found.notes)


def test_a_test_folder_alone_is_never_used_to_choose(tmp_path):
    root = build(tmp_path / "c", "train/images/{n}.tif", "train/masks/{n}.tif", range(1, 8))
    split = inspect(build(root, "test/images/{n}.tif", "test/masks/{n}.tif", range(11, 14)), crop=32).proposal.split
    assert split.test == ("test_*",)
    assert len(split.validation) == 1
    assert len(split.train) == 6


def test_a_test_folder_without_labels_serves_the_teacher(tmp_path):
    """DeepGlobe: valid/ and test/ are published without masks."""
    root = build(tmp_path / "c", "train/{n}_sat.jpg", "train/{n}_mask.png", range(1, 6))
    build(root, "valid/{n}_sat.jpg", None, range(6, 8))
    build(root, "test/{n}_sat.jpg", None, range(8, 10))
    collection = proposed(root)
    assert collection.settings.images == "train/{name}_sat"
    assert collection.settings.unlabelled == ("test/{name}_sat", "valid/{name}_sat")
    assert len(collection.unlabelled) == 4
    assert len(bars(collection)) == 5


def test_lists_of_names_give_the_split(tmp_path):
    root = build(tmp_path / "c", "images/a{n}.tif", "masks/a{n}.tif", range(1, 7))
    for part, names in (("train", "a1\na3\na5\na6"), ("val", "images/a2.tif"), ("test", "a4 extra\n")):
        (root / f"{part}.txt").write_text(names)
    assert parts(proposed(root)) == {"train": ["a1", "a3", "a5", "a6"], "validation": ["a2"], "test": ["a4"]}


def test_t_and_v_before_every_name_are_train_and_validation(tmp_path):
    root = build(tmp_path / "c", "images/t_{n}_40.tif", "masks/t_{n}_40.png", range(1, 8))
    build(root, "images/v_{n}_40.tif", "masks/v_{n}_40.png", range(11, 17))
    split = inspect(root, crop=32).proposal.split
    assert split.train == ("t_*",)
    assert (len(split.validation), len(split.test)) == (2, 4)


def test_a_split_of_folders_that_leaks_is_refused(tmp_path):
    root = tmp_path / "c"
    for part in ("train", "val", "test"):
        for number in (1, 2):
            put(root / f"{part}/images/{number}.tif", number, "image")
            put(root / f"{part}/masks/{number}.tif", number, "mask")
    found = inspect(root, crop=32)
    assert any("same contents" in problem and "leak" in problem for problem in found.problems)


# --- polygons


def test_one_vector_file_serves_all_images(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    write_vector(root / "labels/buildings.geojson", range(1, 6))
    collection = proposed(root)
    assert collection.settings.labels == "labels/buildings.geojson"
    assert bars(collection) == pytest.approx({f"t{number}": pixels(number) for number in range(1, 6)}, abs=SIZE)


def test_one_vector_file_beside_the_images_serves_all(tmp_path):
    root = build(tmp_path / "c", "t{n}.tif", None)
    write_vector(root / "buildings.gpkg", range(1, 6))
    assert bars(proposed(root)) == pytest.approx({f"t{number}": pixels(number) for number in range(1, 6)}, abs=SIZE)


def test_one_vector_file_serves_images_of_different_crs(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None, range(1, 5))
    image, _ = scene(5)
    # At this latitude (44.9 degrees) 0.7 m of Web Mercator are 0.5 m on the ground.
    write_raster(root / "images/t5.tif", image, crs="EPSG:3857", west=1_000_000, north=5_600_000, resolution=0.7)
    frame = geopandas.GeoDataFrame(geometry=[box(1_000_000, 5_599_972, 1_000_090, 5_600_000)], crs="EPSG:3857")
    other = geopandas.GeoDataFrame(geometry=[bar(number) for number in range(1, 5)], crs=UTM)
    both = [*other.to_crs("EPSG:4326").geometry, *frame.to_crs("EPSG:4326").geometry]
    (root / "labels").mkdir()
    geopandas.GeoDataFrame(geometry=both, crs="EPSG:4326").to_file(root / "labels/all.geojson")
    counted = bars(proposed(root))
    assert counted["t5"] == pytest.approx(40 * SIZE, abs=SIZE)  # 28 units of 0.7 each
    assert counted["t4"] == pytest.approx(pixels(4), abs=SIZE)


def test_a_field_that_names_images_says_whose_a_polygon_is(tmp_path):
    """Two images of one place at different times: only the field tells which polygon belongs to which."""
    root = build(tmp_path / "c", "images/t{n}.tif", None, range(1, 5))
    for name in ("t3", "t4"):
        write_raster(root / f"images/{name}.tif", scene(int(name[1]))[0], west=503_000)
    frame = geopandas.GeoDataFrame(
        {"image": ["t1.tif", "t2.tif", "t3.tif", "t4.tif"]},
        geometry=[bar(1), bar(2), bar(3), bar(3).buffer(-5)],
        crs=UTM,
    )
    (root / "labels").mkdir()
    frame.to_file(root / "labels/all.gpkg")
    proposal = inspect(root, crop=32).proposal
    assert (proposal.image_field, proposal.labels) == ("image", "labels/all.gpkg")
    split = proposal.split.model_copy(update={"train": ("t1",), "validation": ("t2",), "test": ("t[34]",)})
    save(proposal.model_copy(update={"split": split}), root / "collection.yaml")
    counted = bars(Collection.open(root))
    assert counted == {"t1": pixels(1), "t2": pixels(2), "t3": pixels(3), "t4": (pixels(3) // SIZE - 20) * (SIZE - 20)}


def test_vector_files_with_other_names_are_found_by_their_place(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    for number, name in zip(range(1, 6), ("north", "south", "east", "west", "centre"), strict=True):
        write_vector(root / f"labels/{name}.geojson", [number])
    collection = proposed(root)
    assert collection.settings.labels == "labels/*"
    assert bars(collection) == pytest.approx({f"t{number}": pixels(number) for number in range(1, 6)}, abs=SIZE)


def test_masks_with_other_names_are_found_by_their_place(tmp_path):
    root = tmp_path / "c"
    for number, name in zip(range(1, 6), ("north", "south", "east", "west", "centre"), strict=True):
        put(root / f"images/{chr(96 + number)}.tif", number, "image")
        put(root / f"masks/{name}.tif", number, "mask")
    collection = proposed(root)
    assert collection.settings.masks == "masks/*"
    assert bars(collection) == {chr(96 + number): pixels(number) for number in range(1, 6)}


def test_an_outline_of_the_area_is_no_label(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    write_vector(root / "aoi.geojson", [1])
    found = inspect(root, crop=32)
    assert found.polygons == []
    assert any("aoi.geojson" in note and "outlines are no labels" in note for note in found.notes)


# --- what is not used is named


def test_other_views_of_the_same_scenes_are_named(tmp_path):
    """Sen1Floods11: radar and optical images of one name for one mask."""
    root = tmp_path / "c"
    for number in range(1, 6):
        put(root / f"S1Hand/Ghana_{number}_S1Hand.tif", number, "image")
        put(root / f"S2Hand/Ghana_{number}_S2Hand.tif", number + 20, "image")
        put(root / f"LabelHand/Ghana_{number}_LabelHand.tif", number, "mask")
    found = inspect(root, crop=32)
    assert found.proposal.masks == "LabelHand/{name}_LabelHand"
    assert found.proposal.images == "S1Hand/{name}_S1Hand"
    assert any("S2Hand/: 5 files are not used" in note and "same scenes" in note for note in found.notes)


def test_single_images_without_labels_are_a_problem_and_in_no_part(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    put(root / "images/t9.tif", 9, "image")
    found = inspect(root, crop=32)
    assert any("1 image has no labels of the same name (images/t9.tif)" in problem for problem in found.problems)
    assert "t9" not in sum((getattr(found.proposal.split, split) for split in SPLITS), ())


@pytest.mark.parametrize("name", ["a.vrt", "a.img", "a.dat", "a.bsq", "a.webp", "a.nc", "a.h5", "a.zip", "a.ecw"])
def test_imagery_that_is_not_read_is_named_with_its_command(tmp_path, name):
    (tmp_path / "c/images").mkdir(parents=True)
    (tmp_path / "c/images" / name).write_bytes(b"<VRTDataset/>")
    found = inspect(tmp_path / "c")
    told = next(problem for problem in found.problems if f"images/{name}" in problem)
    assert "rio convert" in told or "Unpack it" in told
    assert found.proposal is None


@pytest.mark.parametrize("folder", ["images$(touch broken)", "a'; touch broken; '", 'a"`touch broken`'])
@pytest.mark.parametrize("suffix", [".img", ".npy", ".kml", ".nc"])
def test_no_command_holds_a_name_that_a_shell_would_run(tmp_path, folder, suffix):
    (tmp_path / "c" / folder).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "c" / folder / f"{name}{suffix}").write_bytes(b"nothing")
    told = inspect(tmp_path / "c").problems[0]
    assert "Rename it" in told
    assert "rio" not in told
    assert "python" not in told


@pytest.mark.parametrize("name", ["my images/a $(touch broken).img", "images/'; touch broken; '.img"])
def test_a_single_files_name_is_quoted(tmp_path, name):
    root = tmp_path / "c"
    (root / name).parent.mkdir(parents=True)
    rasterio.shutil.copy(put(tmp_path / "a.tif", 1, "image"), root / name, driver="HFA")
    run_told(inspect(root).problems[0], root)
    assert (root / name).with_suffix(".tif").is_file()
    assert not list(tmp_path.rglob("broken"))


@pytest.mark.parametrize(("driver", "suffix"), [("HFA", ".img"), ("ENVI", ".dat"), ("VRT", ".vrt")])
def test_the_command_for_rasters_converts_them(tmp_path, driver, suffix):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    (tmp_path / "there").mkdir()
    for file in sorted((root / "images").glob("*.tif")):
        moved = file.rename(tmp_path / "there" / file.name)
        rasterio.shutil.copy(moved, file.with_suffix(suffix), driver=driver)
    told = inspect(root, crop=32).problems[0]
    assert f"images/t1{suffix} and 4 more" in told
    run_told(told, root)
    assert sorted(bars(proposed(root, problems=0)).values()) == [pixels(number) for number in range(1, 6)]


def run_told(told: str, root) -> None:
    """Run the command at the end of a sentence, as a person would."""
    command = told.split(f"{root}: ", 1)[1]
    folder = str(Path(sys.executable).parent)
    subprocess.run(["bash", "-ec", f"export PATH={folder}:$PATH\n{command}"], cwd=root, check=True)


def test_the_command_for_numpy_arrays_converts_them(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    (root / "masks").mkdir()
    for number in range(1, 6):
        np.save(root / f"masks/t{number}.npy", scene(number)[1])
    told = next(problem for problem in inspect(root, crop=32).problems if "NumPy" in problem)
    run_told(told, root)
    assert bars(proposed(root)) == {f"t{number}": pixels(number) for number in range(1, 6)}


def test_geoparquet_is_read_and_not_to_be_converted(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    (root / "labels").mkdir()
    for number in range(1, 6):
        geopandas.GeoDataFrame(geometry=[bar(number)], crs=UTM).to_parquet(root / f"labels/t{number}.parquet")
    assert bars(proposed(root)) == {f"t{number}": pixels(number) for number in range(1, 6)}


@pytest.mark.parametrize("suffix", [".shp", ".fgb", ".parquet"])
def test_one_file_of_any_vector_format_serves_all_images(tmp_path, suffix):
    """A shapefile has parts beside it, which are no files that are left over; nothing is told to be converted."""
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    frame = geopandas.GeoDataFrame(geometry=[bar(number) for number in range(1, 6)], crs=UTM)
    frame.to_parquet(root / "roofs.parquet") if suffix == ".parquet" else frame.to_file(root / f"roofs{suffix}")
    assert bars(proposed(root)) == {f"t{number}": pixels(number) for number in range(1, 6)}
    assert not [note for note in inspect(root, crop=32).notes if "not used" in note or "not read" in note]


def test_masks_are_found_by_their_place_on_a_grid_of_neighbours(tmp_path):
    """Masks of other names, of which each has neighbours a pixel's rounding away: half a pixel of difference is allowed."""
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    for number in range(1, 6):
        with rasterio.open(root / f"images/t{number}.tif") as image:
            west, north = image.bounds.left, image.bounds.top
        write_raster(root / f"masks/{chr(ord('f') - number)}.tif", scene(number)[1], west=west + 0.2, north=north - 0.2)
    assert bars(proposed(root)) == {f"t{number}": pixels(number) for number in range(1, 6)}


def test_a_file_that_was_corrected_is_looked_at_again(tmp_path):
    """A dashboard runs for days: what it learnt of a file holds until the file is written anew."""
    image = write_raster(tmp_path / "a.tif", scene(1)[0])
    mask = write_raster(tmp_path / "b.tif", scene(1)[1], west=600_000)
    assert not same_grid(image, mask)
    write_raster(mask, scene(1)[1])
    os.utime(mask, ns=(1, 1))
    assert same_grid(image, mask)


def test_the_command_for_coco_makes_masks(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    polygon = [0, 0, SIZE, 0, SIZE, 39, 0, 39]  # rows 0 to 39
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "segmentation": [polygon], "bbox": [0, 0, SIZE, 40]}
        for n in range(1, 6)
    ]
    images = [{"id": n, "file_name": f"t{n}.tif", "width": SIZE, "height": SIZE} for n in range(1, 6)]
    (root / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "roof"}]})
    )
    told = next(problem for problem in inspect(root, crop=32).problems if "COCO" in problem)
    run_told(told, root)
    assert bars(proposed(root)) == {f"t{number}": 40 * SIZE for number in range(1, 6)}


def test_the_command_for_yolo_outlines_makes_masks(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None)
    (root / "labels").mkdir()
    for number in range(1, 6):
        (root / f"labels/t{number}.txt").write_text(f"0 0 0 1 0 1 {31 / SIZE} 0 {31 / SIZE}\n")
    told = next(problem for problem in inspect(root, crop=32).problems if "YOLO" in problem)
    run_told(told, root)
    assert bars(proposed(root)) == {f"t{number}": 32 * SIZE for number in range(1, 6)}


def test_boxes_are_no_segmentation(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", None, range(1, 3))
    (root / "labels").mkdir()
    for number in (1, 2):
        (root / f"labels/t{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert any("boxes say where objects are, not which pixels" in problem for problem in inspect(root).problems)


def test_files_that_are_nothing_of_ours_are_counted(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    (root / "docs").mkdir()
    (root / "docs/readme.pdf").write_bytes(b"%PDF")
    assert any("docs/: 1 other file is not used" in note for note in inspect(root, crop=32).notes)


# --- what systems and people leave in folders


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    for name in ("images/._t1.tif", "images/Thumbs.db", "masks/.DS_Store", "__MACOSX/images/t1.tif", ".git/x.tif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"nothing")
    (root / "empty").mkdir()
    (root / "images/deeper/empty").mkdir(parents=True)
    assert len(bars(proposed(root))) == 5


def test_a_link_that_leads_back_ends(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    (root / "again").symlink_to(root)
    assert len(bars(proposed(root))) == 5


def test_linked_folders_are_read(tmp_path):
    build(tmp_path / "there", "images/t{n}.tif", "masks/t{n}.tif")
    root = tmp_path / "c"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "there/images")
    (root / "masks").symlink_to(tmp_path / "there/masks")
    assert len(bars(proposed(root))) == 5


@pytest.mark.parametrize("numbers", [range(1, 2), range(1, 3)])
def test_one_or_two_images_are_split_by_block(tmp_path, numbers):
    root = tmp_path / "c"
    for number in numbers:
        rng = np.random.default_rng(number)
        labels = np.kron(rng.integers(0, 2, (24, 24)), np.ones((32, 32))).astype(np.uint8)
        image = np.clip(rng.normal(80, 9, (3, 768, 768)) + 90 * labels, 1, 254).astype(np.uint8)
        write_raster(root / f"images/t{number}_sat.tif", image, west=500_000 + 1000 * number)
        write_raster(root / f"masks/t{number}_mask.tif", labels, west=500_000 + 1000 * number)
    collection = proposed(root)
    assert collection.settings.split.by == "block"
    assert [scene.id for scene in collection.scenes] == [f"t{number}" for number in numbers]


def test_mixed_suffixes_are_read_together(tmp_path):
    root = tmp_path / "c"
    for number, (image, mask) in enumerate([("tif", "png"), ("TIFF", "tif"), ("jpg", "PNG"), ("png", "tif")], 1):
        put(root / f"images/t{number}.{image}", number, "image")
        put(root / f"masks/t{number}.{mask}", number, "mask")
    assert bars(proposed(root)) == {f"t{number}": pixels(number) for number in range(1, 5)}


def test_names_that_differ_only_in_case_are_different_scenes(tmp_path):
    root = tmp_path / "c"
    for number, name in enumerate(("a", "A", "b", "B"), 1):
        put(root / f"images/{name}.tif", number, "image")
        put(root / f"masks/{name}.tif", number, "mask")
    assert bars(proposed(root)) == {"a": pixels(1), "A": pixels(2), "b": pixels(3), "B": pixels(4)}


def test_a_label_may_differ_in_case_from_its_image(tmp_path):
    root = build(tmp_path / "c", "images/TILE{n}.tif", "masks/tile{n}.tif")
    assert sorted(bars(proposed(root)).values()) == [pixels(number) for number in range(1, 6)]


def test_two_masks_of_one_image_are_named(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    put(root / "masks/t1.png", 1, "mask")
    assert any("2 masks belong to this image" in problem for problem in inspect(root, crop=32).problems)


def test_previews_are_passed_over(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    put(root / "images/t1_preview.jpg", 1, "image")
    put(root / "quicklooks/t1.jpg", 1, "image")
    collection = proposed(root)
    assert collection.settings.images == "images/{name}.tif"
    assert len(bars(collection)) == 5


def test_pictures_of_the_images_names_beside_them_are_passed_over(tmp_path):
    root = build(tmp_path / "c", "images/t{n}.tif", "masks/t{n}.tif")
    build(root, "images/t{n}.jpg", None)
    found = inspect(root, crop=32)
    assert found.proposal.images == "images/{name}.tif"
    assert any("images/: 5 files are not used (t1.jpg, t2.jpg, ...)" in note for note in found.notes)
    assert len(bars(proposed(root))) == 5


@pytest.mark.parametrize(
    "names", [[], ["a.txt"], ["images/a.tif"], ["masks/a.tif"], ["labels/a.geojson"], ["a.json"], ["a.shp"]]
)
def test_broken_and_lonely_files_end_in_sentences(tmp_path, names):
    (tmp_path / "c").mkdir()
    for name in names:
        (tmp_path / "c" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "c" / name).write_bytes(b"nothing")
    found = inspect(tmp_path / "c")
    assert found.problems
    assert found.proposal is None


def test_masks_without_their_images_are_said(tmp_path):
    root = build(tmp_path / "c", "masks/t{n}.tif", None)
    assert any("masks but no imagery" in problem for problem in inspect(root).problems)


# --- parts that are alike


def test_parts_have_their_share_of_area_and_classes(tmp_path):
    """The last scenes are almost all buildings: none of them is the whole validation or test part."""
    root = tmp_path / "c"
    shares = [0.1] * 8 + [0.6, 0.7]
    for number, share in enumerate(shares):
        put(root / f"images/t{number:02}.tif", number, "image", share)
        put(root / f"masks/t{number:02}.tif", number, "mask", share)
    found = inspect(root, crop=32)
    assert Counter(len(getattr(found.proposal.split, split)) for split in SPLITS) == {6: 1, 2: 2}
    for split in SPLITS:
        told = found.class_pixels[split]
        assert min(told.values()) / sum(told.values()) < 0.45


def test_one_large_scene_of_many_small_ones_trains(tmp_path):
    root = tmp_path / "c"
    build(root, "images/t{n}.tif", "masks/t{n}.tif", range(1, 7))
    labels = np.zeros((640, 640), np.uint8)
    labels[:180] = 1
    image = np.clip(np.random.default_rng(0).normal(80, 9, (3, 640, 640)) + 90 * labels, 1, 254).astype(np.uint8)
    write_raster(root / "images/z.tif", image, west=540_000)
    write_raster(root / "masks/z.tif", labels, west=540_000)
    assert "z" in inspect(root, crop=32).proposal.split.train


def test_a_collection_that_exists_is_read_as_before(tmp_path):
    path = write_collection(tmp_path / "c", unlabelled=True)
    assert [scene.id for scene in Collection.open(path).scenes] == list("abcd")


def test_a_mask_file_is_read_with_rasterio_alone(tmp_path):
    """The counts of this module by another reader."""
    put(tmp_path / "m.tif", 3, "mask")
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert int((mask.read(1) == 1).sum()) == pixels(3) == 35 * 128
