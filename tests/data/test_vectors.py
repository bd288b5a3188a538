"""Vector files of every usual format are read, each as what its suffix says and nothing else; what lies elsewhere is said."""

import json
import os
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box, force_3d

from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.propose import proposal_text
from kdcore.data.survey import survey
from kdcore.data.vectors import read_polygons
from kdcore.errors import DataError
from tests.conftest import UTM, write_raster

SIDE, METRES = 96, 0.5


def at(index: int, left: int, top: int, right: int, bottom: int) -> Polygon:
    """A rectangle in pixels of scene `index`, in UTM."""
    west, north = 500_000 + 1000 * index, 5_000_000
    return box(west + left * METRES, north - bottom * METRES, west + right * METRES, north - top * METRES)


def shapes(index: int) -> list[Polygon]:
    """400 and 900 px."""
    return [at(index, 10, 10, 30, 30), at(index, 50, 50, 80, 80)]


def folder(tmp_path, write, names="abc", **options):
    """Images, and labels that `write(path without suffix, index)` writes."""
    path = tmp_path / "c"
    (path / "labels").mkdir(parents=True)
    for index, name in enumerate(names):
        image = np.random.default_rng(index).integers(40, 200, (3, SIDE, SIDE), dtype=np.uint8)
        write_raster(path / f"images/{name}.tif", image, west=500_000 + 1000 * index, **options)
        write(path / f"labels/{name}", index)
    return path


def frame(index, geometry=None, crs=UTM, **fields) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(fields or None, geometry=shapes(index) if geometry is None else geometry, crs=crs)


def geojson(change=lambda table: table, **fields):
    """A writer of GeoJSON in degrees."""

    def write(path, index):
        change(frame(index, **fields)).to_crs("EPSG:4326").to_file(path.with_suffix(".geojson"))

    return write


def opened(found, path) -> Collection:
    (path / "collection.yaml").write_text(proposal_text(found))
    return Collection.open(path)


def has(sentences, *words) -> bool:
    return any(all(word in sentence for word in words) for sentence in sentences)


def without(*suffixes, crs=UTM):
    """A writer of shapefiles of which some parts are lost."""

    def write(path, index):
        frame(index, kind=[1, 2]).to_crs(crs).to_file(path.with_suffix(".shp"))
        for suffix in suffixes:
            path.with_suffix(suffix).unlink()

    return write


FORMATS = {
    "shapefile": without(),
    "shapefile without .shx": without(".shx"),
    "shapefile without .prj": without(".prj"),
    "shapefile without .dbf": without(".dbf"),
    "shapefile of nothing else": without(".shx", ".dbf", ".prj", ".cpg"),
    "shapefile in degrees": without(crs="EPSG:4326"),
    "FlatGeobuf": lambda path, index: frame(index).to_file(path.with_suffix(".fgb"), driver="FlatGeobuf"),
    "GeoParquet": lambda path, index: frame(index).to_parquet(path.with_suffix(".parquet")),
    "GeoPackage": lambda path, index: frame(index).to_file(path.with_suffix(".gpkg")),
    "GeoPackage with a table of styles": lambda path, index: (
        frame(index).to_file(path.with_suffix(".gpkg"), layer="roofs"),
        frame(index, geometry=[Point(0, 0)]).to_file(path.with_suffix(".gpkg"), layer="a-points"),
    ),
    "GeoJSON": geojson(),
    "GeoJSON called .json, in Web Mercator": lambda path, index: (
        frame(index).to_crs("EPSG:3857").to_file(path.with_suffix(".json"), driver="GeoJSON")
    ),
}


