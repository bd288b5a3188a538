"""Painting what stands up: roofs, cars and crates, crowns. Each sets colour, height and how the sun falls on it."""

import numpy as np
from scipy import ndimage

from kdcore.data.procedural.canvas import Canvas, each
from kdcore.data.procedural.styles import LEAVES
from kdcore.data.procedural.surfaces import local, patches, ribs


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
