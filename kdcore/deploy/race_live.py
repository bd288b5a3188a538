"""A live race: teacher and student map the same tiles on this machine in turn, and every tile is timed."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from kdcore.data.collection import Collection
from kdcore.data.rasters import open_raster
from kdcore.data.scene import Box, Crop
from kdcore.deploy.race import HALO, INDEX, RACERS, Lane, Race, RaceFolder, course, moments, side_of, tiles_over
from kdcore.deploy.record import EngineName
from kdcore.errors import RunError
from kdcore.files import write_text
from kdcore.inference.engines import TorchEngine
from kdcore.inference.layer_index import Rectangle, SceneLayers, StudyLayers
from kdcore.inference.marking import choose_device, find_weights
from kdcore.jobs.plan import planned_runs, teacher_run
from kdcore.jobs.progress import Progress, Report, Stage, counting
from kdcore.jobs.quota import thread_count
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.models.networks import SegmentationNetwork, build_network, without_weights
from kdcore.models.tiled import without_gaps
from kdcore.settings import Arm
from kdcore.teacher.teacher import Teacher, read_member_info

WARM_UP = 2  # passes before the start: the first lays out memory
Read = Callable[[Box], Crop]


class Racer(NamedTuple):
    """A network at the start."""

    arm: Arm
    name: EngineName
    engine: TorchEngine
    stand_in: bool


def run(folder: RaceFolder, report: Report) -> str:
    """Race the teacher and the first seed's distilled student over the first scene that the study's map shows.

    Returns:
        An empty text: nothing is worth knowing beside the result.

    Raises:
        KdcoreError: the student's weights are not on this machine, or there is no imagery for it.
        Stopped: a person asked for it.
    """
    report(Progress("", Stage.READING, 0, 1))
    study = folder.study
    layers = StudyLayers.load(study.path)
    if not layers.scenes:
        raise RunError(f"{study.id}: has no scene with test pixels, so there is no ground to race over.")
    scene = layers.scenes[0]
    torch.set_num_threads(thread_count())
    device, held = choose_device(folder.workspace)
    try:
        racers = at_the_start(study, device)
        with ExitStack() as stack:
            read = open_ground(stack, study, scene, racers[-1].engine)
            ground = course(scene)
            tiles = tiles_over(ground, side_of(ground))
            times = time_tiles(racers, tiles, read, Box(*scene.part), report)
    finally:
        if held is not None:
            held.release()
    lanes = {
        racer.arm: Lane(
            arm=racer.arm,
            engine=racer.name,
            device=racer.engine.device,
            tiles=tiles,
            seconds=moments(seconds),
            stand_in=racer.stand_in,
        )
        for racer, seconds in zip(racers, times, strict=True)
    }
    race = Race(
        scene=scene.id,
        metres_per_pixel=scene.metres_per_pixel,
        teacher=lanes["teacher"],
        student=lanes["distilled"],
        measured=time.time(),
        live=True,
    )
    write_text(folder.path / INDEX, race.model_dump_json(indent=1) + "\n")
    return ""


def at_the_start(study: StudyFolder, device: torch.device) -> list[Racer]:
    """Teacher and student as they predict: an ensemble is run network by network, and flips are run, too.

    Without the teacher's weights a network of its architecture runs instead: how long a pass takes does not depend on them.

    Raises:
        RunError: the student's weights are not on this machine, or nobody knows the teacher's architecture.
        CheckpointError: a file is broken.
    """
    weights = find_weights(study)
    seed = study.settings.seeds[0]
    student = next(run.name for run in planned_runs(study.settings) if run.arm == "distilled" and run.seed == seed)
    if student not in weights:
        raise RunError(f"The distilled student's weights of the study {study.id} are not on this machine.")
    info = read_member_info(weights[student][-1])
    names = {"teacher": teacher_run(study.settings).name, "distilled": student}
    racers = []
    for arm in RACERS:
        files = weights.get(names[arm])
        if files:
            flips = arm == "teacher" and study.settings.teacher.flips
            network: Teacher | SegmentationNetwork = Teacher.load(
                files, info.classes, info.bands, info.band_numbers, flips=flips
            )
        else:
            network = stand_in(study.run(names[arm]), info)
        foreign = any(path.suffix.lower() == ".onnx" for path in files or ())
        engine = TorchEngine(network, info, network.fill, device)
        racers.append(Racer(arm, "onnxruntime" if foreign else "torch", engine, not files))
    return racers


def stand_in(run: RunDirectory, info: CheckpointInfo) -> SegmentationNetwork:
    """A network of a run's architecture with first weights.

    Raises:
        RunError: the run trained none itself, so that nobody knows the architecture.
    """
    if not run.trained_teacher:
        raise RunError(f"{run.path.name}: the teacher's weights are not on this machine, so it cannot race.")
    return build_network(without_weights(run.settings.network), info.bands, info.logits, seed=0)


def open_ground(stack: ExitStack, study: StudyFolder, scene: SceneLayers, engine: TorchEngine) -> Read:
    """What reads the imagery of a scene: as the map stores it where that is as the network wants it, else from the study's data.

    Raises:
        RunError: the imagery is not on this machine.
        DataError: it is broken.
    """
    info = engine.info
    stored = stack.enter_context(open_raster(study.layers / scene.id / "imagery.tif"))
    if info.dtype == "uint8" and stored.count == info.bands == 3:
        top, left, _, _ = scene.part

        def read_stored(box: Box) -> Crop:
            window = Window(box.column - left, box.row - top, box.width, box.height)
            valid = stored.dataset_mask(window=window) > 0
            return Crop(stored.read(window=window), valid, np.zeros(valid.shape, dtype=np.uint8))

        return read_stored
    if not study.collection.exists():
        raise RunError(f"{study.collection}: the imagery of the study {study.id} is not on this machine.")
    collection = Collection.open(study.collection)
    found = next((each for each in collection.scenes if each.id == scene.name), None)
    if found is None:
        raise RunError(f"{study.collection}: has no scene {scene.name!r} any more, so there is no ground to race over.")
    return lambda box: collection.reader.read(found, box)


def time_tiles(
    racers: Sequence[Racer], tiles: Sequence[Rectangle], read: Read, ground: Box, report: Report
) -> list[list[float]]:
    """Seconds that each racer takes for each tile, reading left out. They take turns, so that a disturbance hits them all.

    Args:
        racers: the networks.
        tiles: what each of them maps.
        read: gives the imagery of a rectangle.
        ground: what there is of the scene; around a tile a network sees `HALO` pixels more of it.
        report: is told how many tiles are done; raises to stop.
    """
    times: list[list[float]] = [[] for _ in racers]
    count = counting(report, Stage.MAPPING)
    for number, tile in enumerate(tiles):
        count(number, len(tiles))
        window = Box(*tile).grown(HALO).intersection(ground)
        assert window is not None
        image = without_gaps(read(window), racers[0].engine.fill).image[None]
        for racer, seconds in zip(racers, times, strict=True):
            if number == 0:
                for _ in range(WARM_UP):
                    racer.engine(image)
            seconds.append(seconds_of(racer, image))
    count(len(tiles), len(tiles))
    return times


def seconds_of(racer: Racer, image: NDArray[Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds from imagery (1, bands, H, W) to probabilities."""
    started = clock()
    racer.engine(image)
    return clock() - started
