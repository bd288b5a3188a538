"""The demo area: the same for a seed, labelled to the pixel, split without leaks, reused and redone."""

import errno
import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from kdcore.data.collection import Collection, Extent
from kdcore.data.demo import CLASSES, MARKER, extent, lay_out, make_district, place, write_demo
from kdcore.data.procedural.canvas import METRES, Canvas, cast_shadows
from kdcore.data.procedural.styles import DIFFICULTY, DISTRICTS
from kdcore.data.survey import survey
from kdcore.errors import KdcoreError
from kdcore.files import hash_file
from kdcore.settings import SPLITS, CollectionSettings, load

SIZE = 288  # pixels; a district of 144 m still has streets, a river and houses
FILES = ("images/*.tif", "masks/*.tif", "labels/*.geojson", "unlabelled/*.tif")


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hash_file(file) for pattern in FILES for file in folder.glob(pattern)}


@pytest.fixture(scope="module")
def area(tmp_path_factory) -> Path:
    """A small area of seed 3; not to be changed."""
    return write_demo(tmp_path_factory.mktemp("area"), 3, size=SIZE)


def test_it_is_a_collection_split_by_district(area):
    collection = Collection.open(area)
    owners = {split: {region.scene.id for region in collection.regions(split)} for split in SPLITS}
    assert owners["train"] | owners["validation"] | owners["test"] == {scene.id for scene in collection.scenes}
    assert not owners["train"] & owners["test"]
    assert not owners["validation"] & (owners["train"] | owners["test"])
    for name in SPLITS:
        assert owners[name] == {district.name for district in DISTRICTS if district.part == name}


def test_its_extent_is_known_before_it_is_made(area):
    assert extent(SIZE) == Extent.of(Collection.open(area), crop=64)


def test_no_ground_is_shown_twice(area):
    """Districts are further apart than the largest crop: no object is in two of them."""
    boxes = []
    for file in sorted(area.parent.glob("images/*.tif")) + sorted(area.parent.glob("unlabelled/*.tif")):
        with rasterio.open(file) as dataset:
            boxes.append(dataset.bounds)
    assert len(boxes) == len(DISTRICTS)
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = max(other.left - one.right, one.left - other.right, other.bottom - one.top, one.bottom - other.top)
            assert apart >= 100


def test_half_metre_pixels_in_utm(area):
    collection = Collection.open(area)
    for scene in (*collection.scenes, *collection.unlabelled):
        assert scene.crs.to_epsg() == 32632
        assert scene.metres_per_pixel == pytest.approx(0.5, rel=1e-3)
        assert (scene.height, scene.width, scene.bands, scene.dtype) == (SIZE, SIZE, (1, 2, 3), "uint8")
    with rasterio.open(collection.scenes[0].image) as dataset:
        assert dataset.profile["tiled"]
        assert dataset.colorinterp == tuple(rasterio.enums.ColorInterp[name] for name in ("red", "green", "blue"))


def test_the_unlabelled_district_can_be_read(area):
    collection = Collection.open(area)
    (scene,) = collection.unlabelled
    crop = collection.reader.read(scene, scene.box)
    assert crop.valid.all()
    assert crop.image.std() > 20
    assert (crop.labels == 255).all()


def test_every_class_is_in_every_part(area):
    """Also where districts are small; the class shares come from the masks as a training reads them."""
    found = survey(Collection.open(area), 64)
    for split in SPLITS:
        shares = found.class_pixels[split] / found.class_pixels[split].sum()
        assert shares.min() >= 0.01, (split, dict(zip((c.name for c in CLASSES), shares.round(3), strict=True)))
        assert shares.max() < 0.85


def test_polygons_say_the_same_as_masks(area):
    """Degrees in the GeoJSON, metres in the mask: they may differ where an outline meets a pixel's centre."""
    by_mask = Collection.open(area)
    settings = load(CollectionSettings, area).model_copy(update={"labels_from": "polygons"})
    by_polygon = Collection(settings, area.parent)
    for first, second in zip(by_mask.scenes, by_polygon.scenes, strict=True):
        assert second.mask is None
        one = by_mask.reader.read(first, first.box).labels
        other = by_polygon.reader.read(second, second.box).labels
        assert (one == other).mean() > 0.999, first.id


