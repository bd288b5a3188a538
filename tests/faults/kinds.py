"""Everything that takes time, small: a study, soft labels, a sweep, a prediction and a deployment, each in a folder of its own.

Of each kind: how it begins and goes on, what pages and commands open of it, and what must be the same whatever happened on the way.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio

from kdcore.deploy.folder import DeploymentFolder, deployment_folder
from kdcore.deploy.record import Deployment, EngineSpeed
from kdcore.files import HALF_WRITTEN
from kdcore.jobs import worker
from kdcore.jobs.locks import held
from kdcore.jobs.status import Status
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.sweep_folder import SweepFolder, list_sweeps
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import RECORD
from kdcore.reading import read_json
from kdcore.settings import Budget, SearchSpace, TeacherSettings, save
from tests.conftest import TINY, paint, write_collection, write_raster
from tests.faults.facts import Facts, differing, digest, look_at_run, look_at_studies, run_facts, sum_of, timeless
from tests.training.studies import study_settings
from tests.training.sweeps import STUDENT, sweep_settings

BUDGET = Budget(steps=4, batch_size=2, crop=64, validate_every=2, save_every=1, learning_rate=5e-3)
TILE = 64
MANY_TRIALS = 6


@dataclass(frozen=True)
class Base:
    """Data, a finished study and a raster that all kinds begin with; nothing of it is changed."""

    folder: Path

    @property
    def collection(self) -> Path:
        return self.folder / "collection/collection.yaml"

    @property
    def study(self) -> Path:
        return self.folder / "studies/town"

    @property
    def raster(self) -> Path:
        return self.folder / "raster.tif"

    @classmethod
    def make(cls, folder: Path) -> "Base":
        base = cls(folder)
        write_collection(folder / "collection", classes=2)
        write_raster(base.raster, paint(np.random.default_rng(3), 260, 2)[0])
        return base


def put_study(base: Base, folder: Path) -> StudyFolder:
    """A study as a launch leaves it: queued, and a process for it on its way."""
    teacher = TeacherSettings(network=TINY, budget=BUDGET)
    about = About(title=folder.name, collection=base.collection, created=1000.0)
    study = StudyFolder.begin(folder, study_settings(seeds=(0,), budget=BUDGET, teacher=teacher), about)
    study.write_status(Status(queued=time.time(), launched=time.time(), device="cpu"))
    return study


class Kind:
    """One kind of work."""

    name = ""

    def __init__(self, base: Base) -> None:
        self.base = base

    def prepare(self, place: Path) -> None:
        """What lies in the folder before the work."""

    def work(self, place: Path) -> int | None:
        """Begin, or go on; in a process of its own."""
        raise NotImplementedError

    def look(self, place: Path) -> None:
        """Open everything as pages and commands do; what cannot be read raises."""

    def states(self, place: Path) -> list[str]:
        """What is told of it and its parts."""
        return []

    def messages(self, place: Path) -> list[str]:
        """What it says of its failure beside the log."""
        return []

    def alive(self, place: Path) -> bool:
        """Whether some process is taken to work on it."""
        return any(held(lock) for lock in place.rglob("*.lock"))

    def result(self, place: Path) -> Facts:
        """What must be the same whatever happened on the way."""
        raise NotImplementedError

    def differences(self, found: Facts, calm: Facts) -> list[str]:
        """What is not the same, by name."""
        return list(differing(found, calm))

    def more(self, place: Path) -> None:
        """What an undisturbed run does beside, so that it has all that the others may have."""

    def bears_a_kill(self, place: Path) -> bool:
        """Whether the next kill must change nothing."""
        return True

    def left(self, place: Path) -> list[str]:
        """Hidden and half-written files that nobody needs any more."""
        return sorted(
            str(file.relative_to(place))
            for file in place.rglob("*")
            if file.name.startswith((HALF_WRITTEN, ".tmp", ".new-")) or file.suffix in (".part", ".tmp")
        )


class Study(Kind):
    """Teacher, student alone and distilled student: trained, scored, compared."""

    name = "study"

    def prepare(self, place: Path) -> None:
        put_study(self.base, place / "town")

    def work(self, place: Path) -> int | None:
        return worker.main([StudyFolder.KIND, str(place / "town")])

    def study(self, place: Path) -> StudyFolder:
        """Its folder."""
        return StudyFolder(place / "town")

    def look(self, place: Path) -> None:
        look_at_studies(place)

    def states(self, place: Path) -> list[str]:
        study = self.study(place)
        return [study.state, *(run.state for run in study.progress().runs)]

    def messages(self, place: Path) -> list[str]:
        return [self.study(place).job.message]

    def result(self, place: Path) -> Facts:
        study = StudyFolder(place / "town")
        assert study.finished, study.job
        assert study.page.stat().st_size > 10_000
        runs = {run.path.name: run_facts(run) for run in study.runs()}
        layers = {file.name: digest(file) for file in sorted(study.layers.glob("*.tif"))}
        return {"runs": runs, "report": timeless(study.report(), place), "layers": layers}


class SoftLabels(Kind):
    """What the teacher says of each pixel, kept on the disk."""

    name = "soft-label cache"

    def work(self, place: Path) -> int | None:
        from kdcore.data.collection import Collection
        from kdcore.data.survey import survey
        from kdcore.settings import Hardware
        from kdcore.teacher.soft_labels import FOLDER, open_soft_labels, regions_of
        from kdcore.teacher.teacher import Teacher

        collection, checkpoint = (
            Collection.open(self.base.collection),
            RunDirectory(self.base.study / "runs/teacher-s0").best,
        )
        teacher = Teacher.load([checkpoint], collection.settings.class_names, 3, (1, 2, 3))
        regions = regions_of(survey(collection, 64), False)
        hardware = Hardware(device="cpu", cache_views="eight")
        with open_soft_labels(
            place / FOLDER, collection, regions, teacher, [checkpoint], hardware, log=partial(print, flush=True)
        ) as served:
            return int(served.served != "cache")

    def look(self, place: Path) -> None:
        for sheet in place.rglob("*.json"):
            assert isinstance(read_json(sheet)["crc32"], int)
            assert sheet.with_suffix(".f16").stat().st_size

    def result(self, place: Path) -> Facts:
        files = sorted(place.rglob("*.f16"))
        return {file.name: [digest(file), timeless(read_json(file.with_suffix(".json")), place)] for file in files}


class Sweep(Kind):
    """One worker: the teacher, the student alone, two repeats, one trial of the search, and the confirmation."""

    name = "sweep"
    trials = 4

    def prepare(self, place: Path) -> None:
        space = SearchSpace(student=STUDENT, temperature=(1.0, 4.0), alpha=(0.5,))
        teacher = TeacherSettings(network=TINY, budget=BUDGET)
        settings = sweep_settings(
            space=space, trials=self.trials, confirm=1, budget=BUDGET, teacher=teacher, pruning=False
        )
        about = About(title="sweep", collection=self.base.collection, created=1000.0)
        sweep = SweepFolder.begin(place / "sweeps/search", settings, about)
        sweep.worker(0).write_status(Status(queued=time.time(), launched=time.time()))

    def work(self, place: Path) -> int | None:
        return worker.main(["kdcore.jobs.sweep_folder:SweepWorker", str(place / "sweeps/search"), "0"])

    def look(self, place: Path) -> None:
        for sweep in list_sweeps(place / "sweeps"):
            progress = sweep.progress()
            assert progress.state != "broken", progress.message
            for trial in sweep.trials():
                run = sweep.run(trial.number)
                if (run.path / "settings.yaml").is_file():  # else it was not begun
                    look_at_run(run)

    def states(self, place: Path) -> list[str]:
        sweep = SweepFolder(place / "sweeps/search")
        return [sweep.worker(0).status.state, sweep.progress().state, *(trial.state for trial in sweep.trials())]

    def messages(self, place: Path) -> list[str]:
        return [SweepFolder(place / "sweeps/search").worker(0).status.message]

    def result(self, place: Path) -> Facts:
        """Every trial by what was asked for: a killed one is done once more, and counts once."""
        sweep = SweepFolder(place / "sweeps/search")
        assert sweep.progress().state == "finished", sweep.progress()
        found = {}
        for trial in sweep.trials():
            if trial.retried_as is None:
                assert trial.state == "finished", trial
                params = json.dumps([trial.role, trial.seed, trial.params], sort_keys=True)
                run = sweep.run(trial.number)
                found[params] = {"values": timeless(trial.values, place), "weights": sum_of(run.best)}
        assert sum(trial.over for trial in sweep.trials()) == sweep.settings.trials
        assert read_json(sweep.report_file)
        assert read_json(sweep.path / "confirm/report.json")
        return found

    def differences(self, found: Facts, calm: Facts) -> list[str]:
        """The sampler's choice depends on when it was asked; each trial is what the same trial was in the longer sweep."""
        unknown = [f"{params}: not among the undisturbed" for params in found if params not in calm]
        return unknown + list(differing(found, {params: calm.get(params) for params in found}))

    def more(self, place: Path) -> None:
        """Trials of everything that can be sampled."""
        sweep = SweepFolder(place / "sweeps/search")
        save(sweep.settings.model_copy(update={"trials": MANY_TRIALS}), sweep.settings_file)

    def bears_a_kill(self, place: Path) -> bool:
        """A trial that was killed is done once more; one that is killed then, too, is told as failed."""
        trials = SweepFolder(place / "sweeps/search").trials()
        return not any(trial.retry_of is not None or trial.state == "interrupted" for trial in trials)


