"""Vector files that strangers made: each is opened as what its suffix says, and leads to no other file or host."""

import sqlite3
import tempfile
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import CRSError

from kdcore.errors import DataError, in_short
from kdcore.reading import ReadingError, parse_json, read_bytes

if TYPE_CHECKING:
    import geopandas  # with pandas a third of a second, for who has polygons

# What a file of each suffix starts with. GDAL guesses from the contents, so a .geojson may hold the address of a server.
MAGIC = {
    ".geojson": ("GeoJSON", b""),
    ".json": ("GeoJSON", b""),
    ".gpkg": ("GeoPackage", b"SQLite format 3\0"),
    ".shp": ("shapefile", b"\0\0\x27\x0a"),
    ".fgb": ("FlatGeobuf", b"fgb"),
    ".parquet": ("GeoParquet", b"PAR1"),
    ".geoparquet": ("GeoParquet", b"PAR1"),
}
POLYGON_SUFFIXES = tuple(MAGIC)
SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg")  # not its indices: all is read
LEFT_OUT = "left out"  # key of a frame's attributes: features that are points or lines
MOST_GEOJSON_BYTES = 200_000_000
UNREAD = "without geometry"  # likewise: features whose geometry is missing or broken
FARTHEST = 1e9  # no CRS reaches so far: Web Mercator ends at 2e7 m
GEOJSON_TYPES = (
    *("FeatureCollection", "Feature", "GeometryCollection", "Point", "MultiPoint", "LineString"),
    *("MultiLineString", "Polygon", "MultiPolygon"),
)


