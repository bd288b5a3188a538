"""Make the example that comes with the package from a finished study of the demo area. Never imports torch."""

import shutil
import zipfile
from pathlib import Path

from kdcore.errors import RunError
from kdcore.files import explain_write_error, write_json
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import EXAMPLE
from kdcore.reading import read_json
from kdcore.settings import save

TITLE = "Example: a demo town"
LARGEST = 16_000_000  # bytes
DEPLOYMENT = "deploy/deploy.json"  # see `kdcore.deploy.record`
CURVES = "curves.npz"  # see `kdcore.evaluation.stored_curves`
RUN_FILES = ("status.json", "metrics.jsonl", "report.json")


def record(study: StudyFolder, folder: Path) -> int:
    """Copy what the dashboard shows of a study, without the teacher's weights and without paths of this machine.

    The map keeps the first seed of each student, and the first scene only where all would be too large; curves and numbers keep all.
    Of what was exported and measured the numbers stay, without the networks' files.

    Args:
        study: finished, on a demo area.
        folder: what it becomes; replaced if it holds an example already.

    Returns:
        Bytes in the folder.

    Raises:
        RunError: not finished, not a demo area, or too large even with one scene.
        KdcoreError: the folder cannot be written to.
    """
    if not study.finished or study.about.demo is None:
        raise RunError(
            f"{study.path}: only a finished study of the demo area can be recorded. Run `kdcore demo` first."
        )
    if folder.exists() and not (folder / "study.yaml").is_file():
        raise RunError(f"{folder}: holds no example, so it is not replaced. Choose another folder.")
    scenes = read_json(study.layers / "layers.json")["scenes"]
    temporary = folder.with_name(f".{folder.name}-new")
    try:
        for shown in range(len(scenes), 0, -1):
            shutil.rmtree(temporary, ignore_errors=True)
            copy(study, temporary, scenes[:shown])
            size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
            if size <= LARGEST:
                break
        else:
            raise RunError(
                f"{study.path}: makes an example of {size / 1e6:.1f} MB; {LARGEST / 1e6:.0f} MB are allowed."
            )
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise explain_write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size


def copy(study: StudyFolder, target: Path, scenes: list[dict[str, object]]) -> None:
    """Copy one study with the maps of some of its scenes."""
    about = study.about.model_copy(update={"title": TITLE, "collection": None})
    StudyFolder.begin(target, study.settings, about)
    data = (study.data or {}) | {"collection": "demo"}
    write_json(target / "data.json", data)
    write_json(target / "report.json", study.report() | {"data": data})
    if (study.path / CURVES).is_file():
        shutil.copy(study.path / CURVES, target)
    layers = read_json(study.layers / "layers.json")
    write_json(target / "layers" / "layers.json", layers | {"scenes": scenes})
    for scene in scenes:
        shutil.copytree(study.layers / str(scene["id"]), target / "layers" / str(scene["id"]))
    measured = study.path / DEPLOYMENT
    if measured.is_file():
        write_json(target / DEPLOYMENT, read_json(measured) | {"study": EXAMPLE})
    for run in study.runs():
        copy_run(
            run,
            RunDirectory(target / "runs" / run.path.name),
            [str(scene["name"]) for scene in scenes],
            shown=run.settings.arm == "teacher" or run.settings.seed == study.settings.seeds[0],
        )


def copy_run(run: RunDirectory, target: RunDirectory, scenes: list[str], shown: bool) -> None:
    """Copy one run; one that is shown with its maps, and a student's with its best weights."""
    settings = run.settings
    here = {
        "collection": Path("collection.yaml"),
        "teacher": tuple(Path("..", path.parent.parent.name, "checkpoints", path.name) for path in settings.teacher),
    }
    save(settings.model_copy(update=here), target.path / "settings.yaml")
    for name in RUN_FILES:
        shutil.copy(run.path / name, target.path)
    pack(run.scores, target.scores)
    pack(run.validation_scores, target.validation_scores)
    if not shown:
        return
    import rasterio.shutil  # what only starts the command does not wait for it

    for scene in scenes:
        target.maps.mkdir(exist_ok=True)
        # A third less than as a run leaves it; a scene of the demo area is small enough to be read whole.
        small = {"compress": "ZSTD", "level": 22, "predictor": 2, "blocksize": 256, "overviews": "NONE"}
        rasterio.shutil.copy(run.maps / f"{scene}.tif", target.maps / f"{scene}.tif", driver="COG", **small)
    if settings.arm != "teacher":
        target.checkpoints.mkdir()
        shutil.copy(run.best, target.checkpoints)


def pack(archive: Path, target: Path) -> None:
    """Copy a .npz with what compresses a quarter better than numpy writes it; numpy reads both."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
