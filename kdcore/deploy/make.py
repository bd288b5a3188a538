"""A study's deployment from beginning to end: data, forms, speeds, descriptions, and last of all the record."""

import time
from collections.abc import Sequence
from pathlib import Path

from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.deploy.descriptions import Described, write_descriptions
from kdcore.deploy.folder import DeploymentFolder
from kdcore.deploy.forms import Network, forms_of, versions
from kdcore.deploy.gate import MARGIN
from kdcore.deploy.profile import TILE, Job, Measured, fastest, jobs_for, measure
from kdcore.deploy.record import INDEX, Deployment, EngineSpeed, Form
from kdcore.errors import RunError
from kdcore.files import write_text
from kdcore.inference.engines import BFLOAT16, choose_device, processor
from kdcore.inference.marking import find_weights
from kdcore.inference.quiet_openvino import NO_BFLOAT16, has_bfloat16
from kdcore.jobs.plan import planned_runs
from kdcore.jobs.progress import Progress, Report, Stage, counting
from kdcore.jobs.quota import thread_count
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import is_ours


def make(deployment: DeploymentFolder, report: Report) -> str:
    """Export, compare, measure and describe the teacher and the first seed's students.

    Args:
        deployment: where.
        report: is told how far it is.

    Returns:
        What is worth knowing about the result, or an empty text.

    Raises:
        KdcoreError: anything a person can mend; what is finished stays.
        Stopped: a person asked for it.
    """
    study, folder, tile = deployment.study, deployment.path, TILE
    networks = networks_of(study)
    collection = open_collection(deployment.workspace, study, report)
    forms = {network.name: forms_of(network, collection, folder, report, tile) for network in networks}
    jobs = {network.name: [jobs_of(network, form, folder) for form in forms[network.name]] for network in networks}
    flat = list(
        dict.fromkeys(job for of_run in jobs.values() for of_form in of_run for part in of_form for job in part)
    )
    measured = measure(flat, tile=tile, progress=counting(report, Stage.MEASURING_SPEED))
    finished = tuple(
        form.model_copy(update={"speeds": tuple(speeds_of(parts, measured))})
        for name, of_run in forms.items()
        for form, parts in zip(of_run, jobs[name], strict=True)
    )
    gpu = choose_device("auto").type == "cuda"
    record = Deployment(
        study=study.id,
        machine=best_device(finished) if gpu else processor(),
        threads=thread_count(),
        tile=tile,
        metres_per_pixel=collection.metres_per_pixel,
        measured=time.time(),
        versions=versions(),
        margin=MARGIN,
        forms=finished,
    )
    describing = counting(report, Stage.DESCRIBING)
    for done, network in enumerate(networks):
        describing(done, len(networks))
        write_descriptions(Described(folder, study, collection, network, record))
    write_text(folder / INDEX, record.model_dump_json(indent=1) + "\n")
    clean(folder, record)
    describing(len(networks), len(networks))
    return in_words(networks, record, measured)


def networks_of(study: StudyFolder) -> list[Network]:
    """The networks of the runs whose weights are on this machine.

    Raises:
        RunError: there are none.
    """
    arms = {run.name: run.arm for run in planned_runs(study.settings)}
    return [Network(study.run(name), arms[name], tuple(files)) for name, files in find_weights(study).items()]


def open_collection(workspace: Workspace, study: StudyFolder, report: Report) -> Collection:
    """The study's data; a demo area is made first if it is not there. The bundled example's lies in the workspace.

    Raises:
        RunError: the data have changed since the study.
    """
    about = study.about
    path = study.collection
    if about.demo is not None:
        path = write_demo(workspace.areas / f"demo-{about.demo}", about.demo, report)
    report(Progress("", Stage.READING, 0, 1))
    collection = Collection.open(path)
    wanted = (study.data or {}).get("hash")
    if wanted is not None and collection.content_hash != wanted:
        raise RunError(
            f"{path}: the data have changed since the study {study.id}, so that its scores cannot be compared any more. "
            "Bring the files back, or run the study anew."
        )
    return collection


def jobs_of(network: Network, form: Form, folder: Path) -> list[list[Job]]:
    """How a form can be run: for each way the jobs that are done one after another, one for each member of an ensemble."""
    if form.refused:
        return []
    if form.kind == "bf16":
        return [[Job(folder / form.file, BFLOAT16)]]
    if form.file:
        return [[job] for job in jobs_for(folder / form.file)]
    members = [jobs_for(path) for path in network.files]
    return [list(way) for way in zip(*members, strict=True)] if len({len(each) for each in members}) == 1 else []


def speeds_of(ways: Sequence[Sequence[Job]], measured: Measured) -> list[EngineSpeed]:
    """Speeds of a form, from the fastest on; what could not be run is left out."""
    known = [[measured.speeds[job] for job in way] for way in ways if all(job in measured.speeds for job in way)]
    return fastest([one_after_another(way) for way in known])


def one_after_another(members: Sequence[EngineSpeed]) -> EngineSpeed:
    """An ensemble's speed: its networks are run in turn, so times add up. Its memory is that of the largest, at least."""
    if len(members) == 1:
        return members[0]
    watts = [member.watts for member in members if member.watts is not None]
    return members[0].model_copy(
        update={
            "milliseconds": sum(member.milliseconds for member in members),
            "megapixels_per_second": 1 / sum(1 / member.megapixels_per_second for member in members),
            "slowest": None,  # rounds of networks that were measured apart do not add up
            "fastest": None,
            "peak_mb": max(member.peak_mb for member in members),
            "watts": sum(watts) / len(watts) if len(watts) == len(members) else None,
        }
    )


def best_device(forms: Sequence[Form]) -> str:
    """The GPU or processor of the fastest measurement."""
    speeds = fastest([speed for form in forms for speed in form.speeds])
    return speeds[0].device if speeds else processor()


def clean(folder: Path, record: Deployment) -> None:
    """Remove networks and descriptions of an earlier deployment that are not part of this one."""
    kept = {Path(form.file).stem for form in record.forms if form.file}
    for pattern in ("*.onnx", "*.stac.json", "*.md"):
        for path in folder.glob(pattern):
            if path.name.partition(".")[0] not in kept and is_ours(path):
                path.unlink()


def in_words(networks: Sequence[Network], record: Deployment, measured: Measured) -> str:
    """What is worth knowing: weights that are not here, ensembles, what was left out or refused, engines that failed."""
    notes = []
    if all(network.arm != "teacher" for network in networks):
        notes.append("The teacher's weights are not on this machine, so it was not measured.")
    notes += [
        f"{network.name}: an average of {len(network.files)} networks is measured, but not exported."
        for network in networks
        if len(network.files) > 1
    ]
    if any(network.exportable for network in networks) and not has_bfloat16():
        notes.append(f"OpenVINO in bfloat16 was left out: {NO_BFLOAT16}.")
    notes += [f"{form.run}: {form.refused}" for form in record.forms if form.refused]
    notes += list(measured.failed.values())
    return " ".join(notes)
