"""What the Data page shows of a collection, as JSON: facts, class shares, the split as rectangles, and small pictures.

The dashboard asks for it as a job (`kdcore.jobs.question.DataLook`): what a broken raster can do ends in that process, the libraries
that read rasters and polygons do not stay in the dashboard's memory, and progress can be shown.
"""

import base64
import copy
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from kdcore.data.collection import Collection, Region
from kdcore.data.demo import write_demo
from kdcore.data.facts import Inspection
from kdcore.data.inspect import check_collection, inspect
from kdcore.data.propose import proposal_text
from kdcore.data.rasters import open_raster
from kdcore.data.scene import Box, Scene
from kdcore.errors import KdcoreError
from kdcore.files import expanded
from kdcore.jobs.library import check_text
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.jobs.question import DataLook
from kdcore.settings import SPLITS, CollectionSettings, class_colours
from kdcore.views.pictures import blend, data_uri, show_imagery, show_labels

CROP = 128  # pixels: a split by blocks must leave room for crops of this size
PICTURE = 256  # pixels: side of a picture
MOST_SCENES = 400  # whose rectangles are drawn
SIDES = ((12, 256), (60, 128))  # scenes at most, and the longer side of a picture of each in pixels
SMALLEST = 64
MOST_PIXELS = 300_000_000  # that are read for all pictures; scenes behind them have none


def look(job: DataLook, session: Report) -> None:
    """Answer a question of the dashboard.

    Its settings are `path`, `demo` (the seed of an area that is made first, or None), and for a look through edited settings
    `proposed` and `edited`, the texts of both.

    Raises:
        KdcoreError: nothing can be found out; says why.
    """
    asked = job.settings
    path = expanded(asked["path"])
    if "edited" in asked:
        former, now = (check_text(asked[name]) for name in ("proposed", "edited"))
        job.answer(edited_overview(path.resolve(), former, now, session))
        return
    if asked["demo"] is not None:
        path = write_demo(path, asked["demo"], session)
    job.answer(overview(path, session))


def overview(path: Path, report: Report = ignore) -> dict[str, Any]:
    """Look at a folder, a `collection.yaml` or a single raster.

    Returns:
        `inspection` (see `kdcore.data.inspect`), `proposal` (YAML text, or None), `error` (why it cannot be used, or None), and for
        what can be used `collection`: name, classes, colours, bands, metres_per_pixel, `scenes` with their rectangles, `pictures`.
    """
    found = inspect(path, CROP, lambda name: report(Progress("", Stage.READING, subject=name)))
    answer: dict[str, Any] = {
        "inspection": found.to_dict(),
        "proposal": proposal_text(found) if found.proposal is not None else None,
        "error": None,
        "collection": None,
    }
    try:
        collection = open_collection(path, found)
        if collection is not None:
            draw(collection, answer, report)
    except KdcoreError as problem:  # what was found before is shown all the same
        answer["error"] = str(problem)
    return answer


def draw(collection: Collection, answer: dict[str, Any], report: Report) -> None:
    """Put the collection with its pictures into an answer; without those where labels cannot be read."""
    answer["collection"] = described = describe(collection, report)
    described["pictures"] = pictures(collection, described["colours"], report)


def edited_overview(
    root: Path, proposed: CollectionSettings, edited: CollectionSettings, report: Report = ignore
) -> dict[str, Any]:
    """Look at a folder through edited settings.

    Returns:
        `collection` and `error` as above, `class_pixels`, `problems` and `notes` as the edited settings give them, and what the
        proposed ones gave in their place: `former_problems`, `former_notes`.
    """
    former, _ = checked(root, proposed, report)
    found, collection = checked(root, edited, report)
    answer: dict[str, Any] = {
        "former_problems": former.problems,
        "former_notes": former.notes,
        "problems": found.problems,
        "notes": found.notes,
        "class_pixels": found.class_pixels,
        "error": None,
        "collection": None,
    }
    try:
        if collection is not None:
            draw(collection, answer, report)
    except KdcoreError as problem:
        answer["error"] = str(problem)
    return answer


def checked(root: Path, settings: CollectionSettings, report: Report) -> tuple[Inspection, Collection | None]:
    """What only reading through settings shows; no collection where they do not open one."""
    found, collection = Inspection(str(root)), None
    try:
        report(Progress("", Stage.READING, subject="labels"))
        collection = Collection(settings, root if settings.root is None else settings.root.expanduser())
        check_collection(found, collection, CROP)
    except KdcoreError as problem:
        found.problems.append(str(problem))
    return found, collection


def open_collection(path: Path, found: Inspection) -> Collection | None:
    """The collection at `path`, through its own settings or the proposed ones; None for a single file or nothing usable."""
    if found.proposal is not None:
        return Collection(found.proposal, path.expanduser().resolve())
    if path.suffix.lower() in (".yaml", ".yml") or (path / "collection.yaml").is_file():
        return Collection.open(path)
    return None


def describe(collection: Collection, report: Report) -> dict[str, Any]:
    """What to draw of a collection.

    `groups` has the part of each whole scene, None where it is in none, and is empty for a split by blocks; `areas` are shares of
    all pixels of the scenes.
    """
    settings = collection.settings
    rows = scene_rows(collection)
    report(Progress("", Stage.DRAWING))
    for row, picture in zip(rows, thumbnails(collection.scenes[:MOST_SCENES], settings), strict=False):
        row["picture"] = picture
    return {
        "name": settings.name,
        "classes": list(settings.class_names),
        "colours": class_colours([entry.colour for entry in settings.classes]),
        "bands": collection.bands,
        "metres_per_pixel": collection.metres_per_pixel,
        "split_by": settings.split.by,
        "images": len(collection.scenes),
        "labelled": sum(scene.labelled for scene in collection.scenes),
        "unlabelled": len(collection.unlabelled),
        "groups": group_parts(collection) if settings.split.by == "scene" else {},
        "areas": area_shares(rows),
        "scenes": rows[:MOST_SCENES],
        "pictures": [],
    }


