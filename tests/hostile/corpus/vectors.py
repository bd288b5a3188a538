"""Vector files: nested, endless, other formats under a wrong name, coordinates and CRS that cannot be, tables with a life of their own."""

import json
import os
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.hostile.corpus.place import LONG, Case, Place, Right

SQUARE = [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]
WFS = '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/ADDRESS/a.geojson</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
Made = Callable[[Place], list[str | Path]]


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*geometries: Any, **more: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": [feature(geometry) for geometry in geometries]} | more)


def polygon(rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": rings}


def text(contents: str | bytes, name: str = "x.geojson") -> Made:
    def make(place: Place) -> list[str | Path]:
        data = contents.replace("ADDRESS", place.address) if isinstance(contents, str) else contents
        return [place.write(name, data)]

    return make


def device(target: str, name: str) -> Made:
    def make(place: Place) -> list[str | Path]:
        path = place.folder / name
        if target == "fifo":
            os.mkfifo(path)
        elif target == "folder":
            path.mkdir()
        else:
            path.symlink_to(target)
        return [path]

    return make


def huge_file(name: str, size: int, start: bytes) -> Made:
    """A sparse file of many bytes, which takes no room."""

    def make(place: Place) -> list[str | Path]:
        path = place.write(name, start)
        os.truncate(path, size)
        return [path]

    return make


def geopackage(change: str = "", geometry: bytes | None = None, crs: int = 4326, name: str = "x.gpkg") -> Made:
    """A GeoPackage of one square by GDAL, then changed by SQL; `geometry` replaces the blob."""

    def make(place: Place) -> list[str | Path]:
        import geopandas
        from shapely.geometry import box

        path = place.folder / name
        geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=crs).to_file(path, driver="GPKG", layer="labels")
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA writable_schema=ON")
            for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
                database.execute(f'DROP TRIGGER "{trigger}"')
            if geometry is not None:
                database.execute("UPDATE labels SET geom = ?", (geometry,))
            if change:
                database.executescript(change)
            database.commit()
        return [path]

    return make


def blob(coordinates: list[tuple[float, float]], points: int | None = None, kind: int = 3) -> bytes:
    """A GeoPackage geometry of one ring that may claim another number of points."""
    ring = struct.pack("<I", len(coordinates) if points is None else points)
    ring += b"".join(struct.pack("<dd", *point) for point in coordinates)
    return b"GP\0\1" + struct.pack("<i", 4326) + b"\1" + struct.pack("<II", kind, 1) + ring


def square(x: float, y: float, side: float = 1.0) -> list[tuple[float, float]]:
    return [(x, y), (x, y + side), (x + side, y + side), (x + side, y), (x, y)]


def labelled(layer: Callable[[Place, Path], None]) -> Made:
    """The sound collection with polygons in place of masks, and no settings; `layer` writes them into labels/."""

    def make(place: Place) -> list[str | Path]:
        import shutil

        root = place.copy("collection", "c")
        shutil.rmtree(root / "masks")
        (root / "collection.yaml").unlink()
        (root / "labels").mkdir()
        layer(place, root / "labels")
        return [root]

    return make


def boxes(
    crs: str, west: float, south: float, name: str = "x.gpkg", side: float = 20.0
) -> Callable[[Place, Path], None]:
    """Squares at one place beside each other, for all images."""

    def layer(place: Place, folder: Path) -> None:
        import geopandas
        from shapely.geometry import box

        squares = [box(west + 1000 * n + 5, south + 5, west + 1000 * n + 5 + side, south + 5 + side) for n in range(4)]
        geopandas.GeoDataFrame(geometry=squares, crs=crs).to_file(folder / name)

    return layer


def endless(name: str) -> Callable[[Place, Path], None]:
    return lambda place, folder: (folder / name).symlink_to("/dev/zero")


