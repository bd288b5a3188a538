"""Painting what is flat: soil and grass, crops, yards, parking lots, slabs, streets, water; then what stands up: roofs, cars, crowns.

What stands up sets colour, height and how the sun falls on it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from shapely.ops import substring

from kdcore.data.procedural.canvas import METRES, Canvas, Plane, each, mix, soft_step
from kdcore.data.procedural.layout import Block
from kdcore.data.procedural.styles import ASPHALT, CONCRETE, CROPS, GRASS, LEAVES, POOL, SKY, SOILS, WATERS

Window = tuple[slice, slice]
GREENERY = {
    "houses": 0.7,
    "park": 1.1,
    "forest": 0.5,
    "orchard": 0.6,
    "waste": -1.0,
}  # more than 0: rather grass than soil


def paint_blocks(canvas: Canvas) -> None:
    """Each block in its use: lawns, yards, crops in rows, parking lots, bare soil; banks in between."""
    soil, grass = SOILS[canvas.district.soil], GRASS[canvas.district.season]
    cover = soft_step(0.4 + 0.6 * canvas.broad + 0.7 * canvas.medium + 0.3 * canvas.fine, 0.6)
    canvas.colour[:] = mix(soil, grass, cover) * (1 + canvas.difficulty.texture * 0.05 * (canvas.fine + canvas.medium))
    blocks = canvas.layout.blocks
    ids = canvas.ids([block.outline for block in blocks])
    for index, (block, window) in enumerate(zip(blocks, ndimage.find_objects(ids, len(blocks)), strict=True)):
        if window is not None:
            inside = ids[window] == index + 1
            target = canvas.colour[(slice(None), *window)]
            target[:, inside] = ground(canvas, block, window)[:, inside]


def ground(canvas: Canvas, block: Block, window: Window) -> Plane:
    """(3, height, width) colour of a block's ground over its bounding window."""
    rng, strength = canvas.rng, canvas.difficulty.texture
    soil, grass = np.array(SOILS[canvas.district.soil]), np.array(GRASS[canvas.district.season])
    fine, medium, broad = canvas.fine[window], canvas.medium[window], canvas.broad[window]
    texture = 1 + strength * (0.055 * fine + 0.05 * medium + 0.04 * broad)
    along, across = rows_of(canvas, block, window)
    if block.zone in ("field", "vineyard"):
        return crop(canvas, block, window)
    if block.zone == "parking":
        asphalt = mix(np.array(ASPHALT[rng.integers(3)]) * rng.uniform(0.9, 1.15), soil, 0.12 * soft_step(medium, 1))
        bays = (np.mod(along + 1.35, 2.7) < 0.45) & (np.mod(across + 2.6, 8.2) < 5.2)
        return np.asarray(np.where(bays, asphalt * 0.65 + 70, asphalt * texture), dtype=np.float32)
    if block.zone in ("industry", "dense", "towers"):
        base = np.array((CONCRETE if rng.random() < 0.6 else ASPHALT)[rng.integers(3)]) * rng.uniform(0.85, 1.05)
        bare = soft_step(-0.3 + 0.8 * broad - 0.7 * medium, 0.4)
        green = soft_step(-0.9 + 0.5 * block.tone + 0.8 * medium + 0.5 * broad, 0.3)
        return np.asarray(mix(mix(base, soil, bare), grass, green) * texture)
    wet = GREENERY.get(block.zone, 0.3) + 0.5 * block.tone
    cover = soft_step(wet + 0.5 * medium + 0.5 * broad + 0.3 * fine, 0.5)
    if block.zone == "park":  # mown in stripes
        texture = texture * (1 + 0.03 * np.sign(np.sin(across * 2 * np.pi / 5)))
    lush = mix(soil * (1.05 - 0.1 * block.tone), grass * (1 + 0.12 * block.tone), cover)
    return np.asarray(lush * texture)


def rows_of(canvas: Canvas, block: Block, window: Window) -> tuple[Plane, Plane]:
    """Places along and across a block's direction; rows are not drawn with a ruler."""
    x, y = canvas.x[window], canvas.y[window]
    cos, sin = np.cos(block.angle), np.sin(block.angle)
    return x * cos + y * sin, -x * sin + y * cos + 0.5 * canvas.broad[window]