def group_parts(collection: Collection) -> dict[str, str | None]:
    """The part of the split that each scene belongs to, by the scene's name."""
    parts: dict[str, str | None] = dict.fromkeys(scene.group for scene in collection.scenes)
    for split in SPLITS:
        parts |= {region.scene.group: split for region in collection.regions(split)}
    return parts


def area_shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of the pixels that each part has; 'buffer' is what is kept clear, and the rest is 'not used'."""
    total = sum(row["height"] * row["width"] for row in rows)
    pixels = Counter[str]()
    for row in rows:
        for box in row["rectangles"]:
            pixels[box["part"]] += box["height"] * box["width"]
    used = {split: pixels[split] for split in SPLITS}
    clear = pixels["buffer"] - sum(used.values())
    return {
        part: number / total
        for part, number in (used | {"buffer": clear, "not used": total - pixels["buffer"]}).items()
    }


def scene_rows(collection: Collection) -> list[dict[str, Any]]:
    """Each scene's size and place, and its rectangles by part: 'buffer' is ground of a part that has to be kept clear."""
    without_buffer = copy.copy(collection)
    without_buffer.settings = collection.settings.model_copy(
        update={"split": collection.settings.split.model_copy(update={"buffer": 0})}
    )
    crop = CROP if collection.settings.split.by == "block" else 0
    rectangles: dict[str, list[dict[str, Any]]] = {scene.id: [] for scene in collection.scenes}
    for split in SPLITS:
        for region in without_buffer.regions(split):
            rectangles[region.scene.id].append(rectangle("buffer", region))
        for region in collection.regions(split, crop):
            rectangles[region.scene.id].append(rectangle(split, region))
    return [scene_row(scene) | {"rectangles": rectangles[scene.id]} for scene in collection.scenes]


def scene_row(scene: Scene) -> dict[str, Any]:
    """A scene's name, size and the corner of its place on the ground."""
    left, top = scene.transform @ (0, 0)
    return {
        "id": scene.id,
        "group": scene.group,
        "height": scene.height,
        "width": scene.width,
        "crs": None if scene.crs is None else scene.crs.to_string(),
        "left": left,
        "top": top,
        "pixel": abs(scene.transform.a),
        "labelled": scene.labelled,
    }


def rectangle(part: str, region: Region) -> dict[str, Any]:
    """A rectangle in pixels of its scene."""
    return {"part": part, **region.box._asdict()}


def pictures(collection: Collection, colours: list[str], report: Report) -> list[dict[str, str]]:
    """A place of each part of the split: imagery, and imagery with its labels."""
    found = []
    for split in SPLITS:
        regions = collection.regions(split)
        if not regions:
            continue
        report(Progress("", Stage.DRAWING, subject=split))
        region = max(regions, key=lambda candidate: candidate.box.area)
        crop = collection.reader.read(region.scene, centre(region.box))
        imagery = show_imagery(crop.image, crop.valid)
        labels = blend(imagery, show_labels(crop.labels, colours), 0.55)
        found.append(
            {
                "part": split,
                "scene": region.scene.id,
                "imagery": data_uri(imagery),
                "labels": data_uri(np.where(crop.valid[..., None], labels, imagery).astype(np.uint8)),
            }
        )
    return found


def centre(box: Box) -> Box:
    """The middle of a rectangle, at most a picture large."""
    height, width = min(PICTURE, box.height), min(PICTURE, box.width)
    return Box(box.row + (box.height - height) // 2, box.column + (box.width - width) // 2, height, width)


def thumbnails(scenes: Sequence[Scene], settings: CollectionSettings) -> list[str | None]:
    """A picture of each scene as an address, at most 256 px wide and tall; None where it would take too long or cannot be read."""
    side = next((side for most, side in SIDES if len(scenes) <= most), SMALLEST)
    found: list[str | None] = []
    left = MOST_PIXELS
    for scene in scenes:
        left -= scene.native_shape[0] * scene.native_shape[1]
        found.append(thumbnail(scene, settings, side) if left >= 0 else None)
    return found


def thumbnail(scene: Scene, settings: CollectionSettings, side: int) -> str | None:
    """A scene as a JPEG inside an address; None where it cannot be read, which is a problem that the look itself tells."""
    bands = list(scene.bands[:3])
    shrink = min(1.0, side / max(scene.height, scene.width))
    shape = (max(1, round(scene.height * shrink)), max(1, round(scene.width * shrink)))
    try:
        with open_raster(scene.image, settings.max_declared_gb) as dataset:
            image = dataset.read(bands, out_shape=(len(bands), *shape), resampling=Resampling.average)
            valid = dataset.dataset_mask(out_shape=shape, resampling=Resampling.nearest) > 0
    except (RasterioError, KdcoreError):
        return None
    if settings.nodata is not None:
        valid &= (image != settings.nodata).any(axis=0)
    if image.dtype.kind == "f":
        valid &= np.isfinite(image).all(axis=0)
    buffer = io.BytesIO()
    Image.fromarray(show_imagery(np.nan_to_num(image), valid)).save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