def shapefile(change: Callable[[Path], object]) -> Made:
    def make(place: Place) -> list[str | Path]:
        import geopandas
        from shapely.geometry import box

        path = place.folder / "x.shp"
        geopandas.GeoDataFrame({"n": [1]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(path)
        change(path)
        return [path]

    return make


def patched(path: Path, at: int, data: bytes) -> None:
    held = bytearray(path.read_bytes())
    held[at : at + len(data)] = data
    path.write_bytes(bytes(held))


def many_points(place: Place) -> list[str | Path]:
    """A ring of 300,000 points, which is a large one and no mistake."""
    import numpy as np

    angles = np.linspace(0, 2 * np.pi, 300_000)
    ring = [[round(float(np.cos(a)), 9), round(float(np.sin(a)), 9)] for a in angles]
    ring[-1] = ring[0]
    return [place.write("x.geojson", collection(polygon([ring])))]


def inspected(name: str, kind: str, make: Made, right: Right = "refused", says: str = "", user: bool = False) -> Case:
    def asked(place: Place) -> list[str | Path]:
        return [*make(place), "--out", place.out / "proposed.yaml"]

    return Case(f"vector: {name}", "data inspect", kind, asked, right, says, user)


TEXTS = "GeoJSON nested, endless, or something else"
TABLES = "GeoPackages with a life of their own"
COORDINATES = "coordinates and CRS of vectors"
ELSEWHERE = "vector files that lead elsewhere"

CASES: list[Case] = [
    inspected("lists nested 100,000 deep", TEXTS, text("[" * 100_000)),
    inspected("coordinates nested 5,000 deep", TEXTS, text('{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":' + "[" * 5_000 + "]" * 5_000 + "}}]}")),
    inspected("coordinates nested 500 deep", TEXTS, text('{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":' + "[" * 500 + "]" * 500 + "}}]}")),
    inspected("geometry collections nested 400 deep", TEXTS, text('{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":' + '{"type":"GeometryCollection","geometries":[' * 400 + json.dumps(polygon(SQUARE)) + "]}" * 400 + "}]}")),
    inspected("properties nested 900 deep", TEXTS, text('{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"a":' + "[" * 900 + "]" * 900 + '},"geometry":' + json.dumps(polygon(SQUARE)) + "}]}")),
    inspected("a number of 6,000 digits", TEXTS, text('{"type":"FeatureCollection","features":[],"n":' + LONG + "}")),
    inspected("a coordinate of 6,000 digits", TEXTS, text(collection(polygon(SQUARE)).replace("[1, 1]", f"[{LONG}, 1]"))),
    inspected("a coordinate of 400 digits and a point", TEXTS, text(collection(polygon(SQUARE)).replace("[1, 1]", f"[{LONG[:400]}.5, 1]"))),
    inspected("an endless device", TEXTS, device("/dev/zero", "x.geojson")),
    inspected("a pipe", TEXTS, device("fifo", "x.geojson")),
    inspected("a folder", TEXTS, device("folder", "x.geojson")),
    inspected("an endless device called .json", TEXTS, device("/dev/zero", "x.json")),
    inspected("30 GB of blanks", TEXTS, huge_file("x.geojson", 30_000_000_000, b'{"type": "FeatureCollection", "features": [')),
    inspected("900 MB of zeros", TEXTS, huge_file("x.geojson", 900_000_000, b'{"type": "FeatureCollection", "features": [')),
    inspected("an empty file", TEXTS, text("")),
    inspected("half a file", TEXTS, text(collection(polygon(SQUARE))[:60])),
    inspected("null", TEXTS, text("null")),
    inspected("a list", TEXTS, text("[]")),
    inspected("bytes that are no text", TEXTS, text(b"\xff\xfe\xfa" * 100)),
    inspected("a type that is a list", TEXTS, text('{"type": ["FeatureCollection"], "features": []}')),
    inspected("a type that is a mapping", TEXTS, text('{"type": {"a": 1}, "features": []}')),
    inspected("features that are a number", TEXTS, text('{"type": "FeatureCollection", "features": 7}'), "either"),
    inspected("features that are numbers", TEXTS, text('{"type": "FeatureCollection", "features": [1, 2, null]}'), "either"),
    inspected("a feature without geometry", TEXTS, text(collection(None)), "either"),
    inspected("coordinates of text", TEXTS, text(collection(polygon([[["a", "b"], ["c", "d"], ["e", "f"], ["a", "b"]]])))),
    inspected("coordinates of null", TEXTS, text(collection(polygon([[[None, None]] * 4])))),
    inspected("a ring of one point", TEXTS, text(collection(polygon([[[0, 0]]])))),
    inspected("a ring without points", TEXTS, text(collection(polygon([[]]))), "either"),
    inspected("a type twice", TEXTS, text('{"type": "FeatureCollection", "type": "Topology", "features": []}'), says="occurs twice"),
    inspected("TopoJSON", TEXTS, text('{"type": "Topology", "objects": {}, "arcs": []}')),
    inspected("points only", TEXTS, text(collection({"type": "Point", "coordinates": [0, 0]})), says="no polygons"),
    inspected("a ring of 300,000 points", TEXTS, many_points, "works"),
    inspected("an OGR VRT called GeoJSON", ELSEWHERE, text(WFS)),
    inspected("an OGR VRT called GeoPackage", ELSEWHERE, text(WFS, "x.gpkg")),
    inspected("an OGR VRT called shapefile", ELSEWHERE, text(WFS, "x.shp")),
    inspected("an address of a WFS called GeoJSON", ELSEWHERE, text("WFS:ADDRESS/wfs?service=WFS")),
    inspected("WFS capabilities called GeoJSON", ELSEWHERE, text('<OGRWFSDataSource><URL>ADDRESS</URL></OGRWFSDataSource>')),
    inspected("ESRI JSON of a server", ELSEWHERE, text('{"serviceDescription": "ADDRESS", "type": "FeatureServer", "layers": []}')),
    inspected("a CRS behind an address", ELSEWHERE, text(collection(polygon(SQUARE), crs={"type": "link", "properties": {"href": "ADDRESS/crs"}}))),
    inspected("a CRS called by an address", ELSEWHERE, text(collection(polygon(SQUARE), crs={"type": "name", "properties": {"name": "ADDRESS/crs"}})), says="leads to an address"),
    inspected("a CRS that is a list", ELSEWHERE, text(collection(polygon(SQUARE), crs=[1])), says="crs"),
    inspected("a link to the next page", ELSEWHERE, text(collection(polygon(SQUARE), links=[{"rel": "next", "href": "ADDRESS/next"}])), "works"),
    inspected("a name like an address", ELSEWHERE, text(collection(polygon(SQUARE)), "http:x.geojson"), "works"),
    inspected("a GeoPackage called GeoJSON", ELSEWHERE, lambda place: [Path(geopackage()(place)[0]).rename(place.folder / "x.geojson")]),
    inspected("a plain GeoPackage", TABLES, geopackage(), "works"),
    inspected("a trigger that deletes", TABLES, geopackage("CREATE TRIGGER t AFTER UPDATE ON labels BEGIN DELETE FROM labels; END;"), "works"),
    inspected("a view that never ends", TABLES, geopackage("DROP TABLE labels; CREATE VIEW labels AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS fid, NULL AS geom FROM n;"), says=r"x\.gpkg"),
    inspected("a view that makes a gigabyte", TABLES, geopackage("DROP TABLE labels; CREATE VIEW labels AS SELECT 1 AS fid, zeroblob(999999999) AS geom;"), says=r"x\.gpkg"),
    inspected("a virtual table", TABLES, geopackage("INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING VirtualShape(''/etc/passwd'', UTF-8, 4326)');"), says="virtual"),
    inspected("a table whose SQL is rubbish", TABLES, geopackage("UPDATE sqlite_master SET sql = 'rubbish' WHERE name = 'labels';")),
    inspected("a geometry of 4 billion points", TABLES, geopackage(geometry=blob(square(0, 0), 2**32 - 1))),
    inspected("a geometry of no known kind", TABLES, geopackage(geometry=blob(square(0, 0), kind=999))),
    inspected("a geometry of text", TABLES, geopackage(geometry=b"POLYGON ((0 0, 0 1, 1 1, 0 0))")),
    inspected("an empty geometry", TABLES, geopackage(geometry=b""), "either"),
    inspected("a geometry column that is not there", TABLES, geopackage("UPDATE gpkg_geometry_columns SET column_name = 'other';"), "either"),
    inspected("no contents", TABLES, geopackage("DELETE FROM gpkg_contents;"), "either"),
    inspected("a layer whose name is SQL", TABLES, geopackage("UPDATE gpkg_contents SET table_name = 'labels\"; DROP TABLE labels; --';"), "either"),
    inspected("half a GeoPackage", TABLES, lambda place: [place.write("x.gpkg", Path(geopackage()(place)[0]).read_bytes()[:40_000])]),
    inspected("a GeoPackage's first bytes", TABLES, text(b"SQLite format 3\0" + b"\0" * 4096, "x.gpkg")),
    inspected("an endless device called GeoPackage", TABLES, device("/dev/zero", "x.gpkg")),
    inspected("a pipe called GeoPackage", TABLES, device("fifo", "x.gpkg")),
    inspected("a GeoPackage with a journal that is a pipe", TABLES, lambda place: (os.mkfifo(place.folder / "x.gpkg-journal"), geopackage_quiet(place))[1], "either"),
    inspected("coordinates that are no numbers", COORDINATES, geopackage(geometry=blob(square(float("nan"), 0)))),
    inspected("coordinates of 1e308", COORDINATES, geopackage(geometry=blob(square(1e308, 0)))),
    inspected("coordinates without end", COORDINATES, geopackage(geometry=blob(square(float("inf"), 0)))),
    inspected("NaN in GeoJSON", COORDINATES, text(collection(polygon(SQUARE)).replace("[1, 1]", "[NaN, 1]"))),
    inspected("Infinity in GeoJSON", COORDINATES, text(collection(polygon(SQUARE)).replace("[1, 1]", "[Infinity, 1]"))),
    inspected("1e999 in GeoJSON", COORDINATES, text(collection(polygon(SQUARE)).replace("[1, 1]", "[1e999, 1]"))),
    inspected("a CRS that nobody knows", COORDINATES, geopackage("UPDATE gpkg_spatial_ref_sys SET definition = 'rubbish', organization_coordsys_id = 99999999, organization = 'X' WHERE srs_id = 4326;"), says=r"x\.gpkg"),
    inspected("a CRS of 5,000 digits", COORDINATES, text(collection(polygon(SQUARE), crs={"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{LONG[:5000]}"}}))),
    inspected("labels on the other hemisphere", COORDINATES, labelled(boxes("EPSG:32733", 500_000, 5_000_000 - 64)), says="Problem"),
    inspected("labels in another country", COORDINATES, labelled(boxes("EPSG:32633", 700_000, 4_000_000)), says="Problem"),
    inspected("labels with x and y exchanged", COORDINATES, labelled(boxes("EPSG:32633", 5_000_000 - 64, 500_000)), says="Problem"),
    inspected("labels in degrees that say metres", COORDINATES, labelled(boxes("EPSG:32633", 15.0, 45.1)), says="Problem"),
    inspected("labels where their CRS ends", COORDINATES, labelled(boxes("EPSG:3031", 0, 0)), says="Problem"),
    inspected("labels of which some are at no place", COORDINATES, labelled(lambda place, folder: half_lost(folder)), "works", says="lie on no image"),
    inspected("labels that are an endless device", TEXTS, labelled(endless("a.geojson")), says="Problem"),
    inspected("labels that are an endless device called .json", TEXTS, labelled(endless("a.json"))),
    inspected("a side file of colours that is an endless device", TEXTS, lambda place: side_file(place, "/dev/zero"), "either"),
    inspected("a side file of colours that is a pipe", TEXTS, lambda place: side_file(place, None), "either"),
    inspected("a text of outlines that is endless", TEXTS, lambda place: outlines(place), "either"),
    inspected("a shapefile of 4 billion points", TABLES, shapefile(lambda path: patched(path, 100 + 8 + 40, struct.pack("<I", 2**31 - 1)))),
    inspected("a shapefile of 4 billion parts", TABLES, shapefile(lambda path: patched(path, 100 + 8 + 36, struct.pack("<I", 2**31 - 1)))),
    inspected("a shapefile whose table has no end", TABLES, shapefile(lambda path: patched(path.with_suffix(".dbf"), 4, struct.pack("<I", 2**31 - 1))), "either"),
    inspected("a shapefile whose table is a pipe", TABLES, shapefile(lambda path: (path.with_suffix(".dbf").unlink(), os.mkfifo(path.with_suffix(".dbf"))))),
    inspected("a shapefile whose index lies", TABLES, shapefile(lambda path: patched(path.with_suffix(".shx"), 100, b"\x7f\xff\xff\xff\x7f\xff\xff\xff")), "either"),
    inspected("a shapefile whose CRS is rubbish", COORDINATES, shapefile(lambda path: path.with_suffix(".prj").write_text("x" * 100_000)), "either"),
    inspected("a shapefile whose CRS is nested deeply", COORDINATES, shapefile(lambda path: path.with_suffix(".prj").write_text('PROJCS["a",' * 50_000)), "either"),
    inspected("a shapefile with a table elsewhere", ELSEWHERE, shapefile(lambda path: (path.with_suffix(".dbf").unlink(), path.with_suffix(".dbf").symlink_to("/etc/passwd"))), says="link that leads out"),
    inspected("a GeoParquet's first bytes", TABLES, text(b"PAR1" + b"\xff" * 100 + b"PAR1", "x.parquet")),
    inspected("a FlatGeobuf's first bytes", TABLES, text(b"fgb\3fgb\0" + b"\xff" * 100, "x.fgb")),
    inspected("KML", ELSEWHERE, text("<kml><NetworkLink><Link><href>ADDRESS</href></Link></NetworkLink></kml>", "x.kml")),
]  # fmt: skip


def geopackage_quiet(place: Place) -> list[str | Path]:
    """A GeoPackage made elsewhere and moved here, beside what lies here already."""
    other = Place(place.out / "made", place.out, place.base, place.address)
    other.folder.mkdir()
    moved = Path(geopackage()(other)[0]).rename(place.folder / "x.gpkg")
    other.folder.rmdir()
    return [moved]


def half_lost(folder: Path) -> None:
    """Two of four images have labels on them; as many squares lie far away."""
    import geopandas
    from shapely.geometry import box

    near = [box(500_000 + 1000 * n + 5, 4_999_950, 500_000 + 1000 * n + 25, 4_999_970) for n in range(4)]
    far = [box(9e6 + n, 9e7, 9e6 + n + 1, 9e7 + 1) for n in range(40)]
    geopandas.GeoDataFrame(geometry=near + far, crs="EPSG:32633").to_file(folder / "x.gpkg")


def side_file(place: Place, target: str | None) -> list[str | Path]:
    root = place.copy("collection", "c")
    (root / "collection.yaml").unlink()
    if target is None:
        os.mkfifo(root / "colours.json")
    else:
        (root / "colours.json").symlink_to(target)
    return [root]


def outlines(place: Place) -> list[str | Path]:
    """Text files of the images' names, as YOLO has them, that never end."""
    import shutil

    root = place.copy("collection", "c")
    (root / "collection.yaml").unlink()
    shutil.rmtree(root / "masks")
    (root / "labels").mkdir()
    for name in "abcd":
        (root / f"labels/{name}.txt").symlink_to("/dev/zero")
    return [root]
