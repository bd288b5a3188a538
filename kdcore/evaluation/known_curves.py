"""Label curves that are there already: what the command stored, and studies that make up one. See `kdcore.evaluation.label_curve`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from kdcore.errors import RunError
from kdcore.evaluation.label_curve import REPORT, common
from kdcore.jobs.small_files import read_dict
from kdcore.jobs.study_folder import StudyFolder
from kdcore.reading import visible_all

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


class Interval(BaseModel):
    """Points of mean AP; no interval with one seed."""

    mean: Number | None
    low: Number | None
    high: Number | None


class WorthSaid(BaseModel):
    """What is shown of a `kdcore.evaluation.label_curve.Worth`."""

    share: Number | None
    sentence: str


class Point(BaseModel):
    """One share of the labels."""

    labels: Share
    alone: Interval
    distilled: Interval
    gain: Interval
    worth: WorthSaid


class Stored(BaseModel):
    """What is shown of a curve's report; the rest is left out."""

    points: Annotated[list[Point], Field(min_length=1)]
    teacher: Number | None
    unfinished: list[Share]
    basis: str


def stored_curve(folder: Path) -> dict[str, Any] | None:
    """What `kdcore study --labels` wrote into a curve's folder when it last finished a study; None where it has not.

    Raises:
        RunError: the file is broken.
    """
    values = read_dict(folder / REPORT)
    if values is None:
        return None
    try:
        return Stored.model_validate(visible_all(values)).model_dump()
    except ValidationError as error:
        raise RunError(
            f"{folder / REPORT}: is no report of a label curve. Give the command that made it again to write it anew."
        ) from error


def curves_among(studies: Iterable[StudyFolder]) -> list[dict[float, StudyFolder]]:
    """Studies that differ in their share of the labels only: for each such curve its studies by share, ascending.

    Of several with one share the first counts. Broken studies are left out, and so are those whose data changed since the first.
    """
    curves: dict[tuple[str, float], dict[float, StudyFolder]] = {}
    complete: list[tuple[str, float, StudyFolder]] = []
    known: dict[str, Any] = {}
    for study in studies:
        if study.problem:
            continue
        settings, about, unlabelled = study.settings, study.about, study.settings.recipe.unlabelled
        key = f"{about.demo} {about.collection} {common(settings).model_dump_json()}"
        data = (study.data or {}).get("hash")
        if data is not None and known.setdefault(key, data) != data:
            continue
        if settings.labels == 1:
            complete.append((key, unlabelled, study))
        else:
            curves.setdefault((key, unlabelled), {}).setdefault(settings.labels, study)
    for key, unlabelled, study in complete:
        for (other, used), curve in curves.items():
            if key == other and unlabelled in (0, used):
                curve.setdefault(1.0, study)
    return [dict(sorted(curve.items())) for curve in curves.values() if len(curve) > 1]
