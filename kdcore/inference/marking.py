"""Marking a raster of one's own with a study's networks, so that the map can show it and the maps can be taken along."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from kdcore.errors import DataError, RunError
from kdcore.files import write_text
from kdcore.inference.engines import TorchEngine
from kdcore.inference.layer_index import INDEX, StudyLayers
from kdcore.inference.layers import measure_stretch, picture_of, place, write_scene
from kdcore.inference.mapping import MappingOptions
from kdcore.inference.merging import merge
from kdcore.inference.parts import make_parts, plan_prediction
from kdcore.inference.prediction import PolygonOptions, Prediction, begin
from kdcore.inference.source import Source, open_source
from kdcore.inference.uploads import ANY_SIZE, MOST_PIXELS, Upload, in_time
from kdcore.jobs.devices import Devices, kind_of, take
from kdcore.jobs.plan import planned_runs, teacher_run
from kdcore.jobs.progress import Progress, Report, Stage, counting
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.settings import Hardware
from kdcore.teacher.teacher import Teacher, read_member_info


def mark(upload: Upload, report: Report) -> str:
    """Predict with every network of the study that has weights here, and write what the map shows.

    Returns:
        What is worth knowing about the result, or an empty text.

    Raises:
        KdcoreError: the file does not fit the networks, the weights are missing, the disk is full.
    """
    report = in_time(report) if upload.uploaded else report
    workspace = upload.workspace
    study = workspace.study(upload.status.study)
    weights = find_weights(study)
    # Of a student where there is one: a teacher that came as an ONNX file may name its classes in another order.
    info = read_member_info(list(weights.values())[-1][-1])
    source = open_upload(upload, info)
    device, held = choose_device(workspace)
    for name, checkpoints in weights.items():
        network = Teacher.load(checkpoints, info.classes, info.bands, info.band_numbers)
        engine = TorchEngine(network, info, network.fill, device)
        options = MappingOptions(threshold=study.run(name).own_threshold(info.classes))
        prediction = Prediction(upload.maps, name)
        plan = plan_prediction(upload.source, source, checkpoints, engine, options, PolygonOptions())
        if not begin(prediction, plan):
            make_parts(prediction, plan, source, engine, progress=counting(report, Stage.MAPPING, name))
            merge(prediction, report=partial(of_run, report, name))
    if held is not None:
        held.release()
    write_map_layers(upload, study, source, report)
    return source.note


def of_run(report: Report, run: str, progress: Progress) -> None:
    """Tell what is done for a run."""
    report(replace(progress, run=run))


def find_weights(study: StudyFolder) -> dict[str, list[Path]]:
    """The checkpoints of the study's runs that lie on this machine, by run: of the teachers, and of the first seed's students.

    Raises:
        RunError: there are none.
    """
    found: dict[str, list[Path]] = {}
    seed = study.settings.seeds[0]
    students = [run for run in planned_runs(study.settings) if run.arm != "teacher" and run.seed == seed]
    for plan in (teacher_run(study.settings), *students):
        run = study.run(plan.name)
        checkpoints = [run.best] if plan.budget else list(run.settings.teacher)
        if all(path.is_file() for path in checkpoints):
            found[plan.name] = checkpoints
    if not found:
        raise RunError(
            f"The networks' weights of the study {study.id} are not on this machine, so nothing can be marked with them."
        )
    return found


def open_upload(upload: Upload, info: CheckpointInfo) -> Source:
    """The raster on the pixels that the networks were trained on.

    Raises:
        DataError: its bands or values are of another kind than those that the networks were trained on, or it was uploaded and
            is too large.
    """
    source = open_source(upload.source, info, max_declared_gb=ANY_SIZE)
    scene = source.scene
    if upload.uploaded and scene.height * scene.width > MOST_PIXELS:
        raise DataError(
            f"{upload.source}: has {scene.height * scene.width / 1e6:,.0f} million pixels at the networks' resolution of "
            f"{info.metres_per_pixel:.3g} m; at most {MOST_PIXELS // 1_000_000} million are marked here. Cut a part out of it."
        )
    return source


def choose_device(workspace: Workspace) -> tuple[torch.device, Devices | None]:
    """A GPU that no training uses, with its lock, else the CPU."""
    if kind_of(Hardware()) == "cuda":
        devices = take(workspace.devices, Hardware())
        if devices is not None:
            devices.show_only_these()
            if torch.cuda.is_available():
                return torch.device("cuda"), devices
            devices.release()
    return torch.device("cpu"), None


def write_map_layers(upload: Upload, study: StudyFolder, source: Source, report: Report) -> None:
    """Write the imagery and, last of all, the index that says the map is there."""
    of_study = StudyLayers.load(study.path)
    scene, reader = source.scene, source.reader
    picture = picture_of(reader, [scene])
    if of_study.scenes and not any(band.name for band in picture.bands):  # of the same kind as the study's imagery
        called = {band.number: band.name for band in of_study.scenes[0].bands}
        picture = picture_of(
            reader, [scene], [called.get(number, "") for number in range(1, max(called, default=0) + 1)]
        )
    placed = place(scene, scene.box, upload.id, picture).model_copy(update={"name": upload.status.name})
    stretch = measure_stretch(reader, [scene], picture.numbers)
    count = counting(report, Stage.LAYERS)
    for done, _ in enumerate(write_scene(upload.path, reader, scene, placed, stretch, None)):
        count(done, done + 1)
    layers = of_study.model_copy(update={"scenes": (placed,)})
    write_text(upload.path / INDEX, layers.model_dump_json(indent=1))
