"""Going from one bad tile to the next on the map. The place in the list stands in the address."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.evaluation.worst import WrongTile, worst_tiles
from kdcore.inference.layer_index import Bounds, StudyLayers
from kdcore.jobs.store import RunDirectory
from kdcore.ui.formatting import percent

PARAMETER = "tile"  # in the address: 1 is the worst
SCENE = "scene"  # key of the page's choice of a scene


@dataclass(frozen=True)
class Ranked:
    """A study's bad tiles, the worst first, and the side of a tile in pixels."""

    tiles: list[WrongTile]
    side: int


def rank(run: RunDirectory) -> Ranked:
    """The tiles that a run gets wrong; read once for each time its scores change."""
    changed = run.scores.stat().st_mtime_ns if run.scores.is_file() else 0
    return read_ranking(str(run.path), changed)


@st.cache_data(max_entries=20, show_spinner=False)
def read_ranking(run: str, changed: int) -> Ranked:
    """Read a run's scores; none of a run that has none."""
    from kdcore.evaluation.scores import Scores

    directory = RunDirectory(Path(run))
    try:
        return Ranked(worst_tiles(Scores.load(directory.scores)), directory.settings.evaluation.tile)
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
    if scene is not None:
        st.session_state[SCENE] = scene.id
    st.query_params[PARAMETER] = str(following + 1)


def focus_on(ranked: Ranked, layers: StudyLayers, scene_id: str) -> tuple[str, Bounds] | None:
    """The tile that the address names as a rectangle to look at, if it is in the scene that is shown."""
    index = place_in_list(ranked)
    if index is None:
        return None
    tile = ranked.tiles[index]
    scene = layers.scene_named(tile.scene)
    if scene is None or scene.id != scene_id:
        return None
    height, width = min(ranked.side, scene.height - tile.row), min(ranked.side, scene.width - tile.column)
    return f"{scene.id} {tile.row} {tile.column}", scene.bounds_of((tile.row, tile.column, height, width))


def describe(ranked: Ranked, who: str) -> str:
    """What is bad about the tile that the address names; empty without one."""
    index = place_in_list(ranked)
    if index is None:
        return ""
    tile = ranked.tiles[index]
    return (
        f"The outlined tile is number {index + 1} of {len(ranked.tiles)} by errors: "
        f"the {who} is wrong in {percent(tile.wrong / tile.scored, 0)} of its pixels."
    )