def crop(canvas: Canvas, block: Block, window: Window) -> Plane:
    """A field: rows of a crop over soil, tramlines, wet and poor spots; vines are rows of bushes like crowns."""
    rng, strength, season = canvas.rng, canvas.difficulty.texture, canvas.district.season
    fine, medium, broad = canvas.fine[window], canvas.medium[window], canvas.broad[window]
    along, across = rows_of(canvas, block, window)
    leaf = np.array(LEAVES[season][rng.integers(4)])
    soil = np.array(SOILS[canvas.district.soil]) * rng.uniform(0.8, 1.1)
    if block.zone == "vineyard":
        bushes = np.cos(across * 2 * np.pi / rng.uniform(2.6, 3.6)) + 0.4 * np.sin(along * 2 * np.pi / 1.9)
        vines = mix(soil, leaf * 1.05, 0.9 * soft_step(bushes - 0.1 + 0.5 * fine, 0.25))
        return np.asarray(vines * (1 + 0.06 * strength * fine))
    crops = [*CROPS, GRASS[season], tuple(leaf * 1.2), tuple(soil)]
    plants = np.array(crops[rng.integers(len(crops))]) * rng.uniform(0.88, 1.12)
    rows = 0.5 + 0.5 * np.cos(across * 2 * np.pi / (rng.choice([1.6, 2.2, 3.0, 4.5, 6.0]) * rng.uniform(0.9, 1.1)))
    health = soft_step(0.6 + 0.6 * block.tone + 0.4 * broad + 0.4 * medium, 0.6)
    tramlines = (np.mod(across, rng.uniform(11, 18)) < 0.8) * 0.5
    wet = 1 - 0.22 * soft_step(0.8 * broad + 0.3 * medium - 1.1, 0.3)
    cover = health * (1 - rng.uniform(0.2, 0.75) * rows) * (1 - tramlines)
    return np.asarray(mix(soil, plants, cover) * wet * (1 + strength * (0.05 * fine + 0.04 * medium)))


def paint_slabs(canvas: Canvas) -> None:
    """Flat things in the colours and with the ribs of roofs."""
    slabs = canvas.layout.slabs
    if not slabs:
        return
    ids = canvas.ids([slab.rectangle.polygon for slab in slabs])
    where = ids > 0
    of = ids[where] - 1
    rectangle = np.array([slab.rectangle for slab in slabs], dtype=np.float32)[of].T
    u, v = local(canvas.x[where], canvas.y[where], rectangle)
    texture = 1 + canvas.difficulty.texture * (
        0.035 * canvas.fine[where] + 0.05 * canvas.medium[where] + 0.05 * ribs(v, each(slabs, lambda s: s.ribs)[of])
    )
    canvas.put(where, np.array([slab.colour for slab in slabs])[of].T * texture * (1 + patches(u, v, of)))
    lines = (np.abs(np.minimum(rectangle[3] - np.abs(u), rectangle[4] - np.abs(v)) - 2) < 0.25) | (np.abs(u) < 0.25)
    marked = where.copy()
    marked[where] = lines & (each(slabs, lambda s: s.marked)[of] > 0)
    canvas.put(marked, (225, 225, 220), 0.5)


def local(x: Plane, y: Plane, rectangle: NDArray[Any]) -> tuple[Plane, Plane]:
    """Places along and across rectangles (5, pixels)."""
    cos, sin = np.cos(rectangle[2]), np.sin(rectangle[2])
    dx, dy = x - rectangle[0], y - rectangle[1]
    return dx * cos + dy * sin, dy * cos - dx * sin


def ribs(across: Plane, period: Plane) -> Plane:
    """-1..1 over ribs of the given period; 0 where the period is 0."""
    return np.where(period > 0, np.cos(across * 2 * np.pi / np.maximum(period, 0.1)), 0).astype(np.float32)


def patches(u: Plane, v: Plane, of: NDArray[Any]) -> Plane:
    """Sheets, repairs and stains: rectangles of about 3 x 4 metres that are a little lighter or darker."""
    cell = np.floor(u / 4.1 + 0.37 * of) * 12.9898 + np.floor(v / 3.2 + 0.71 * of) * 78.233 + of * 37.719
    return ((np.abs(np.sin(cell.astype(np.float64)) * 43758.5453) % 1) * 0.16 - 0.08).astype(np.float32)