class Predict(Kind):
    """Maps of a raster, in several parts, with polygons."""

    name = "prediction"

    def work(self, place: Path) -> int | None:
        import sys

        from kdcore.cli import main
        from kdcore.inference import parts

        parts.PART_PIXELS = 1  # a part for each row of tiles
        place.mkdir(parents=True, exist_ok=True)
        model = RunDirectory(self.base.study / "runs/distilled-s0").best
        sys.argv = ["kdcore", "predict", str(model), str(self.base.raster), "--out", str(place), "--tile", "128"]
        main()
        return 0

    def look(self, place: Path) -> None:
        for file in place.glob("*.tif"):
            with rasterio.open(file) as dataset:
                dataset.read()
        for file in place.glob("*.gpkg"):
            geopandas.read_file(file)
        for file in place.rglob("*.json"):
            read_json(file)

    def result(self, place: Path) -> Facts:
        objects = geopandas.read_file(place / "raster.gpkg")
        return {
            "files": sorted(file.name for file in place.iterdir()),
            "maps": {file.name: digest(file) for file in sorted(place.glob("*.tif"))},
            "objects": hashlib.sha256(repr(objects.to_wkb().to_dict("list")).encode()).hexdigest(),
            "manifest": timeless(read_json(place / "raster.json"), place),
        }