def read_polygons(path: Path) -> "geopandas.GeoDataFrame":
    """Read the polygons of a vector file; those inside GeometryCollections, too. A file without any feature gives none.

    The CRS is None only for a shapefile without its `.prj`.

    Raises:
        DataError: unreadable, of another format than its suffix says, without a CRS, only points or lines, or
            coordinates that are no numbers.
    """
    frame = read_frame(path)
    if frame.crs is None and len(frame) and path.suffix.lower() != ".shp":
        west, south, east, north = frame.total_bounds
        degrees = west >= -180 and east <= 180 and south >= -90 and north <= 90
        guess, hint = ("EPSG:4326", "") if degrees else ("EPSG:...", ", often the image's")
        raise DataError(
            f"{path}: these polygons have no CRS. Assign the one that they were drawn in{hint}: "
            f"`ogr2ogr -a_srs {guess} new{path.suffix} {path.name}`."
        )
    shapes = frame.geometry.to_numpy()
    unread = int(shapely.is_missing(shapes).sum())
    if len(frame) and unread == len(frame):
        raise DataError(f"{path}: none of its {unread} features has a geometry that can be read. Export it again.")
    frame = frame[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    if frame.geometry.name != "geometry":
        frame = frame.drop(columns="geometry", errors="ignore").rename_geometry("geometry")
    if frame.empty:
        return frame.reset_index(drop=True)
    frame = frame.set_geometry(frame.geometry.map(only_polygons))
    drawn = frame[~frame.geometry.is_empty].reset_index(drop=True)
    drawn.attrs |= {LEFT_OUT: len(frame) - len(drawn), UNREAD: unread}
    frame = drawn
    if frame.empty:
        raise DataError(f"{path}: holds no polygons. Points and lines cannot be used as labels; buffer them first.")
    refuse_strange_coordinates(path, frame)
    return frame


def read_frame(path: Path) -> "geopandas.GeoDataFrame":
    """Everything that a vector file holds, as it is."""
    import geopandas
    import pyogrio

    refuse_unsafe(path)
    kind, alone = MAGIC[path.suffix.lower()][0], path
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = put_alone(path, Path(folder))
            if kind == "GeoParquet":
                frame = geopandas.read_parquet(alone)
            elif kind == "GeoJSON":
                frame = pyogrio.read_dataframe(f"GeoJSON:{alone}")
            elif kind == "shapefile" and not alone.with_suffix(".shx").exists():
                frame = read_without_index(alone)
            else:
                layer = polygon_layer(alone, path.stem) if kind == "GeoPackage" else None
                frame = pyogrio.read_dataframe(alone, layer=layer)
    except Exception as error:  # GDAL's and Arrow's readers raise many kinds
        reason = in_short(str(error).replace(str(alone), path.name), 150)
        raise DataError(f"{path}: cannot be read as {kind} ({reason}). Export it again.") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        if len(frame):
            raise DataError(f"{path}: holds a table without geometry. Export the layer that holds the polygons.")
        frame = geopandas.GeoDataFrame(frame, geometry=[], crs=None)
    return frame


def refuse_unsafe(path: Path) -> None:
    """Refuse what is no plain file, is of another format than its suffix says, or leads elsewhere.

    Raises:
        DataError: see above.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    parts = [path]
    if path.suffix.lower() == ".shp":
        parts += [file for suffix in SHAPEFILE_PARTS for file in variants(path, suffix) if file.exists()]
    for part in parts:
        if not part.is_file():
            raise DataError(
                f"{part}: is no regular file (a folder, pipe or device). Put the file itself into the folder."
            )
        if part is not path and part.is_symlink() and part.resolve().parent != path.resolve().parent:
            raise DataError(f"{part}: is a link that leads out of the folder of {path.name}. Copy the file there.")
    if path.suffix.lower() not in MAGIC:
        raise DataError(
            f"{path}: is none of {', '.join(MAGIC)}. Convert it, for example with `ogr2ogr new.gpkg {path.name}`."
        )
    kind, magic = MAGIC[path.suffix.lower()]
    with path.open("rb") as file:
        start = file.read(28)
    if not start.startswith(magic):
        raise DataError(
            f"{path}: is no {kind} in spite of its name. Convert it, for example with `ogr2ogr new.gpkg {path.name}`."
        )
    if kind == "shapefile" and int.from_bytes(start[24:28], "big") * 2 > path.stat().st_size:
        raise DataError(
            f"{path}: is cut off: its header names another length than the file has. Copy or export it again."
        )
    if kind == "GeoJSON":
        refuse_strange_json(path)
    if kind == "GeoPackage":
        refuse_virtual_tables(path)


def refuse_strange_json(path: Path) -> None:
    """Only GeoJSON whose CRS is a name: GDAL would fetch a CRS from an address, or run what other JSON describes."""
    if path.stat().st_size > MOST_GEOJSON_BYTES:
        raise DataError(
            f"{path}: is larger than {MOST_GEOJSON_BYTES / 1e6:g} MB, the most that is read as GeoJSON. "
            f"Convert it: `ogr2ogr new.gpkg {path.name}`."
        )
    try:
        contents = parse_json(read_bytes(path, MOST_GEOJSON_BYTES), path, without_repeats)
    except (ReadingError, OSError) as error:
        reason = in_short(str(error).removeprefix(f"{path}: "))
        raise DataError(f"{path}: cannot be read as GeoJSON ({reason}). Export it again.") from error
    if not isinstance(contents, dict) or str(contents.get("type")) not in GEOJSON_TYPES:
        raise DataError(
            f"{path}: is JSON but no GeoJSON (it has no `type: FeatureCollection`). Export the polygons as GeoJSON or GeoPackage."
        )
    crs = contents.get("crs")
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name", "") if isinstance(properties, dict) else ""
    local = isinstance(name, str) and ("://" not in name or name.startswith("http://www.opengis.net/def/crs/"))
    if isinstance(name, str) and name and local and not is_crs(name):
        raise DataError(
            f"{path}: its `crs` names {name[:100]!r}, which is no CRS that is known; it would be taken for degrees. Name the CRS, "
            "for example 'urn:ogc:def:crs:EPSG::4326'."
        )
    if crs is not None and not (isinstance(crs, dict) and str(crs.get("type")).lower() in ("name", "epsg") and local):
        raise DataError(
            f"{path}: its `crs` leads to an address, which is not followed. Name the CRS, for example 'urn:ogc:def:crs:EPSG::4326'."
        )


def is_crs(name: str) -> bool:
    """Whether the name of a CRS is known; GDAL takes an unknown one for degrees without a word."""
    try:
        pyproj.CRS.from_user_input(name)
    except CRSError:
        return name.upper() in ("CRS84", "CRS:84")
    return True


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; `type` or `crs` twice would let two readers see two different files."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next((key for key in ("type", "crs") if keys.count(key) > 1), None)
        if twice:
            raise ValueError(f"{twice!r} occurs twice in one object")
    return values


def refuse_virtual_tables(path: Path) -> None:
    """A GeoPackage's tables hold their rows themselves; virtual ones may be other files. Spatial indices are virtual, too."""
    real = path.resolve()
    for beside in (real.with_name(f"{real.name}{end}") for end in ("-journal", "-wal", "-shm")):
        if beside.exists() and not beside.is_file():
            raise DataError(f"{beside}: is no regular file but would be read together with {path.name}. Remove it.")
    try:
        unwritten = path.with_name(f"{path.name}-wal").exists()  # what another program has not yet put into the file
        how = "mode=ro" if unwritten else "mode=ro&immutable=1"
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)) as database:
            rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql LIKE 'create virtual%'").fetchall()
            views = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'view' AND lower(name) IN (SELECT lower(table_name) FROM gpkg_contents)"
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read as GeoPackage ({error}). Export it again.") from error
    for (name,) in views:
        raise DataError(
            f"{path}: layer {name!r} is a view, a query that may go on without end. Export its polygons into a new GeoPackage."
        )
    for name, sql in rows:
        module = " ".join(str(sql).split()).upper().partition(" USING ")[2]
        if not module.startswith(("RTREE", "FTS3", "FTS4", "FTS5")):
            raise DataError(
                f"{path}: table {name!r} is virtual and may lead to other files. Export the polygons into a new GeoPackage."
            )