def paint_streets(canvas: Canvas) -> None:
    """Pavements, carriageways with wear and patches, markings on the main ones; tracks in the soil's colour."""
    layout, rng, fine, medium, broad = canvas.layout, canvas.rng, canvas.fine, canvas.medium, canvas.broad
    paved = canvas.ids([layout.paved]) > 0
    track = (canvas.ids([layout.unpaved]) > 0) & ~paved
    verge = canvas.ids([layout.paved.buffer(1.8)]) > 0
    stone = np.array(CONCRETE[rng.integers(3)])[:, None] * 0.96
    canvas.put(verge, stone * (1 + 0.05 * fine[verge]), 0.75 * soft_step(0.2 + 0.9 * broad[verge], 0.3))
    streets = layout.network.streets
    ids = canvas.ids([street.line.buffer(street.width / 2) for street in streets])
    tones = np.array([ASPHALT[0], *(np.array(ASPHALT[rng.integers(3)]) * rng.uniform(0.88, 1.12) for _ in streets)])
    wear = 1 + canvas.difficulty.texture * (0.035 * fine + 0.05 * medium + 0.04 * broad)
    canvas.put(paved, tones[ids[paved]].T * wear[paved])
    soil = np.array(SOILS[canvas.district.soil])[:, None] * 1.05
    canvas.put(track, soil * (1 + 0.06 * fine[track] + 0.05 * medium[track]), 0.85)
    grassy = (canvas.ids([street.line.buffer(0.7) for street in streets if not street.paved]) > 0) & track
    canvas.put(grassy, GRASS[canvas.district.season], 0.35 * soft_step(medium[grassy], 0.5))
    dashes = [
        substring(street.line, start, start + 3).buffer(0.16)
        for street in streets
        if street.main
        for start in np.arange(0, street.line.length, 9)
    ]
    edges = [
        street.line.offset_curve(sign * (street.width / 2 - 0.7)).buffer(0.14)
        for street in streets
        if street.main
        for sign in (-1, 1)
    ]
    canvas.put((canvas.ids(dashes + edges, touched=True) > 0) & paved, (215, 213, 205), 0.3)


def paint_water(canvas: Canvas) -> None:
    """River and ponds: dark and smooth, muddy at the bank, with ripples that mirror the sky; pools are bright."""
    layout, soil = canvas.layout, np.array(SOILS[canvas.district.soil])
    street = canvas.ids([layout.paved, layout.unpaved]) > 0
    for shape, name in [(layout.network.river, canvas.district.river[1]), *layout.ponds]:
        wet = (canvas.ids([shape]) > 0) & ~street
        if not wet.any():
            continue
        rows, columns = ndimage.find_objects(wet.astype(np.int8))[0]
        window = (slice(max(rows.start - 8, 0), rows.stop + 8), slice(max(columns.start - 8, 0), columns.stop + 8))
        inside, view = wet[window], canvas.colour[(slice(None), *window)]
        depth = ndimage.distance_transform_edt(inside).astype(np.float32) * METRES
        water = np.array(WATERS[name])
        broad, medium, fine = canvas.broad[window], canvas.medium[window], canvas.fine[window]
        colour = mix(water, 0.55 * water + 0.45 * soil, 0.6 * np.exp(-depth / 1.8)) * (
            1 + 0.05 * broad + 0.012 * medium
        )
        glint = soft_step(broad + 0.25 * medium - 1.5, 0.25) * np.clip(0.22 + 0.1 * fine, 0, 1)
        view[:, inside] = mix(colour, SKY, glint)[:, inside]
        to_water = ndimage.distance_transform_edt(~inside) * METRES
        bank = ~inside & (to_water < 2.2) & ~street[window]
        view[:, bank] = view[:, bank] * 0.45 + 0.5 * soil[:, None]
        canvas.height[window][inside] = -1.2
    pools = canvas.ids(layout.pools) > 0
    rim = ndimage.binary_dilation(pools, iterations=2) & ~pools
    canvas.put(rim, CONCRETE[2], 0.8)
    canvas.put(pools, np.array(POOL)[:, None] * (1 + 0.05 * canvas.fine[pools]))


