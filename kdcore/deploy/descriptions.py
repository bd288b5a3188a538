"""What lies beside each exported network: a STAC item for catalogues and a model card for people."""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from kdcore.data.collection import Collection
from kdcore.data.footprints import ground_bounds
from kdcore.deploy.card import CardFacts, model_card
from kdcore.deploy.forms import Network, sha256
from kdcore.deploy.record import Deployment, Difference, Form
from kdcore.deploy.stac import Bounds, machine_name, stac_item
from kdcore.evaluation.ground import Ground
from kdcore.evaluation.influence import measure
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.uncertainty import estimate, stacked
from kdcore.jobs.study_folder import StudyFolder
from kdcore.models.onnx_reading import read_info
from kdcore.ownership import is_edited, write_own_json, write_own_text
from kdcore.settings import SPLITS, RunSettings

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Described:
    """What descriptions are written from."""

    folder: Path
    study: StudyFolder
    collection: Collection
    network: Network
    record: Deployment


def write_descriptions(facts: Described) -> None:
    """Write `NAME.stac.json` and `NAME.md` beside each file of a network that is offered."""
    mine = [form for form in facts.record.forms if form.run == facts.network.name]
    forms = [form for form in mine if form.file and form.kind != "bf16"]
    in_bfloat16 = next((form for form in mine if form.kind == "bf16"), None)
    if not forms:
        return
    run = facts.network.run.read_report()
    interval = mean_ap_interval(Scores.load(facts.network.run.scores))
    for form in forms:
        stem = Path(form.file).stem
        card, item = facts.folder / f"{stem}.md", facts.folder / f"{stem}.stac.json"
        if not is_edited(card):  # what a person added to a card stays
            other = in_bfloat16 if form.kind == "onnx" else None
            write_own_text(card, card_of(facts, form, run, interval, other), overwrite=True)
        write_own_json(item, item_of(facts, form, run), overwrite=True)


def card_of(
    facts: Described, form: Form, run: dict[str, Any], interval: Difference | None, in_bfloat16: Form | None
) -> str:
    """The model card of one file; `in_bfloat16` is the form that runs the same file so."""
    info = read_info(facts.folder / form.file)
    split = facts.collection.settings.split
    return model_card(
        CardFacts(
            title=facts.study.title,
            form=form,
            in_bfloat16=in_bfloat16,
            settings=facts.network.run.settings,
            run=run,
            report=facts.study.report(),
            split={part: list(getattr(split, part)) for part in SPLITS},
            bands=info.band_numbers,
            dtype=info.dtype,
            tile=facts.record.tile,
            metres_per_pixel=info.metres_per_pixel,
            interval=interval,
            machine=facts.record.machine,
            date=time.strftime("%Y-%m-%d", time.localtime(finished(run))),
        )
    )


def item_of(facts: Described, form: Form, run: dict[str, Any]) -> dict[str, Any]:
    """The STAC item of one file."""
    import onnx

    path = facts.folder / form.file
    info = read_info(path)
    kind = "with 8-bit integers" if form.kind == "int8" else "as ONNX"
    return stac_item(
        info.model_copy(update={"parameters": form.parameters}),
        id=machine_name(f"{facts.study.id}-{path.stem}"),
        description=f"{form.run} of the study {facts.study.title}, {kind}. Marks {', '.join(info.classes)}.",
        file=form.file,
        bytes=path.stat().st_size,
        sha256=sha256(path),
        tile=facts.record.tile,
        made=finished(run),
        colours=[entry.colour for entry in facts.collection.settings.classes],
        bounds=train_bounds(facts.collection),
        hyperparameters=hyperparameters(facts.network.run.settings),
        card=f"{path.stem}.md",
        onnx_version=onnx.__version__,
    )


def finished(run: dict[str, Any]) -> float:
    """When a run ended, seconds since 1970."""
    return datetime.strptime(run["finished"], "%Y-%m-%dT%H:%M:%S%z").timestamp()


def hyperparameters(settings: RunSettings) -> dict[str, Any]:
    """Recipe, budget and seed on one level; without what was not used."""
    values = settings.budget.model_dump(mode="json", exclude_none=True) | {"seed": settings.seed}
    recipe = settings.recipe.model_dump(mode="json")
    return values | (recipe if settings.recipe.alpha else {"alpha": 0.0, "task": settings.recipe.task})


def train_bounds(collection: Collection) -> Bounds | None:
    """West, south, east, north of the training imagery, degrees; None where it has no place on the ground."""
    scenes = {region.scene.id: region.scene for region in collection.regions("train")}
    placed = [bounds for scene in scenes.values() if (bounds := ground_bounds(scene)) is not None]
    if not placed:
        return None
    west, south, east, north = (list(values) for values in zip(*placed, strict=True))
    return min(west), min(south), max(east), max(north)


def mean_ap_interval(scores: Scores) -> Difference | None:
    """Mean AP in points with the interval that comes from which ground was tested; None where one tile makes it unknown."""
    if len(scores.tiles) < 2:
        return None
    mean_ap = len(scores.scored)  # the row behind those of the classes
    values, fields = stacked([measure(scores)])
    found = estimate(Ground(scores.tiles, scores.places), values[[mean_ap]], fields[[mean_ap]])[0].interval(CONFIDENCE)
    if not np.isfinite([found.mean, found.low, found.high]).all():
        return None
    return Difference(points=found.mean, low=max(found.low, 0.0), high=min(found.high, 100.0))