class Deploy(Kind):
    """Networks exported, reduced to 8 bits, compared and described; only the clock is left out."""

    name = "deployment"

    def prepare(self, place: Path) -> None:
        shutil.copytree(self.base.study, place / "town")
        self.folder(place).write_status(Status(queued=time.time(), launched=time.time()))

    def folder(self, place: Path) -> DeploymentFolder:
        """Of the study."""
        workspace = Workspace(place)
        return DeploymentFolder(deployment_folder(workspace, StudyFolder(place / "town")))

    def work(self, place: Path) -> int | None:
        from kdcore.deploy import make
        from kdcore.deploy.profile import Measured

        def measure(jobs: Any, **_: Any) -> Measured:
            speed = EngineSpeed(engine="torch", device="x", milliseconds=1, megapixels_per_second=1, peak_mb=1)
            return Measured({job: speed.model_copy(update={"engine": job.engine}) for job in jobs}, {})

        make.measure, make.TILE = measure, TILE
        return worker.main([DeploymentFolder.KIND, str(self.folder(place).path)])

    def look(self, place: Path) -> None:
        look_at_studies(place)
        folder = self.folder(place)
        if (folder.path / "deploy.json").exists():
            Deployment.load(folder.path)

    def states(self, place: Path) -> list[str]:
        return [self.folder(place).status.state]

    def messages(self, place: Path) -> list[str]:
        return [self.folder(place).status.message]

    def result(self, place: Path) -> Facts:
        folder = self.folder(place)
        assert folder.status.state == "finished", folder.status
        files = [file for file in sorted(folder.path.iterdir()) if file.suffix == ".onnx"]
        record = Deployment.load(folder.path).model_dump(mode="json")
        names = sorted(
            file.name for file in folder.path.iterdir() if file.name not in ("alive.lock", "log.txt", RECORD)
        )
        return {
            "record": timeless(record, place),
            "networks": {file.name: digest(file) for file in files},
            "files": names,
        }


KINDS: dict[str, Callable[[Base], Kind]] = {kind.name: kind for kind in (Study, SoftLabels, Sweep, Predict, Deploy)}