class TestFormats:
    @pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
    def test_are_read_alike(self, tmp_path, write):
        path = folder(tmp_path, write)
        before = sorted(file.name for file in path.rglob("*"))
        found = inspect(path, crop=32)
        assert found.problems == []
        assert [counts["object"] for counts in found.class_pixels.values()] == [1300, 1300, 1300]
        assert sorted(file.name for file in path.rglob("*")) == before  # a lost .shx is made elsewhere

    def test_a_shapefile_without_prj_is_said_to_be_read_in_the_images_crs(self, tmp_path):
        assert has(inspect(folder(tmp_path, without(".prj")), crop=32).notes, "without .prj", "CRS of their images")

    def test_a_shapefile_without_prj_that_lies_elsewhere_is_a_problem(self, tmp_path):
        found = inspect(folder(tmp_path, without(".prj", crs="EPSG:4326")), crop=32)
        assert has(found.problems, "in no CRS", "read as EPSG:4326 they lie on it", "ogr2ogr -a_srs EPSG:4326")

    def test_polygons_of_every_form_are_burnt_as_rasterio_does(self, tmp_path):
        x, y = 500_000, 5_000_000
        # A tenth of a metre off the grid, so that no line meets a pixel's centre.
        bow = Polygon([(x + 1.1, y - 31), (x + 11.1, y - 41), (x + 11.1, y - 31), (x + 1.1, y - 41)])
        forms = [
            at(0, 5, 5, 25, 25).difference(at(0, 10, 10, 20, 20)),  # 300 px
            MultiPolygon([at(0, 30, 5, 40, 15), at(0, 50, 5, 60, 15)]),  # 200 px
            force_3d(at(0, 70, 5, 80, 15), 9.5),  # 100 px
            GeometryCollection(
                [at(0, 40, 40, 60, 60), Point(x, y), GeometryCollection([at(0, 70, 40, 80, 50)])]
            ),  # 500 px
            bow,
            None,
            Polygon(),
            LineString([(x, y), (x + 9, y - 9)]),
        ]
        path = folder(tmp_path, geojson(lambda table: geopandas.GeoDataFrame(geometry=forms, crs=UTM)), "a")
        with rasterio.open(path / "images/a.tif") as image:
            first, _, inner = forms[3].geoms
            alone = rasterize([*forms[:3], first, inner.geoms[0]], (SIDE, SIDE), transform=image.transform)
            assert alone.sum() == 1100
            rasterize([bow], out=alone, transform=image.transform)
        assert alone.sum() == pytest.approx(1100 + 200, abs=20)  # the bow tie's two triangles of 20 x 10 px
        found = inspect(path, crop=32)
        collection = opened(found, path)
        labels = collection.reader.read(collection.scenes[0], collection.scenes[0].box).labels
        np.testing.assert_array_equal(labels, alone)


class TestEmptyLayers:
    @pytest.mark.parametrize(
        "empty",
        [
            lambda path: path.with_suffix(".geojson").write_text('{"type": "FeatureCollection", "features": []}'),
            lambda path: frame(0).iloc[:0].to_file(path.with_suffix(".gpkg")),
            lambda path: frame(0).iloc[:0].to_parquet(path.with_suffix(".parquet")),
            lambda path: frame(0, geometry=[None, Polygon()]).to_file(path.with_suffix(".geojson")),
        ],
        ids=["GeoJSON", "GeoPackage", "GeoParquet", "features without geometry"],
    )
    def test_are_background(self, tmp_path, empty):
        def write(path, index):
            if path.name == "b":
                empty(path)
            else:
                geojson(class_=["roof", "roof"])(path, index)

        found = inspect(folder(tmp_path, write, "abcd"), crop=32)
        assert found.problems == []
        assert found.class_pixels["train"] == {"background": 2 * SIDE * SIDE - 1300, "object": 1300}

    def test_everywhere_are_a_sentence(self, tmp_path):
        found = inspect(
            folder(tmp_path, lambda path, index: frame(0).iloc[:0].to_file(path.with_suffix(".gpkg"))), crop=32
        )
        assert has(found.problems, "hold no polygons")

    def test_are_no_layers_of_points(self, tmp_path):
        found = inspect(folder(tmp_path, geojson(lambda table: table.set_geometry(table.centroid))), crop=32)
        assert has(found.problems, "holds no polygons", "buffer them")