def polygon_layer(path: Path, name: str) -> str | None:
    """The layer to read: of several with polygons the one called like the file, else the first; None for an only layer."""
    import pyogrio

    layers = pyogrio.list_layers(path)
    names = [str(layer) for layer, kind in layers if kind is not None and "Polygon" in str(kind)]
    names = names or [str(layer) for layer, kind in layers if kind is not None]
    return name if name in names else names[0] if names else None


def put_alone(path: Path, folder: Path) -> Path:
    """Link a file, and the parts that belong to it, into an empty folder under a plain name.

    GDAL reads other files that it finds beside one, and takes names such as `http:x.gpkg` for addresses.
    """
    alone = folder / f"labels{path.suffix.lower()}"
    alone.symlink_to(path.resolve())
    if path.suffix.lower() == ".shp":
        for suffix in SHAPEFILE_PARTS:
            part = next((part for part in variants(path, suffix) if part.is_file()), None)
            if part is not None:
                alone.with_suffix(suffix).symlink_to(part.resolve())
    return alone


def variants(path: Path, suffix: str) -> tuple[Path, Path]:
    """A part of a shapefile in small and in capital letters."""
    return path.with_suffix(suffix), path.with_suffix(suffix.upper())


def read_without_index(alone: Path) -> "geopandas.GeoDataFrame":
    """A shapefile whose .shx is lost: GDAL makes a new one, beside the link and not in the person's folder."""
    import pyogrio

    before = pyogrio.get_gdal_config_option("SHAPE_RESTORE_SHX")
    pyogrio.set_gdal_config_options({"SHAPE_RESTORE_SHX": True})
    try:
        return pyogrio.read_dataframe(alone)
    finally:
        pyogrio.set_gdal_config_options({"SHAPE_RESTORE_SHX": before})


def only_polygons(geometry: Any) -> Any:
    """A polygon as it is, the polygons of a collection as one, an empty polygon for points and lines."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    if geometry.geom_type != "GeometryCollection":
        return shapely.Polygon()
    parts = [only_polygons(part) for part in geometry.geoms]
    parts = [single for part in parts for single in getattr(part, "geoms", [part]) if not single.is_empty]
    return shapely.MultiPolygon(parts)


def refuse_strange_coordinates(path: Path, frame: "geopandas.GeoDataFrame") -> None:
    """Coordinates that are no numbers, or lie where no map reaches."""
    coordinates, owners = shapely.get_coordinates(frame.geometry.to_numpy(), return_index=True)
    strange = ~(np.abs(coordinates) < FARTHEST).all(axis=1)
    if strange.any():
        first = int(np.argmax(strange))
        x, y = coordinates[first]
        raise DataError(
            f"{path}: {len(np.unique(owners[strange]))} of {len(frame)} polygons have coordinates that cannot be placed, "
            f"the first ({x:g}, {y:g}) in polygon {int(owners[first]) + 1}. Remove or redraw them."
        )
