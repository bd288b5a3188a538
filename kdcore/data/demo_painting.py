"""From a district's layout to an image: surfaces, sun and cast shadows on heights, haze, and the sensor."""

from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize
from scipy import ndimage

from kdcore.data.demo_layout import Block, Box, Building, Layout, Tree
from kdcore.data.demo_styles import (
    ASPHALT,
    CONCRETE,
    GRASS,
    LEAVES,
    POOL,
    SOILS,
    WATERS,
    Difficulty,
    District,
)

METRES = 0.5  # of a pixel
Plane = NDArray[np.float32]
Ids = NDArray[np.int32]
GREY = np.array([1.0, 1.0, 1.0], dtype=np.float32)


class Canvas:
    """What is painted: colour in full sun, height above ground, and how the surface is tilted to the sun.

    Attributes:
        colour: (3, side, side) float32, 0..255.
        height: (side, side) float32 metres.
        shading: (side, side) float32, light of the sun on the surface relative to level ground.
    """

    def __init__(self, layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> None:
        self.side = round(layout.side / METRES)
        self.layout, self.district, self.difficulty, self.rng = layout, district, difficulty, rng
        self.colour = np.zeros((3, self.side, self.side), dtype=np.float32)
        self.height = np.zeros((self.side, self.side), dtype=np.float32)
        self.shading = np.ones((self.side, self.side), dtype=np.float32)
        centres = ((np.arange(self.side) + 0.5) * METRES).astype(np.float32)
        self.x, self.y = (
            np.broadcast_to(centres, self.height.shape),
            np.broadcast_to(centres[:, None], self.height.shape),
        )
        azimuth, elevation = np.radians(district.sun)
        self.to_sun = np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        self.fine = self.noise(1.2)
        self.medium = self.noise(7)
        self.broad = self.noise(45)

    def noise(self, metres: float) -> Plane:
        """Smooth random values of unit variance; `metres` is the size of a spot."""
        step = metres / METRES
        cells = int(np.ceil(self.side / step)) + 4
        coarse = self.rng.standard_normal((cells, cells), dtype=np.float32)
        size = round(cells * step)
        smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
        start = (size - self.side) // 2
        smooth = smooth[start : start + self.side, start : start + self.side]
        return (smooth - smooth.mean()) / smooth.std()

    def ids(self, shapes: list[Any]) -> Ids:
        """(side, side) number of the last shape over each pixel's centre, from 1; 0 where there is none."""
        pairs = [(shape, index + 1) for index, shape in enumerate(shapes) if not shape.is_empty]
        out = np.zeros((self.side, self.side), dtype=np.int32)
        if pairs:
            rasterize(pairs, out=out, transform=Affine.scale(METRES))
        return out

    def put(self, where: NDArray[np.bool_], colour: Any, share: Any = 1.0) -> None:
        """Paint `colour` (3,) or (3, pixels) where the mask is set, mixed in by `share`."""
        colour = np.asarray(colour, dtype=np.float32)
        colour = colour[:, None] if colour.ndim == 1 else colour
        self.colour[:, where] += (colour - self.colour[:, where]) * share


def paint(layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(3, side, side) uint8 image of a layout."""
    canvas = Canvas(layout, district, difficulty, rng)
    paint_ground(canvas)
    paint_blocks(canvas)
    paint_streets(canvas)
    paint_water(canvas)
    paint_buildings(canvas, layout.buildings)
    paint_boxes(canvas, layout.boxes)
    paint_trees(canvas, layout.trees)
    return expose(canvas)


def paint_ground(canvas: Canvas) -> None:
    """Soil and grass in patches."""
    soil, grass = np.array(SOILS[canvas.district.soil]), np.array(GRASS[canvas.district.season])
    cover = soft_step(0.4 + 0.6 * canvas.broad + 0.7 * canvas.medium + 0.3 * canvas.fine, 0.6)
    texture = 1 + canvas.difficulty.texture * (0.05 * canvas.fine + 0.06 * canvas.medium + 0.03 * canvas.broad)
    canvas.colour[:] = mix(soil, grass, cover) * texture


def paint_blocks(canvas: Canvas) -> None:
    """Each block in its use: lawns, yards, crops in rows, parking lots, bare soil."""
    blocks = canvas.layout.blocks
    ids = canvas.ids([block.outline for block in blocks])
    for index, (block, window) in enumerate(zip(blocks, ndimage.find_objects(ids, len(blocks)), strict=True)):
        if window is None:
            continue
        inside = ids[window] == index + 1
        colour = ground_colour(canvas, block, window)
        target = canvas.colour[(slice(None), *window)]
        target[:, inside] = colour[:, inside]


def ground_colour(canvas: Canvas, block: Block, window: tuple[slice, slice]) -> Plane:
    """(3, height, width) colour of a block's ground over its bounding window."""
    district, rng, strength = canvas.district, canvas.rng, canvas.difficulty.texture
    soil, grass = np.array(SOILS[district.soil]), np.array(GRASS[district.season])
    fine, medium, broad = canvas.fine[window], canvas.medium[window], canvas.broad[window]
    texture = 1 + strength * (0.055 * fine + 0.05 * medium + 0.04 * broad)
    x, y = canvas.x[window], canvas.y[window]
    along = x * np.cos(block.angle) + y * np.sin(block.angle)
    across = -x * np.sin(block.angle) + y * np.cos(block.angle) + 0.5 * broad
    if block.zone in ("field", "vineyard"):
        return crop_rows(block, along, across, fine, medium, broad, soil, grass, district, strength, rng)
    if block.zone == "parking":
        asphalt = np.array(ASPHALT[rng.integers(3)]) * rng.uniform(0.9, 1.15)
        colour = asphalt[:, None, None] * (1 + strength * (0.03 * fine + 0.05 * medium + 0.03 * broad))
        bays = (np.mod(along, 2.7) < 0.45) & (np.mod(across + 2.6, 8.2) < 5.2)
        return np.where(bays, colour * 0.6 + 80, colour).astype(np.float32)
    if block.zone in ("industry", "dense", "towers"):
        base = np.array(CONCRETE[rng.integers(3)]) if rng.random() < 0.6 else np.array(ASPHALT[rng.integers(3)])
        green = soft_step(-0.9 + 0.5 * block.tone + 0.8 * medium + 0.5 * broad, 0.3)
        bare = soft_step(-0.3 + 0.8 * broad - 0.7 * medium, 0.4)
        return (mix(mix(base * rng.uniform(0.85, 1.05), soil, bare), grass, green) * texture).astype(np.float32)
    wet = {"houses": 0.7, "park": 1.1, "orchard": 0.6, "waste": -1.0}.get(block.zone, 0.3)
    cover = soft_step(wet + 0.5 * block.tone + 0.5 * medium + 0.5 * broad + 0.3 * fine, 0.5)
    if block.zone == "park":  # mown in stripes
        texture = texture * (1 + 0.03 * np.sign(np.sin(across * 2 * np.pi / 5)))
    tone = 1 + 0.12 * block.tone
    return (mix(soil * (1.05 - 0.1 * block.tone), grass * tone, cover) * texture).astype(np.float32)


def crop_rows(
    block: Block,
    along: Plane,
    across: Plane,
    fine: Plane,
    medium: Plane,
    broad: Plane,
    soil: NDArray[Any],
    grass: NDArray[Any],
    district: District,
    strength: float,
    rng: np.random.Generator,
) -> Plane:
    """A field: rows of a crop over soil, tramlines, wet and poor spots; vines are rows of bushes like crowns."""
    leaf = np.array(LEAVES[district.season][rng.integers(4)], dtype=float)
    soil = soil * rng.uniform(0.82, 1.12)
    if block.zone == "vineyard":
        period = rng.uniform(2.6, 3.6)
        rows = soft_step(
            np.cos(across * 2 * np.pi / period) - 0.1 + 0.5 * fine + 0.4 * np.sin(along * 2 * np.pi / 1.9), 0.25
        )
        return (mix(soil, leaf * 1.05, 0.9 * rows) * (1 + 0.06 * strength * fine)).astype(np.float32)
    crops = [grass, leaf * 1.25, (176, 158, 104), (150, 140, 84), soil, (118, 128, 74)]
    crop = np.array(crops[rng.integers(len(crops))]) * rng.uniform(0.88, 1.12)
    period = rng.choice([1.6, 2.2, 3.0, 4.5]) * rng.uniform(0.9, 1.1)
    rows = 0.5 + 0.5 * np.cos(across * 2 * np.pi / period)
    health = soft_step(0.5 + 0.6 * block.tone + 0.5 * broad + 0.4 * medium, 0.6)
    cover = health * (1 - rng.uniform(0.15, 0.6) * rows)
    tramlines = (np.mod(across, rng.uniform(11, 18)) < 0.6) * 0.4
    return (mix(soil, crop, cover * (1 - tramlines)) * (1 + strength * (0.05 * fine + 0.04 * medium))).astype(
        np.float32
    )


def paint_streets(canvas: Canvas) -> None:
    """Pavements, carriageways with wear and patches, markings on the main ones; tracks in the soil's colour."""
    layout, rng, fine, medium, broad = canvas.layout, canvas.rng, canvas.fine, canvas.medium, canvas.broad
    verge = canvas.ids([layout.paved.buffer(1.8)]) > 0
    stone = np.array(CONCRETE[rng.integers(3)]) * 0.96
    canvas.put(verge, stone[:, None] * (1 + 0.05 * fine[verge]), (0.75 * soft_step(0.2 + 0.9 * broad[verge], 0.3)))
    pieces = layout.network.streets
    ids = canvas.ids([piece.line.buffer(piece.width / 2) for piece in pieces])
    tones = np.array([[0, 0, 0]] + [np.array(ASPHALT[rng.integers(3)]) * rng.uniform(0.9, 1.1) for _ in pieces])
    paved = canvas.ids([layout.paved]) > 0
    wear = 1 + canvas.difficulty.texture * (0.035 * fine + 0.05 * medium + 0.04 * broad)
    canvas.put(paved, tones[ids[paved]].T * wear[paved])
    track = (canvas.ids([layout.unpaved]) > 0) & ~paved
    soil = np.array(SOILS[canvas.district.soil]) * 1.06
    canvas.put(track, soil[:, None] * (1 + 0.06 * fine[track] + 0.05 * medium[track]))
    middle = canvas.ids([piece.line.buffer(0.7) for piece in pieces if not piece.paved]) > 0
    canvas.put(middle & track, GRASS[canvas.district.season], 0.35 * soft_step(canvas.medium[middle & track], 0.5))
    mains = [piece for piece in pieces if piece.main]
    for piece in mains:
        dashes = [shapely.ops.substring(piece.line, s, s + 3).buffer(0.16) for s in np.arange(0, piece.line.length, 9)]
        edges = [piece.line.offset_curve(sign * (piece.width / 2 - 0.7)).buffer(0.14) for sign in (-1, 1)]
        marked = rasterize(
            [(shape, 1) for shape in dashes + edges if not shape.is_empty],
            out_shape=canvas.height.shape,
            transform=Affine.scale(METRES),
            all_touched=True,
        )
        canvas.put((marked > 0) & paved, (215, 213, 205), 0.3)


def paint_water(canvas: Canvas) -> None:
    """River and ponds: dark and smooth, lighter and muddier at the bank, with ripples that glint; pools are bright."""
    layout, paved = canvas.layout, canvas.ids([canvas.layout.paved, canvas.layout.unpaved]) > 0
    bodies = [(layout.network.river, canvas.district.river[1]), *layout.ponds]
    for shape, name in bodies:
        wet = (canvas.ids([shape]) > 0) & ~paved
        if not wet.any():
            continue
        rows, columns = ndimage.find_objects(wet.astype(np.int8))[0]
        window = (slice(max(rows.start - 8, 0), rows.stop + 8), slice(max(columns.start - 8, 0), columns.stop + 8))
        inside = wet[window]
        depth = ndimage.distance_transform_edt(inside).astype(np.float32) * METRES
        shore = np.exp(-depth / 1.8)
        water = np.array(WATERS[name])
        mud = 0.55 * water + 0.45 * np.array(SOILS[canvas.district.soil])
        colour = mix(water, mud, 0.6 * shore) * (1 + 0.05 * canvas.broad[window] + 0.012 * canvas.medium[window])
        sky = np.array([150, 165, 178])
        glint = soft_step(canvas.broad[window] + 0.25 * canvas.medium[window] - 1.5, 0.25) * (
            0.25 + 0.1 * canvas.fine[window]
        )
        colour = mix_planes(colour, sky, np.clip(glint, 0, 1))
        canvas.colour[(slice(None), *window)] = np.where(inside, colour, canvas.colour[(slice(None), *window)])
        outside = ndimage.distance_transform_edt(~inside) * METRES
        bank = ~inside & (outside < 2.2) & ~paved[window]
        view = canvas.colour[(slice(None), *window)]
        view[:, bank] = view[:, bank] * 0.45 + 0.5 * np.array(SOILS[canvas.district.soil])[:, None]
        canvas.height[window][inside] = -1.2
    pools = canvas.ids(layout.pools) > 0
    rim = ndimage.binary_dilation(pools, iterations=2) & ~pools
    canvas.put(rim, CONCRETE[2], 0.8)
    canvas.put(pools, np.array(POOL)[:, None] * (1 + 0.05 * canvas.fine[pools]))


def paint_buildings(canvas: Canvas, buildings: list[Building]) -> None:
    """Roofs with their slopes lit by the sun, ribs, stains, parapets; and their heights."""
    if not buildings:
        return
    ids = canvas.ids([building.outline for building in buildings])
    where = ids > 0
    of = ids[where] - 1
    x, y = canvas.x[where], canvas.y[where]
    eave = column(buildings, lambda b: b.eave)[of]
    pitch = column(buildings, lambda b: b.pitch)[of]
    hip = column(buildings, lambda b: b.roof == "hip")[of] > 0
    best = np.full(len(of), -np.inf, dtype=np.float32)
    slope = np.zeros((2, len(of)), dtype=np.float32)
    down = np.zeros(len(of), dtype=np.float32)
    for number in (0, -1):
        wing = np.array([building.wings[number] for building in buildings], dtype=np.float32)[of].T
        cos, sin = np.cos(wing[2]), np.sin(wing[2])
        u, v = (x - wing[0]) * cos + (y - wing[1]) * sin, (y - wing[1]) * cos - (x - wing[0]) * sin
        to_side, to_end = wing[4] - np.abs(v), wing[3] - np.abs(u)
        inside = np.minimum(to_side, to_end)
        end_slope = hip & (to_end < to_side)
        rise = np.where(hip, inside, to_side)
        higher = (inside > -0.3) & (rise > best)
        best = np.where(higher, rise, best)
        du, dv = np.where(end_slope, np.sign(u), 0), np.where(end_slope, 0, np.sign(v))
        slope = np.where(higher, np.stack([du * cos - dv * sin, du * sin + dv * cos]), slope)
        down = np.where(higher, np.where(end_slope, v, u), down)
    best = np.maximum(best, 0)
    tilt = pitch * canvas.difficulty.relief
    lit = (slope[0] * canvas.to_sun[0] + slope[1] * canvas.to_sun[1]) * tilt + canvas.to_sun[2]
    canvas.shading[where] = np.maximum(lit / np.sqrt(1 + tilt**2) / canvas.to_sun[2], 0.15)
    canvas.height[where] = eave + pitch * best
    period = column(buildings, lambda b: b.ribs)[of]
    ribs = np.where(period > 0, np.cos(down * 2 * np.pi / np.maximum(period, 0.1)), 0)
    strength = canvas.difficulty.texture
    stains = 1 + strength * (0.035 * canvas.fine[where] + 0.05 * canvas.medium[where] + 0.05 * ribs)
    colours = np.array([building.colour for building in buildings])[of].T * stains
    flat = pitch == 0
    colours *= np.where(flat & (edge_distance(where)[where] < 2), 1.12, 1.0)
    ridge = ~flat & (best > column(buildings, lambda b: min(w.half_width for w in b.wings))[of] - 0.3)
    colours *= np.where(ridge, 1.08, 1.0)
    canvas.put(where, colours)


def paint_boxes(canvas: Canvas, boxes: list[Box]) -> None:
    """Cars, crates and roof units."""
    ids = canvas.ids([box.rectangle.polygon for box in boxes])
    where = (ids > 0) & (canvas.height > -1)
    top = np.array([0.0, *(box.top for box in boxes)], dtype=np.float32)[ids]
    where &= (top > canvas.height) & ((canvas.height < 0.1) | (top > 3))
    colours = np.array([(0.0, 0.0, 0.0), *(box.colour for box in boxes)])[ids[where]].T
    canvas.put(where, colours, 0.9)
    canvas.height[where] = top[where]


def paint_trees(canvas: Canvas, trees: list[Tree]) -> None:
    """Crowns: domes of leaves, lit on the sun's side, dark in the gaps."""
    if not trees:
        return
    ids = canvas.ids([tree.outline for tree in trees])
    where = ids > 0
    of = ids[where] - 1
    radius = column(trees, lambda t: t.radius)[of]
    dx = (canvas.x[where] - column(trees, lambda t: t.x)[of]) / radius
    dy = (canvas.y[where] - column(trees, lambda t: t.y)[of]) / radius
    out = np.clip(dx**2 + dy**2, 0, 1)
    clumps = np.stack(np.gradient(canvas.noise(1.6)))[:, where]
    nx, ny = 0.75 * dx - 0.35 * clumps[1], 0.75 * dy - 0.35 * clumps[0]
    nz = np.sqrt(np.maximum(1 - 0.56 * out, 0.1))
    relief = canvas.difficulty.relief
    lit = (relief * (nx * canvas.to_sun[0] + ny * canvas.to_sun[1]) + nz * canvas.to_sun[2]) / canvas.to_sun[2]
    canvas.shading[where] = np.clip(lit / np.sqrt(1 + 0.3 * relief), 0.2, 1.7)
    canvas.height[where] = radius * 2.0 * (0.5 + 0.5 * np.sqrt(1 - out))
    leaves = np.array(LEAVES[canvas.district.season])
    colours = leaves[np.array([tree.kind for tree in trees])][of].T
    colours = colours * (0.82 + 0.36 * column(trees, lambda t: t.shade)[of]) * (1 + 0.1 * canvas.fine[where])
    canvas.put(where, colours)


def cast_shadows(canvas: Canvas) -> Plane:
    """(side, side) 0..1: how much of the sun each pixel loses to higher things between it and the sun."""
    height = canvas.height
    flat = np.hypot(canvas.to_sun[0], canvas.to_sun[1])
    rise = METRES * canvas.to_sun[2] / flat
    blocked = np.full(height.shape, -10.0, dtype=np.float32)
    for step in range(1, int(height.max() / rise) + 2):
        columns, rows = (round(float(step * part / flat)) for part in canvas.to_sun[:2])
        target = tuple(slice(max(0, -shift), height.shape[0] - max(0, shift)) for shift in (rows, columns))
        source = tuple(slice(max(0, shift), height.shape[0] - max(0, -shift)) for shift in (rows, columns))
        np.maximum(blocked[target], height[source] - step * rise, out=blocked[target])
    shadow = np.clip((blocked - height) / 0.6, 0, 1)
    return ndimage.gaussian_filter(shadow, 0.5)


def expose(canvas: Canvas) -> NDArray[np.uint8]:
    """Light, air and sensor: sun and blue sky, haze, point spread, noise, rounding."""
    district, difficulty, rng = canvas.district, canvas.difficulty, canvas.rng
    sun = canvas.shading * (1 - cast_shadows(canvas))
    sky = np.array([0.30, 0.335, 0.39], dtype=np.float32)[:, None, None]
    crowded = ndimage.gaussian_filter(np.maximum(canvas.height, 0), 5)
    openness = 1 - 0.35 * np.clip((crowded - np.maximum(canvas.height, 0)) / 8, 0, 1)
    light = (1 - sky) * sun + sky * openness
    image = canvas.colour * light * np.array(district.tint, dtype=np.float32)[:, None, None]
    air = np.clip(district.haze * difficulty.haze * (1 + 0.35 * canvas.noise(140)), 0, 0.8)
    image = image * (1 - air) + air * np.array([176, 184, 194], dtype=np.float32)[:, None, None]
    image = (image - 128) * 1.12 + 126
    for band in image:
        band[:] = ndimage.gaussian_filter(band, difficulty.blur)
    image += difficulty.noise * (0.6 + 0.4 * image / 128) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image), 1, 255).astype(np.uint8)


def soft_step(value: Any, width: float) -> Any:
    """0 below, 1 above zero, smooth over about `width` on both sides."""
    return 1 / (1 + np.exp(np.clip(-2.5 * value / width, -30, 30)))


def mix(first: Any, second: Any, share: Plane) -> Plane:
    """(3, ...) mixture of two colours."""
    first, second = np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32)
    first = first[:, None, None] if first.ndim == 1 else first
    second = second[:, None, None] if second.ndim == 1 else second
    return first + (second - first) * share.astype(np.float32)


def mix_planes(first: Plane, second: Any, share: Plane) -> Plane:
    """As `mix`."""
    return mix(first, second, share)


def column(things: list[Any], value: Any) -> NDArray[np.float32]:
    """One value of each thing."""
    return np.array([value(thing) for thing in things], dtype=np.float32)


def edge_distance(mask: NDArray[np.bool_]) -> Plane:
    """Distance in pixels to the nearest pixel outside of the mask."""
    return ndimage.distance_transform_edt(mask).astype(np.float32)