class TestFields:
    def test_of_whole_numbers_are_matched_to_values_so_that_classes_can_be_named(self, tmp_path):
        path = folder(tmp_path, geojson(gridcode=[3, 7]))
        found = inspect(path, crop=32)
        assert [(entry.name, entry.value) for entry in found.proposal.classes] == [
            ("background", 0),
            ("class-3", 3),
            ("class-7", 7),
        ]
        assert found.class_pixels["test"] == {"background": SIDE * SIDE - 1300, "class-3": 400, "class-7": 900}
        (path / "collection.yaml").write_text(proposal_text(found).replace("class-3", "roof"))
        assert inspect(path, crop=32).class_pixels["test"]["roof"] == 400

    def test_of_zeros_and_ones_hold_background_polygons(self, tmp_path):
        found = inspect(folder(tmp_path, geojson(DN=[1, 0])), crop=32)
        assert found.class_pixels["test"] == {"background": SIDE * SIDE - 400, "class-1": 400}

    @pytest.mark.parametrize("value", [7, "pond"])
    def test_that_are_empty_for_a_polygon_leave_it_out(self, tmp_path, value):
        def write(path, index):
            three = [*shapes(index), at(index, 60, 10, 70, 20)]
            table = frame(index, geometry=three, **{"class": [value, value, None]})
            table.to_crs("EPSG:4326").to_file(path.with_suffix(".geojson"))

        found = inspect(folder(tmp_path, write), crop=32)
        assert found.problems == []
        assert list(found.class_pixels["test"].values()) == [SIDE * SIDE - 1300 - 100, 1300]
        assert has(found.notes, "field 'class' is empty in 3 polygons")

    def test_that_older_settings_name_as_floats_still_work(self, tmp_path):
        def write(path, index):
            table = frame(index, geometry=[*shapes(index), at(index, 0, 0, 5, 5)], **{"class": [1, 2, None]})
            table.to_crs("EPSG:4326").to_file(path.with_suffix(".geojson"))

        path = folder(tmp_path, write)
        (path / "collection.yaml").write_text(
            "name: x\nclasses: [{name: none}, {name: '1.0'}, {name: '2.0'}]\nclass_field: class\n"
            "split: {train: [a], validation: [b], test: [c]}\n"
        )
        assert inspect(path, crop=32).class_pixels["test"] == {"none": SIDE * SIDE - 1325, "1.0": 400, "2.0": 900}

    @pytest.mark.parametrize(
        "fields",
        [
            {"building": ["yes", "yes"], "type": ["multipolygon", None]},
            {"id": ["way/1", "relation/2"], "building": ["yes", "house"], "type": ["way", "relation"]},
            {"osm_id": ["1", "2"], "building": ["yes", "house"], "type": ["apartments", "garage"]},
            {"building": ["yes", "house"]},
        ],
    )
    def test_of_openstreetmap_are_no_classes(self, tmp_path, fields):
        found = inspect(folder(tmp_path, geojson(**fields)), crop=32)
        assert found.problems == []
        assert found.proposal.class_field is None
        assert found.class_pixels["test"] == {"background": SIDE * SIDE - 1300, "building": 1300}

    def test_that_are_mostly_empty_or_unlike_each_other_are_no_classes(self, tmp_path):
        def write(path, index):
            many = [at(index, 4 * i, 0, 4 * i + 3, 3) for i in range(12)]
            fields = {"class": ["shed", *[None] * 11], "label": [f"no {i}" for i in range(12)]}
            frame(index, geometry=many, **fields).to_file(path.with_suffix(".gpkg"))

        found = inspect(folder(tmp_path, write), crop=32)
        assert found.proposal.class_field is None
        assert has(found.notes, "field 'class' is empty in most polygons", "set `class_field: class`")
        assert has(found.notes, "field 'label' holds 12 different values")

    @pytest.mark.parametrize("values", [[0, 0], ["x" * 70, "y"]])
    def test_of_zeros_only_or_of_long_texts_are_no_classes(self, tmp_path, values):
        found = inspect(folder(tmp_path, geojson(label=values)), crop=32)
        assert found.problems == []
        assert found.class_pixels["test"] == {"background": SIDE * SIDE - 1300, "object": 1300}

    def test_with_blanks_around_a_name_are_one_class_and_capital_letters_are_noted(self, tmp_path):
        found = inspect(folder(tmp_path, geojson(label=["roof ", "roof"])), crop=32)
        assert found.class_pixels["test"] == {"background": SIDE * SIDE - 1300, "roof": 1300}
        found = inspect(folder(tmp_path / "other", geojson(label=["Roof", "roof"])), crop=32)
        assert has(found.notes, "'Roof', 'roof' differ in capital letters only")


