"""A plan of a collection: its imagery, small, under the parts that train, validate and test."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from kdcore.views.arms import tint
from kdcore.views.layout import style

SPLIT_COLOURS = {
    "train": "#56B4E9",
    "validation": "#E69F00",
    "test": "#CC79A7",
    "buffer": "#999999",
    "not used": "#DDDDDD",
}
LEGEND = 36  # pixels of a chart's height that a legend of one row takes
SPARSE = 6.0  # times more ground than scenes: then scenes are drawn in rows instead of where they lie
OVER_IMAGERY = 0.45  # opacity of a part over its imagery
MOST_NAMED = 30  # scenes whose names fit on a plan
LETTER, LINE = 7.5, 16  # pixels: a letter of a label, and a line
Place = tuple[float, float, float]  # left edge, top edge, size of a pixel


def split_chart(scenes: Sequence[Mapping[str, Any]], width: int = 620, tallest: int = 520) -> go.Figure:
    """A plan of the scenes, with the rectangles that train, validate and test over small pictures of the imagery.

    Scenes are drawn where they lie if they lie near each other, else in rows.

    Args:
        scenes: as `kdcore.views.data_overview` describes them, with or without a `picture`.
        width: of the plan in pixels; less where it would become too tall.
        tallest: height in pixels at most.
    """
    places = lay_out(scenes)
    rows = [row for scene, place in zip(scenes, places, strict=True) for row in rectangle_rows(scene, place)]
    across, down = max(row["x2"] for row in rows), max(row["y2"] for row in rows)
    scale = min(width / across, tallest / down)
    figure = go.Figure()
    pictures = [row for scene, place in zip(scenes, places, strict=True) for row in picture_rows(scene, place)]
    for row in pictures:
        figure.add_layout_image(
            source=row["picture"], x=row["x"], y=-row["y"], sizex=row["x2"] - row["x"], sizey=row["y2"] - row["y"],
            xref="x", yref="y", sizing="stretch", layer="below",
        )  # fmt: skip
    for part, colour in SPLIT_COLOURS.items():
        draw_part(figure, part, colour, [row for row in rows if row["part"] == part], OVER_IMAGERY if pictures else 1.0)
    labels = label_rows(scenes, places, scale)
    figure.add_scatter(
        x=[row["x"] for row in labels],
        y=[-row["y"] for row in labels],
        text=[escape(row["label"]).replace("\n", "<br>") for row in labels],
        mode="text",
        textfont={"size": 12, "color": "#000", "shadow": "0 0 3px #fff, 0 0 3px #fff, 0 0 3px #fff"},
        hoverinfo="skip",
        showlegend=False,
    )
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
    margin = {"l": 0, "r": 0, "t": LEGEND, "b": 0}
    style(
        figure,
        width=round(across * scale),
        height=round(down * scale) + LEGEND,
        margin=margin,
        legend=legend,
        barmode="overlay",
    )
    figure.update_xaxes(range=[0, across], visible=False)
    figure.update_yaxes(range=[-down, 0], visible=False, scaleanchor="x")
    return figure


def draw_part(figure: go.Figure, part: str, colour: str, rows: Sequence[Mapping[str, Any]], opacity: float) -> None:
    """The rectangles of a part in its colour; none where there are none."""
    if rows:
        figure.add_bar(
            x=[(row["x"] + row["x2"]) / 2 for row in rows],
            width=[row["x2"] - row["x"] for row in rows],
            base=[-row["y2"] for row in rows],
            y=[row["y2"] - row["y"] for row in rows],
            marker={"color": tint(colour, opacity), "line": {"color": "#fff", "width": 1}},
            hovertext=[f"{escape(row['scene'])}<br>{part}, {row['size']}" for row in rows],
            hovertemplate="%{hovertext}<extra></extra>",
            name=part,
        )


def on_plan(box: Mapping[str, Any], place: Place) -> dict[str, float]:
    """Edges on the plan of a rectangle in pixels of its scene."""
    left, top, pixel = place
    return {
        "x": left + box["column"] * pixel,
        "x2": left + (box["column"] + box["width"]) * pixel,
        "y": top + box["row"] * pixel,
        "y2": top + (box["row"] + box["height"]) * pixel,
    }


def rectangle_rows(scene: Mapping[str, Any], place: Place) -> Iterable[dict[str, Any]]:
    """What is drawn of a scene's split."""
    for box in visible_rectangles(scene):
        size = f"{box['width']:,} × {box['height']:,} px"
        yield {"scene": scene["id"], "part": box["part"], **on_plan(box, place), "size": size}


