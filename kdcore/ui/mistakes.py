"""Going from one tile that the student lost to the next, on the map and as a gallery. The place in the list stands in the address."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.evaluation.worst import LostTile, lost_tiles
from kdcore.inference.layer_index import Bounds, Rectangle, SceneLayers, StudyLayers
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import map_view
from kdcore.ui.formatting import percent
from kdcore.views.arms import ARM_NAMES
from kdcore.views.map_layers import swatch_html

PARAMETER = "tile"  # in the address: 1 is where most was lost
SCENE = "scene"  # key of the map's choice of a scene
SHOWN = ("teacher", "distilled")


@dataclass(frozen=True)
class Ranked:
    """The tiles that a student lost, the most expensive first, and the side of a tile in pixels."""

    tiles: list[LostTile]
    side: int

    def rectangle(self, tile: LostTile, scene: SceneLayers) -> Rectangle:
        """A tile as row, column, height and width; at the scene's edge it is smaller."""
        height, width = min(self.side, scene.height - tile.row), min(self.side, scene.width - tile.column)
        return tile.row, tile.column, height, width


def rank(study: StudyFolder, layers: StudyLayers, seed: int | None = None, kind: int | None = None) -> Ranked:
    """The tiles that the distilled student of a seed lost against the teacher, in scenes that have a map; of one class or of all.

    Read once for each time the scores change; none where there are no scores to compare.
    """
    runs = map_view.arms_of(study, seed)
    teacher, student = (RunDirectory(study.path / "runs" / runs[arm]) for arm in SHOWN)
    changed = tuple(run.scores.stat().st_mtime_ns if run.scores.is_file() else 0 for run in (teacher, student))
    ranked = read_ranking(str(teacher.path), str(student.path), changed, kind)
    return Ranked([tile for tile in ranked.tiles if layers.scene_named(tile.scene) is not None], ranked.side)


@st.cache_data(max_entries=40, show_spinner=False)
def read_ranking(teacher: str, student: str, changed: tuple[int, ...], kind: int | None) -> Ranked:
    """Read two runs' scores."""
    from kdcore.evaluation.scores import Scores

    ours, theirs = RunDirectory(Path(student)), RunDirectory(Path(teacher))
    try:
        tiles = lost_tiles(Scores.load(theirs.scores), Scores.load(ours.scores), kind)
        return Ranked(tiles, ours.settings.evaluation.tile)
    except KdcoreError:
        return Ranked([], 0)


def place_in_list(ranked: Ranked) -> int | None:
    """Index of the tile that the address names; None without one."""
    text = st.query_params.get(PARAMETER, "")
    number = int(text) if text.isdecimal() and len(text) < 9 else 0
    return number - 1 if 1 <= number <= len(ranked.tiles) else None


def go_to_next(ranked: Ranked, layers: StudyLayers) -> None:
    """Put the next tile into the address, after the last one the first, and choose its scene."""
    now = place_in_list(ranked)
    following = 0 if now is None else (now + 1) % len(ranked.tiles)
    scene = layers.scene_named(ranked.tiles[following].scene)
    assert scene is not None
    st.session_state[SCENE] = scene.id
    st.query_params[PARAMETER] = str(following + 1)


def focus_on(ranked: Ranked, scene: SceneLayers) -> tuple[str, Bounds] | None:
    """The tile that the address names as a rectangle to look at, if it is in the scene that is shown."""
    index = place_in_list(ranked)
    if index is None or ranked.tiles[index].scene != scene.name:
        return None
    tile = ranked.tiles[index]
    return f"{scene.id} {tile.row} {tile.column}", scene.bounds_of(ranked.rectangle(tile, scene))


def describe(ranked: Ranked) -> str:
    """What was lost in the tile that the address names; empty without one."""
    index = place_in_list(ranked)
    if index is None:
        return ""
    return f"The outlined tile is number {index + 1} of {len(ranked.tiles)} by what was lost: {in_words(ranked.tiles[index])}."


def in_words(tile: LostTile) -> str:
    """How much of a tile each network has wrong."""
    ours, theirs = (percent(wrong / tile.scored, 0) for wrong in (tile.student, tile.teacher))
    return f"the student is wrong in {ours} of its pixels, the teacher in {theirs}"


def tile_html(study: StudyFolder, layers: StudyLayers, ranked: Ranked, tile: LostTile, runs: dict[str, str]) -> str:
    """Photo, truth, teacher and student of a tile, beside each other.

    Raises:
        KdcoreError: a file of the map is missing or broken.
    """
    from kdcore.server.layers import crops_of  # reads rasters: loaded after the words are on screen
    from kdcore.views.pictures import blend, data_uri, show_labels

    scene = layers.scene_named(tile.scene)
    assert scene is not None
    photo, masks = crops_of(study.id, scene.id, ranked.rectangle(tile, scene), [runs[arm] for arm in SHOWN])
    hidden = map_view.hidden_classes(study, layers)
    pictures = {"Photo": photo}
    for name, classes in zip(("Truth", *(ARM_NAMES[arm] for arm in SHOWN)), masks, strict=True):
        seen = (classes < len(layers.classes)) & ~np.isin(classes, hidden)
        pictures[name] = np.where(seen[..., None], blend(photo, show_labels(classes, layers.colours), 0.65), photo)
    figures = "".join(
        f'<figure><img src="{data_uri(picture, "JPEG")}" alt="{name} of the tile"><figcaption>{name}</figcaption></figure>'
        for name, picture in pictures.items()
    )
    return f'<div class="kdcore-tile">{figures}</div>'


def legend_html(layers: StudyLayers, hidden: tuple[int, ...]) -> str:
    """The colours of the classes that are drawn."""
    named = enumerate(zip(layers.classes, layers.colours, strict=True))
    return " ".join(f"{swatch_html(colour)}{escape(name)}" for index, (name, colour) in named if index not in hidden)
