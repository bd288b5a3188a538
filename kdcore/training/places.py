"""Score a study's networks in other places: the test parts of the collections that its `test_on` names."""

from pathlib import Path
from typing import Any

from torch import nn

from kdcore.data.collection import Collection
from kdcore.data.mixed import same_resolution
from kdcore.errors import SettingsError
from kdcore.evaluation.places import FILE, scores_file
from kdcore.evaluation.report import arm_runs
from kdcore.files import write_json
from kdcore.inference.evaluate import evaluate
from kdcore.jobs.progress import Report, Stage, counting, ignore
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import load_network
from kdcore.settings import StudySettings
from kdcore.teacher.teacher import Teacher
from kdcore.training.fabric import make_fabric


def open_places(settings: StudySettings, collection: Collection) -> list[Collection]:
    """The collections that a study is tested on beside its own.

    Raises:
        DataError: one cannot be read.
        SettingsError: it has other classes, bands or another resolution than the study's own, no test part, or the name of another one.
    """
    found = [Collection.open(path) for path in settings.test_on]
    names = [collection.settings.name, *(place.settings.name for place in found)]
    for path, place in zip(settings.test_on, found, strict=True):
        where = f"test_on: {path}"
        if place.settings.class_names != collection.settings.class_names:
            raise SettingsError(
                f"{where}: has the classes {', '.join(place.settings.class_names)}, but the study's are "
                f"{', '.join(collection.settings.class_names)}. Name them alike, in the same order, in its collection.yaml."
            )
        if place.bands != collection.bands:
            raise SettingsError(
                f"{where}: gives {place.bands} bands, but the study's imagery {collection.bands}. Set `bands` in its collection.yaml."
            )
        here, there = collection.metres_per_pixel, place.metres_per_pixel
        if not same_resolution(here, there):
            raise SettingsError(
                f"{where}: has {there:.3g} m per pixel, but the study's imagery {here:.3g} m. Set `metres_per_pixel: {here:.3g}` in its collection.yaml."
            )
        if not place.regions("test"):
            raise SettingsError(
                f"{where}: its split has no test part. Name some of its scenes or blocks as `test` in its collection.yaml."
            )
        if names.count(place.settings.name) > 1:
            raise SettingsError(
                f"{where}: {place.settings.name!r} is the name of two collections. Give each its own in collection.yaml."
            )
    return found


def score_places(out: Path, settings: StudySettings, places: list[Collection], report: Report = ignore) -> None:
    """Score the finished arms of a study in other places, as far as that is not done yet.

    Args:
        out: the study's folder.
        settings: of the study.
        places: see `open_places`.
        report: is told what happens.
    """
    described: list[dict[str, Any]] = [
        {
            "name": place.settings.name,
            "collection": str(place.path),
            "hash": place.content_hash,
            "metres_per_pixel": place.metres_per_pixel,
        }
        for place in places
    ]
    write_json(out / FILE, described)
    if not places:
        return
    fabric = make_fabric(settings.hardware.device, 1, settings.hardware.precision)
    for directories in arm_runs(out).values():
        for run in directories:
            missing = [
                (place, file)
                for place, said in zip(places, described, strict=True)
                if not (file := scores_file(run, said)).exists()
            ]
            network = network_of(run, places[0]) if missing else None
            for place, file in missing:
                assert network is not None
                network.to(fabric.device)
                evaluate(
                    network,
                    place,
                    "test",
                    settings.evaluation,
                    fill=network.fill,
                    device=fabric.device,
                    readers=settings.hardware.readers,
                    progress=counting(report, Stage.SCORING_TEST, run.path.name),
                ).save(file)


def network_of(run: RunDirectory, place: Collection) -> Any:
    """The network of a finished run: its best checkpoint, or the checkpoints that teach."""
    settings = run.settings
    if run.best.exists():
        network: nn.Module = load_network(run.best)[0]
        return network
    numbers = place.scenes[0].bands
    return Teacher.load(
        settings.teacher, place.settings.class_names, place.bands, numbers, flips=settings.teacher_flips
    )