def picture_rows(scene: Mapping[str, Any], place: Place) -> Iterable[dict[str, Any]]:
    """A scene's picture where it lies."""
    if scene.get("picture"):
        whole = {"row": 0, "column": 0, "height": scene["height"], "width": scene["width"]}
        yield {**on_plan(whole, place), "picture": scene["picture"]}


def label_rows(scenes: Sequence[Mapping[str, Any]], places: Sequence[Place], scale: float) -> list[dict[str, Any]]:
    """The part's name on each rectangle that has room for it, with the scene's name on the largest one."""
    rows: list[dict[str, Any]] = []
    for scene, place in zip(scenes, places, strict=True):
        boxes = [box for box in visible_rectangles(scene) if box["part"] not in ("buffer", "not used")]
        largest = max(boxes, key=lambda box: box["height"] * box["width"], default=None)
        for box in boxes:
            edges = on_plan(box, place)
            wide, tall = (edges["x2"] - edges["x"]) * scale, (edges["y2"] - edges["y"]) * scale
            lines = [scene["id"], box["part"]] if box is largest and len(scenes) <= MOST_NAMED else [box["part"]]
            lines = [line for line in lines if len(line) * LETTER <= wide]
            if lines and len(lines) * LINE <= tall:
                middle = {"x": (edges["x"] + edges["x2"]) / 2, "y": (edges["y"] + edges["y2"]) / 2}
                rows.append({**middle, "label": "\n".join(lines)})
    return rows


def visible_rectangles(scene: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A scene's rectangles from the lowest to the uppermost, without those that others hide."""
    whole = {"part": "not used", "row": 0, "column": 0, "height": scene["height"], "width": scene["width"]}
    boxes = scene["rectangles"]
    below = [box for box in boxes if box["part"] == "buffer"]
    above = [box for box in boxes if box["part"] != "buffer"]

    def area(some: Sequence[Mapping[str, Any]]) -> int:
        return sum(box["height"] * box["width"] for box in some)

    return [
        *([whole] if area(below or above) < area([whole]) else []),
        *(below if area(above) < area(below) else []),
        *above,
    ]


def lay_out(scenes: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    """Left edge, top edge and size of a pixel for each scene: on the ground if they lie near each other, else in rows.

    The plan begins at 0/0 in the upper left corner; its unit is that of the scenes' CRS, or a pixel.
    """
    systems = {scene["crs"] for scene in scenes}
    if len(systems) == 1 and None not in systems:
        left, top = min(scene["left"] for scene in scenes), max(scene["top"] for scene in scenes)
        places = [(scene["left"] - left, top - scene["top"], scene["pixel"]) for scene in scenes]
        sizes = [(scene["width"] * scene["pixel"], scene["height"] * scene["pixel"]) for scene in scenes]
        across = max(x + width for (x, _, _), (width, _) in zip(places, sizes, strict=True))
        down = max(y + height for (_, y, _), (_, height) in zip(places, sizes, strict=True))
        if across * down <= SPARSE * sum(width * height for width, height in sizes) and across <= 4 * down:
            return places
    return in_rows(scenes)


def in_rows(scenes: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    """Places for scenes side by side, in rows that make the plan about one and a half times as wide as tall."""
    total = sum(scene["width"] * scene["height"] for scene in scenes)
    gap = 0.08 * max(max(scene["width"], scene["height"]) for scene in scenes)
    longest = max(1.25 * (1.5 * total) ** 0.5, max(scene["width"] for scene in scenes))
    places, x, y, tallest = [], 0.0, 0.0, 0.0
    for scene in scenes:
        if x and x + scene["width"] > longest:
            x, y, tallest = 0.0, y + tallest + gap, 0.0
        places.append((x, y, 1.0))
        x += scene["width"] + gap
        tallest = max(tallest, scene["height"])
    return places
