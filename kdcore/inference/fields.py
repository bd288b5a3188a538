"""Where the scenes of a collection lie to each other: neighbours are one field, in which distances are known.

Patches that were cut from one picture are many files and one piece of ground; a test part of a hundred of them may be worth ten.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely import STRtree

from kdcore.data.footprints import Footprint, footprint
from kdcore.data.rasters import own_metres, to_degrees
from kdcore.data.scene import Scene
from kdcore.evaluation.scores import Place, Tile

NEAR = 16  # tiles: scenes that are no farther apart are one field; what is alike over more is not looked for
DEGREE = 111_195.0  # metres of a degree of latitude, on a sphere of 6,371 km
Corners = NDArray[np.float64]


def place_tiles(scenes: Sequence[Scene], tiles: Sequence[Tile], side: int) -> tuple[Place, ...]:
    """Where tiles lie among each other.

    Args:
        scenes: those of the tiles.
        tiles: scene id, row and column of each tile's corner, px.
        side: of a tile, px.
    """
    known = {scene.id: scene for scene in scenes}
    used = [known[name] for name in dict.fromkeys(scene for scene, _, _ in tiles)]
    wholes = {scene.id: scene.group if not scene.placed else scene.id for scene in used}
    corners: dict[str, dict[Tile, tuple[float, float]]] = {scene.id: {} for scene in used}
    for tile in tiles:
        corners[tile[0]][tile] = float(tile[1]), float(tile[2])
    names = {scene.id: scene.id for scene in used}
    for field in neighbours(used, side):
        bring_together(field, corners)
        names |= {scene.id: field[0].id for scene in field}
        wholes |= {scene.id: field[0].id for scene in field}
    return tuple(Place(names[tile[0]], *corners[tile[0]][tile], wholes[tile[0]]) for tile in tiles)


def neighbours(scenes: Sequence[Scene], side: int) -> list[list[Scene]]:
    """Groups of two scenes and more that lie close together, directly or over others."""
    placed = [(scene, found) for scene in scenes if (found := footprint(scene)) is not None]
    fields = []
    for space in dict.fromkeys(found.space for _, found in placed):
        here = [(scene, found) for scene, found in placed if found.space == space]
        boxes = [(index, box) for index, (_, found) in enumerate(here) for box in found.boxes]
        around = [grown(box, here[index][1], NEAR * side) for index, box in boxes]
        owner = np.array([index for index, _ in boxes])
        first, second = STRtree(around).query(around, predicate="intersects")
        links = coo_array((np.ones(len(first)), (owner[first], owner[second])), shape=(len(here), len(here)))
        label = connected_components(links, directed=False)[1]
        groups = (np.flatnonzero(label == number) for number in np.flatnonzero(np.bincount(label) > 1))
        fields += [[here[index][0] for index in group] for group in groups]
    return fields


def grown(box: Sequence[float], found: Footprint, pixels: int) -> shapely.Geometry:
    """A box of a footprint with half of so many pixels around it, so that two of them meet where the distance is that long."""
    west, south, east, north = box
    if found.space:  # in the units of its CRS
        across = along = pixels / 2 * found.pixel
    else:
        along = pixels / 2 * (found.metres or 0) / DEGREE
        across = along / max(0.01, float(np.cos(np.radians((south + north) / 2))))
    return shapely.box(west - across, south - along, east + across, north + along)


def bring_together(field: Sequence[Scene], corners: Mapping[str, dict[Tile, tuple[float, float]]]) -> None:
    """Turn the corners of tiles of several scenes (row, column in px) into those of one field, as large as on the ground."""
    at = {scene.id: in_metres(scene, np.array(list(corners[scene.id].values())), field[0]) for scene in field}
    pixel = float(np.median([scene.metres_per_pixel or 1.0 for scene in field]))
    origin = np.concatenate(list(at.values())).min(axis=0)
    for name, metres in at.items():
        for tile, (row, column) in zip(corners[name], ((metres - origin) / pixel).tolist(), strict=True):
            corners[name][tile] = row, column


def in_metres(scene: Scene, corners: Corners, reference: Scene) -> Corners:
    """Corners (row, column) of tiles as metres southwards and eastwards, (T, 2), on a plane about another scene's centre."""
    assert scene.crs is not None
    assert reference.crs is not None
    rows, columns = corners.T
    x, y = scene.transform @ (columns, rows)
    way = to_degrees(scene.crs.to_wkt())
    if way is None:
        unit = own_metres(scene.crs.to_wkt()) or (scene.metres_per_pixel or 1.0)
        return np.stack([-y * unit, x * unit], axis=1)
    middle = reference.transform @ (reference.width / 2, reference.height / 2)
    there = to_degrees(reference.crs.to_wkt())
    assert there is not None
    longitude_0, latitude_0 = there.transform(*middle)
    longitude, latitude = way.transform(x, y)
    east = (np.asarray(longitude) - longitude_0 + 180) % 360 - 180  # the date line is no border
    return np.stack([-np.asarray(latitude) * DEGREE, east * DEGREE * np.cos(np.radians(latitude_0))], axis=1)