class TestPartlyLabelled:
    def test_polygons_of_an_unknown_class_are_ignored(self, tmp_path):
        found = inspect(folder(tmp_path, geojson(landcover=["pond", "unknown"])), crop=32)
        assert found.proposal.ignore == ("unknown",)
        assert found.class_pixels["test"] == {"background": SIDE * SIDE - 1300, "pond": 400}

    @pytest.mark.parametrize("each", [False, True])
    def test_an_area_of_interest_is_where_labels_count(self, tmp_path, each):
        path = folder(tmp_path, geojson())
        areas = [at(index, 0, 0, 40, 60) for index in range(3)]
        if each:
            (path / "areas").mkdir()
            for name, area in zip("abc", areas, strict=True):
                geopandas.GeoDataFrame(geometry=[area], crs=UTM).to_file(path / f"areas/{name}.gpkg")
        else:
            geopandas.GeoDataFrame(geometry=areas, crs=UTM).to_crs("EPSG:3857").to_file(path / "area.gpkg")
        (path / "collection.yaml").write_text(
            f"name: x\nclasses: [{{name: none}}, {{name: roof}}]\narea_of_interest: {'areas' if each else 'area.gpkg'}\n"
            "split: {train: [a], validation: [b], test: [c]}\n"
        )
        found = inspect(path, crop=32)
        assert found.problems == []
        assert found.class_pixels["test"] == {"none": 40 * 60 - 400, "roof": 400}

    def test_an_area_elsewhere_is_a_problem(self, tmp_path):
        path = folder(tmp_path, geojson())
        geopandas.GeoDataFrame(geometry=[at(900, 0, 0, 40, 60)], crs=UTM).to_file(path / "area.gpkg")
        (path / "collection.yaml").write_text(
            "name: x\nclasses: [{name: none}, {name: roof}]\narea_of_interest: area.gpkg\n"
            "split: {train: [a], validation: [b], test: [c]}\n"
        )
        assert has(inspect(path, crop=32).problems, "area.gpkg: none of its 1 polygons lies on a.tif", "km away")

    def test_an_area_changes_the_collections_hash_and_its_absence_does_not(self, tmp_path):
        path = folder(tmp_path, geojson())
        text = "name: x\nclasses: [{name: none}, {name: roof}]\nsplit: {train: [a], validation: [b], test: [c]}\n"
        (path / "collection.yaml").write_text(text)
        plain = Collection.open(path).content_hash
        (path / "collection.yaml").write_text(text + "mask_tolerance: 0\n")
        assert Collection.open(path).content_hash == plain
        hashes = {plain}
        for side in (40, 50):
            geopandas.GeoDataFrame(geometry=[at(i, 0, 0, side, side) for i in range(3)], crs=UTM).to_file(
                path / "area.gpkg"
            )
            (path / "collection.yaml").write_text(text + "area_of_interest: area.gpkg\n")
            hashes.add(Collection.open(path).content_hash)
        assert len(hashes) == 3

    def test_polygons_in_one_corner_of_all_images_are_noted(self, tmp_path):
        def write(path, index):
            few = [at(index, 2 + 9 * i, 2 + 9 * i, 8 + 9 * i, 8 + 9 * i) for i in range(4)]
            frame(index, geometry=few).to_file(path.with_suffix(".gpkg"))

        assert has(
            inspect(folder(tmp_path, write), crop=32).notes, "all polygons lie within the same", "area_of_interest"
        )


def lying(change, crs="EPSG:4326", names="abc"):
    """A writer of labels that were spoilt by `change(table in UTM)`; its CRS is forgotten, so that readers take degrees."""

    def write(path, index):
        table = change(frame(index)) if path.name in names else frame(index).to_crs("EPSG:4326")
        table.set_crs(crs, allow_override=True).to_file(path.with_suffix(".geojson"))

    return write


def exchanged(table):
    from shapely import transform

    table = table.to_crs("EPSG:4326")
    return table.set_geometry(transform(table.geometry.to_numpy(), lambda xy: xy[:, ::-1]), crs=table.crs)


def turned(table):
    table = table.to_crs("EPSG:4326")
    return table.set_geometry(table.scale(1, -1, origin=(0, 0)), crs=table.crs)


ELSEWHERE = {
    "far away": (lying(lambda t: t.translate(20_000).to_frame("geometry").to_crs(4326)), "20.0 km away"),
    "without CRS": (lying(lambda t: t), "read as EPSG:32633 they lie on it"),
    "one of three": (lying(lambda t: t, names="b"), "read as EPSG:32633 they lie on it"),
    "axes exchanged": (lying(exchanged), "axes are swapped"),
    "other hemisphere, by CRS": (lying(lambda t: t, "EPSG:32733"), "read as EPSG:32633 they lie on it"),
    "other hemisphere, by sign": (lying(turned), "sign of y"),
    "Web Mercator called degrees": (lying(lambda t: t.to_crs(3857)), "read as EPSG:3857 they lie on it"),
}