def test_a_seed_gives_the_same_bytes_and_another_seed_others(area, tmp_path):
    image, labels, polygons = make_district(2, 3, SIZE, DIFFICULTY)
    name = DISTRICTS[2].name
    with rasterio.open(area.parent / f"images/{name}.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), image)
    with rasterio.open(area.parent / f"masks/{name}.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), labels)
        assert dataset.transform == place(2, SIZE)
    assert len(polygons) == len(json.loads((area.parent / f"labels/{name}.geojson").read_text())["features"])
    other, _, _ = make_district(2, 4, SIZE, DIFFICULTY)
    assert (other != image).mean() > 0.9


def test_a_complete_area_is_reused(area):
    before, times = hashes(area.parent), {file: file.stat().st_mtime_ns for file in area.parent.rglob("*.tif")}
    told = []
    assert write_demo(area.parent, 3, told.append, size=SIZE) == area
    assert told == []
    assert hashes(area.parent) == before
    assert {file: file.stat().st_mtime_ns for file in area.parent.rglob("*.tif")} == times


def test_progress_reaches_its_end_and_an_interrupted_area_is_redone(area, tmp_path):
    """Killed between two districts, a second call makes the same files as an undisturbed one."""

    class Killed(Exception):
        pass

    def stop_at_three(progress):
        if progress.done == 3:
            raise Killed

    with pytest.raises(Killed):
        write_demo(tmp_path, 3, stop_at_three, size=SIZE)
    assert not (tmp_path / "collection.yaml").exists()
    assert len(hashes(tmp_path)) == 9
    (tmp_path / "images/oldtown.tif").write_bytes(b"half a file")
    told = []
    again = write_demo(tmp_path, 3, told.append, size=SIZE)
    assert (told[0].done, told[0].total) == (0, len(DISTRICTS))
    assert (told[-1].done, told[-1].total) == (len(DISTRICTS), len(DISTRICTS))
    assert hashes(tmp_path) == hashes(area.parent)
    assert again.read_text() == area.read_text()


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.tif").write_bytes(b"precious")
    with pytest.raises(KdcoreError, match="no demo area"):
        write_demo(tmp_path, 0, size=SIZE)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"] == ["mine.tif"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KdcoreError, match=str(tmp_path / "file")):
        write_demo(tmp_path / "file" / "area", 0, size=SIZE)


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    """Simulated, because the superuser may write everywhere."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(KdcoreError, match="cannot be written to"):
        write_demo(tmp_path, 0, size=SIZE)


def test_a_full_disk_stops_in_a_sentence_and_leaves_no_half_file(tmp_path):
    """The file size limit makes the system refuse to write, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(KdcoreError, match="disk is full"):
            write_demo(tmp_path, 0, size=SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not json.loads((tmp_path / MARKER).read_text())["complete"]
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".tif", ".geojson")]


@pytest.fixture(scope="module")
def painted():
    """A district with its layout, canvas before the light, image and labels."""
    from kdcore.data import demo

    district = DISTRICTS[0]
    canvases = []

    def keep(canvas):
        canvases.append(canvas)
        return expose(canvas)

    expose = demo.expose
    demo.expose = keep
    try:
        image, labels, _ = make_district(0, 3, SIZE, DIFFICULTY)
    finally:
        demo.expose = expose
    return district, canvases[0], image, labels


def test_what_stands_up_is_labelled_building_or_tree_to_the_pixel(painted):
    """Every roof and crown is higher than a car, and nothing else is; so outlines in image and mask agree."""
    _, canvas, _, labels = painted
    stands = (labels == 1) | (labels == 4)
    assert canvas.height[stands].min() >= 1.0
    assert canvas.height[~stands].max() < 3.0


def test_shadows_fall_away_from_the_sun(painted):
    """A lone tower's shadow: its length is height / tan(elevation), its direction opposite to the azimuth."""
    district, canvas, _, _ = painted
    tower = Canvas(canvas.layout, district, DIFFICULTY, np.random.default_rng(0))
    middle = SIZE // 2
    tower.height[middle - 2 : middle + 2, middle - 2 : middle + 2] = 20.0
    shadow = cast_shadows(tower) > 0.5
    rows, columns = np.nonzero(shadow)
    azimuth, elevation = np.radians(district.sun)
    far = np.hypot(rows - middle, columns - middle).argmax()
    tip = np.array([columns[far] - middle, rows[far] - middle]) * METRES
    assert np.hypot(*tip) == pytest.approx(20 / np.tan(elevation), abs=2.5)
    away = np.array([-np.sin(azimuth), np.cos(azimuth)])
    assert tip @ away / np.hypot(*tip) > 0.98


def test_shadow_is_darker_than_sun_on_the_same_kind_of_ground(painted):
    _, canvas, image, labels = painted
    shadow = cast_shadows(canvas)
    for value in (0, 2):
        dark, bright = (image[:, (labels == value) & where].mean() for where in (shadow > 0.9, shadow < 0.1))
        assert dark < 0.7 * bright


def test_the_sensor_blurs_edges_and_adds_noise(painted):
    """Neighbouring pixels of open water differ by the noise; an outline takes about two pixels."""
    _, _, image, labels = painted
    calm = ndimage.binary_erosion(labels == 3, iterations=3)
    steps = np.diff(image.astype(float), axis=2)[:, calm[:, 1:] & calm[:, :-1]]
    assert 1.0 < steps.std() / np.sqrt(2) < 3 * DIFFICULTY.noise


@pytest.mark.parametrize("seed", [0, 1])
def test_buildings_keep_apart_and_off_the_streets(seed):
    import shapely

    layout = lay_out(DISTRICTS[4], 200, DIFFICULTY, np.random.default_rng(seed))
    outlines = [building.outline for building in layout.buildings]
    assert len(outlines) > 5
    assert all(outline.is_valid for outline in outlines)
    tree = shapely.STRtree(outlines)
    first, second = tree.query(outlines, "overlaps")
    assert (first == second).all()
    streets = shapely.union(layout.paved, layout.unpaved)
    assert not any(outline.intersects(streets) or outline.intersects(layout.network.river) for outline in outlines)


@pytest.mark.parametrize("change", ["seed", "size", "difficulty", "version"])
def test_an_area_made_otherwise_is_not_reused(area, monkeypatch, change):
    """Also after an update of the generator, whose marker then tells another version."""
    from dataclasses import replace

    from kdcore.data import demo

    redone = []
    monkeypatch.setattr(demo, "write_area", lambda *_: redone.append(change))
    options = {"seed": 3, "size": SIZE, "difficulty": DIFFICULTY}
    write_demo(area.parent, **options)
    assert redone == []
    if change == "version":
        monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    else:
        options |= {"seed": 4} if change == "seed" else {"size": 320} if change == "size" else {}
        options |= {"difficulty": replace(DIFFICULTY, noise=9.0)} if change == "difficulty" else {}
    write_demo(area.parent, **options)
    assert redone == [change]