def paint_buildings(canvas: Canvas) -> None:
    """Roofs with slopes towards or away from the sun, ribs, sheets and stains, parapets, ridges."""
    buildings = canvas.layout.buildings
    if not buildings:
        return
    ids = canvas.ids([building.outline for building in buildings])
    where = ids > 0
    of = ids[where] - 1
    x, y = canvas.x[where], canvas.y[where]
    pitch, hip = each(buildings, lambda b: b.pitch)[of], each(buildings, lambda b: b.roof == "hip")[of] > 0
    rise = np.zeros(len(of), dtype=np.float32)  # metres from the eave towards the ridge, on the ground
    east, south, down = np.zeros_like(rise), np.zeros_like(rise), np.zeros_like(rise)
    u = v = np.zeros_like(rise)
    for number in (-1, 0):
        wing = np.array([building.wings[number] for building in buildings], dtype=np.float32)[of].T
        u, v = local(x, y, wing)
        to_side, to_end = wing[4] - np.abs(v), wing[3] - np.abs(u)
        at_end = hip & (to_end < to_side)
        wing_rise = np.where(at_end, to_end, to_side)
        higher = (np.minimum(to_side, to_end) > -0.3) & (wing_rise >= rise)
        rise = np.where(higher, wing_rise, rise)
        du, dv = np.where(at_end, np.sign(u), 0), np.where(at_end, 0, np.sign(v))
        cos, sin = np.cos(wing[2]), np.sin(wing[2])
        east, south = np.where(higher, du * cos - dv * sin, east), np.where(higher, du * sin + dv * cos, south)
        down = np.where(higher, np.where(at_end, v, u), down)
    tilt = pitch * canvas.difficulty.relief
    lit = (east * canvas.to_sun[0] + south * canvas.to_sun[1]) * tilt + canvas.to_sun[2]
    canvas.shading[where] = np.maximum(lit / np.sqrt(1 + tilt**2) / canvas.to_sun[2], 0.15)
    canvas.height[where] = each(buildings, lambda b: b.eave)[of] + pitch * rise
    flat = pitch == 0
    stains = 0.035 * canvas.fine[where] + 0.05 * canvas.medium[where]
    stains += 0.05 * ribs(down, each(buildings, lambda b: b.ribs)[of])
    colours = np.array([building.colour for building in buildings])[of].T * (1 + canvas.difficulty.texture * stains)
    colours *= 1 + np.where(flat, 1.0, 0.4) * patches(u, v, of)
    parapet = flat & ~ndimage.binary_erosion(where, iterations=2)[where]
    ridge = ~flat & (rise > each(buildings, lambda b: min(w.half_width for w in b.wings))[of] - 0.3)
    canvas.put(where, colours * np.where(parapet, 1.12, np.where(ridge, 1.08, 1.0)))


def paint_boxes(canvas: Canvas) -> None:
    """Cars and crates on the ground, units on roofs; what would hang in the air or lie under a roof is left out."""
    boxes = canvas.layout.boxes
    ids = canvas.ids([box.rectangle.polygon for box in boxes])
    top = np.array([0.0, *(box.top for box in boxes)], dtype=np.float32)[ids]
    on_ground, on_roof = np.abs(canvas.height) < 0.1, (canvas.height > 3) & (top < canvas.height + 3)
    where = (ids > 0) & (top > canvas.height) & ((on_ground & (top < 3)) | on_roof)
    canvas.put(where, np.array([(0.0, 0.0, 0.0), *(box.colour for box in boxes)])[ids[where]].T, 0.9)
    canvas.height[where] = top[where]


def paint_trees(canvas: Canvas) -> None:
    """Crowns: domes of leaves, lit on the sun's side, dark in the gaps."""
    trees = canvas.layout.trees
    if not trees:
        return
    ids = canvas.ids([tree.outline for tree in trees])
    where = ids > 0
    of = ids[where] - 1
    radius = each(trees, lambda t: t.radius)[of]
    dx = (canvas.x[where] - each(trees, lambda t: t.x)[of]) / radius
    dy = (canvas.y[where] - each(trees, lambda t: t.y)[of]) / radius
    out = np.clip(dx**2 + dy**2, 0, 1)
    clumps = canvas.noise(1.6)
    south, east = (np.gradient(clumps, axis=axis)[where] for axis in (0, 1))
    relief = canvas.difficulty.relief
    lit = relief * ((0.75 * dx - 0.35 * east) * canvas.to_sun[0] + (0.75 * dy - 0.35 * south) * canvas.to_sun[1])
    lit = (lit + np.sqrt(1 - 0.56 * out) * canvas.to_sun[2]) / canvas.to_sun[2]
    canvas.shading[where] = np.clip(lit / np.sqrt(1 + 0.3 * relief), 0.2, 1.7)
    canvas.height[where] = radius * 2.0 * (0.5 + 0.5 * np.sqrt(1 - out))
    leaves = np.array(LEAVES[canvas.district.season])[np.array([tree.kind for tree in trees])][of].T
    shade = 0.82 + 0.36 * each(trees, lambda t: t.shade)[of]
    canvas.put(where, leaves * shade * (1 + 0.1 * canvas.fine[where]))