class TestElsewhere:
    @pytest.mark.parametrize(("write", "mend"), ELSEWHERE.values(), ids=ELSEWHERE)
    def test_is_a_problem_that_names_both_places_and_the_way_back(self, tmp_path, write, mend):
        path = folder(tmp_path, write)
        found = inspect(path, crop=32)
        assert has(found.problems, "none of its 2 polygons lies on", "polygons are at x", "the image is at x 50", mend)
        (path / "collection.yaml").write_text(
            "name: x\nclasses: [{name: none}, {name: roof}]\nsplit: {train: [a], validation: [b], test: [c]}\n"
        )
        with pytest.raises(DataError, match="none of its 2 polygons lies on"):
            survey(Collection.open(path), 32)

    def test_is_not_a_tile_whose_neighbours_objects_are_in_its_file(self, tmp_path):
        def write(path, index):
            frame(index, [at(index, 97, 0, 105, 9)] if path.name == "b" else None).to_file(path.with_suffix(".gpkg"))

        found = inspect(folder(tmp_path, write, "abcd"), crop=32)
        assert found.problems == []
        assert found.class_pixels["train"]["object"] == 1300

    @pytest.mark.parametrize("far", [at(500, 0, 0, 9, 9), box(500_000, -4_000_000, 500_009, -3_999_991)])
    def test_are_single_polygons_of_a_file_that_are_counted(self, tmp_path, far):
        def write(path, index):
            frame(index, [*shapes(index), far] if path.name == "b" else None).to_file(path.with_suffix(".gpkg"))

        found = inspect(folder(tmp_path, write), crop=32)
        assert found.problems == []
        assert has(found.notes, "1 of 7 polygons lie on no image of theirs and are not used; b.gpkg has 1 of them")

    @pytest.mark.parametrize("value", ["NaN", "1e308"])
    def test_are_coordinates_of_no_place(self, tmp_path, value):
        def write(path, index):
            geojson()(path, index)
            values = json.loads(path.with_suffix(".geojson").read_text())
            values["features"][1]["geometry"]["coordinates"][0][2][0] = "HERE"
            path.with_suffix(".geojson").write_text(json.dumps(values).replace('"HERE"', value))

        found = inspect(folder(tmp_path, write), crop=32)
        assert has(found.problems, "1 of 2 polygons have coordinates that cannot be placed", "in polygon 2")

    def test_are_numbers_that_are_infinite(self, tmp_path):
        geojson()(tmp_path / "a", 0)
        text = (tmp_path / "a.geojson").read_text()
        (tmp_path / "a.geojson").write_text(text.replace("[ [ [ 15", "[ [ [ 1e999", 1))
        with pytest.raises(DataError, match=r"a\.geojson: "):
            read_polygons(tmp_path / "a.geojson")


class TestStrangersFiles:
    """A label file is opened as what its suffix says; it leads to no other file and to no address."""

    def test_one_that_points_to_another_file_is_refused(self, tmp_path):
        frame(0).to_file(tmp_path / "secret.gpkg")
        source = f"<SrcDataSource>{tmp_path / 'secret.gpkg'}</SrcDataSource>"
        contents = {
            "vrt": f'<OGRVRTDataSource><OGRVRTLayer name="secret">{source}</OGRVRTLayer></OGRVRTDataSource>',
            "wfs": "<OGRWFSDataSource><URL>http://localhost:9/wfs</URL></OGRWFSDataSource>",
            "pipeline": json.dumps(
                {
                    "type": "gdal_streamed_alg",
                    "command_line": f"gdal vector pipeline ! read {tmp_path / 'secret.gpkg'} ! write --of stream s",
                }
            ),
            "address": "http://localhost:9/labels.geojson",
        }
        for name, text in contents.items():
            for suffix in (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".parquet"):
                (tmp_path / f"{name}{suffix}").write_text(text)
                with pytest.raises(DataError, match=rf"{name}{suffix}: "):
                    read_polygons(tmp_path / f"{name}{suffix}")

    @pytest.mark.parametrize("name", ["http:x", "s3:x", "zip:x", "GPKG:y", "a!b", "a|b", "käse [1]", "-a", "a.zip"])
    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"])
    def test_a_name_that_looks_like_an_address_is_a_name(self, tmp_path, monkeypatch, name, suffix):
        monkeypatch.chdir(tmp_path)
        if suffix == ".parquet":
            frame(0).to_parquet(tmp_path / f"plain{suffix}")
        else:
            frame(0).to_file(tmp_path / f"plain{suffix}")
        for part in list(tmp_path.glob("plain.*")):
            part.rename(f"{name}{part.suffix}")
        assert len(read_polygons(Path(f"{name}{suffix}"))) == 2

    def test_one_file_under_the_suffix_of_another_format_is_refused(self, tmp_path):
        frame(0).to_file(tmp_path / "a.gpkg")
        shutil.copy(tmp_path / "a.gpkg", tmp_path / "a.shp")
        with pytest.raises(DataError, match=r"a\.shp: is no shapefile in spite of its name"):
            read_polygons(tmp_path / "a.shp")

    @pytest.mark.parametrize(
        "crs",
        [
            {"type": "link", "properties": {"href": "http://localhost:9/crs", "type": "proj4"}},
            {"type": "name", "properties": {"name": "http://localhost:9/crs"}},
            {"type": "name", "properties": {"name": "/vsicurl/http://localhost:9/crs"}},
            {"type": "url", "properties": {"url": "http://localhost:9/crs"}},
            "http://localhost:9/crs",
        ],
    )
    def test_a_crs_behind_an_address_is_not_fetched(self, tmp_path, crs):
        geojson()(tmp_path / "a", 0)
        values = json.loads((tmp_path / "a.geojson").read_text()) | {"crs": crs}
        (tmp_path / "a.geojson").write_text(json.dumps(values))
        with pytest.raises(DataError, match="leads to an address"):
            read_polygons(tmp_path / "a.geojson")

    def test_two_crs_in_one_file_are_refused(self, tmp_path):
        (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "crs": 1, "features": [], "crs": null}')
        with pytest.raises(DataError, match="'crs' occurs twice"):
            read_polygons(tmp_path / "a.geojson")

    def test_a_geopackage_whose_table_is_another_file_is_refused(self, tmp_path):
        import sqlite3

        path = tmp_path / "a.gpkg"
        frame(0).to_file(path)
        read_polygons(path)  # its spatial index is a virtual table, too
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA writable_schema = 1")
            database.execute(
                "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, ?)",
                (f"CREATE VIRTUAL TABLE x USING VirtualOGR('{tmp_path / 'secret.gpkg'}')",),
            )
        with pytest.raises(DataError, match="table 'x' is virtual"):
            read_polygons(path)

    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
    def test_a_pipe_is_not_opened(self, tmp_path, suffix):
        os.mkfifo(tmp_path / f"a{suffix}")
        with pytest.raises(DataError, match="no regular file"):
            read_polygons(tmp_path / f"a{suffix}")
        with pytest.raises(DataError, match="no regular file"):
            inspect(tmp_path / f"a{suffix}")

    def test_a_part_of_a_shapefile_that_is_a_pipe_or_leads_elsewhere_is_refused(self, tmp_path):
        without()(tmp_path / "a", 0)
        (tmp_path / "a.dbf").rename(tmp_path / "other")
        os.mkfifo(tmp_path / "a.dbf")
        with pytest.raises(DataError, match=r"a\.dbf: is no regular file"):
            read_polygons(tmp_path / "a.shp")
        (tmp_path / "a.dbf").unlink()
        (tmp_path / "elsewhere").mkdir()
        shutil.move(tmp_path / "other", tmp_path / "elsewhere/a.dbf")
        (tmp_path / "a.dbf").symlink_to(tmp_path / "elsewhere/a.dbf")
        with pytest.raises(DataError, match="link that leads out of the folder"):
            read_polygons(tmp_path / "a.shp")

    @pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"])
    def test_broken_files_are_sentences(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        if suffix == ".parquet":
            frame(0).to_parquet(path)
        else:
            frame(0).to_file(path)
        whole = path.read_bytes()
        for keep in (0, 12, len(whole) // 2):
            path.write_bytes(whole[:keep])
            with pytest.raises(DataError, match=rf"a{suffix}: "):
                read_polygons(path)
