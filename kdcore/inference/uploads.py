"""A raster of one's own, marked by a study's networks: what lies on disk, how it is checked, and how the work is started.

Each is a folder in the workspace: `source.tif` where it was uploaded, `upload.json` (how far it is), `alive.lock` (held while its
process lives), `cancel` (asks it to stop), `log.txt`, then `maps/RUN.probabilities.tif` and what else a prediction makes (see
`kdcore.inference.prediction`), `imagery.tif` and `layers.json` for the map. No torch here.
"""

import secrets
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from kdcore.data.rasters import DTYPES, LARGEST_PIECE, MAGIC, bytes_per_pixel, largest_piece, open_raster
from kdcore.errors import DataError, KdcoreError, RunError
from kdcore.files import explain_write_error
from kdcore.inference.layer_index import INDEX, StudyLayers
from kdcore.jobs.job import Job
from kdcore.jobs.locks import held
from kdcore.jobs.progress import Progress, Report
from kdcore.jobs.status import Status
from kdcore.jobs.workspace import Workspace
from kdcore.reading import read_bytes
from kdcore.settings import SLUG

PREFIX = "upload-"  # of the id, which is also a scene's id on the map
MOST_BYTES = 500_000_000
MOST_PIXELS = 100_000_000
ANY_SIZE = 1e4  # GB that the header of a file on this machine may declare where the file has far less
MOST_VALUES = 2_000_000_000  # pixels times bands
KEPT = 10  # uploads in a workspace; older ones make room
MOST_BUSY = 4  # files that are marked at the same time; the next one has to wait
CHECK_SECONDS = 60  # for a header; a machine may be busy
MARK_SECONDS = 4 * 3600  # for an uploaded file; one that lies on this machine may take days
REFUSED = 2  # exit code of the process that checks
TIFF = tuple(start for start, driver in MAGIC.items() if driver == "GTiff")
PROBABILITIES = ".probabilities.tif"  # what a map's name ends with
RESULTS = {
    PROBABILITIES: "Probabilities (GeoTIFF)",
    ".classes.tif": "Classes (GeoTIFF)",
    ".gpkg": "Polygons (GeoPackage)",
}
CUT = "Cut a part out of it, for example with gdal_translate -srcwin."


class UploadStatus(Status):
    """How far an upload is.

    Attributes:
        study: id of the study whose networks mark it.
        name: the file's name, any text.
        file: where it lies on this machine; None for one that was uploaded and is kept here.
    """

    study: str
    name: str
    file: Path | None = None


@dataclass(frozen=True)
class Upload(Job):
    """Reads and writes one upload's folder."""

    KIND: ClassVar[str] = "kdcore.inference.uploads:Upload"
    WORK: ClassVar[str] = "kdcore.inference.marking:mark"
    FILE: ClassVar[str] = "upload.json"
    STATUS: ClassVar[type[Status]] = UploadStatus
    GOES_LAST: ClassVar[bool] = True
    RUNNING: ClassVar[str] = "This file is being marked. Stop that first."
    BROKEN: ClassVar[str] = "This upload is gone or broken. Remove it and upload the file again."

    @property
    def workspace(self) -> Workspace:
        """The workspace that it belongs to."""
        return Workspace(self.path.parents[1])

    @property
    def kept(self) -> Path:
        """Where an uploaded file is kept."""
        return self.path / "source.tif"

    @property
    def uploaded(self) -> bool:
        """Whether the file was uploaded, and does not lie elsewhere on this machine."""
        return self.kept.is_file()

    @property
    def source(self) -> Path:
        """The raster.

        Raises:
            RunError: the folder is gone or broken.
        """
        return self.kept if self.uploaded else self.status.file or self.kept

    @property
    def imagery(self) -> Path:
        """What the map shows of it."""
        return self.path / "imagery.tif"

    @property
    def maps(self) -> Path:
        """Folder of what each run makes of it."""
        return self.path / "maps"

    def probabilities(self) -> dict[str, Path]:
        """The maps of probabilities that are finished, by run."""
        return {path.name.removesuffix(PROBABILITIES): path for path in sorted(self.maps.glob(f"*{PROBABILITIES}"))}

    def results(self, run: str) -> dict[str, Path]:
        """What a run made of it: the file of each kind, by the kind's name on screen."""
        files = {name: self.maps / f"{run}{end}" for end, name in RESULTS.items()}
        return {name: file for name, file in files.items() if file.is_file()}

    @property
    def layers(self) -> StudyLayers:
        """What the map can show.

        Raises:
            RunError: it is not finished.
        """
        try:
            return StudyLayers.model_validate_json(read_bytes(self.path / INDEX))
        except (OSError, ValueError) as error:
            raise RunError("This file is not marked yet.") from error

    @property
    def status(self) -> UploadStatus:
        """How far it is.

        Raises:
            RunError: the folder is gone or broken.
        """
        status = super().status
        assert isinstance(status, UploadStatus)
        return status

    def without_status(self) -> Status:
        """There is none: the folder was removed."""
        raise RunError(self.BROKEN)

    def in_words(self, error: KdcoreError) -> str:
        """An error's sentence with the file's own name instead of the path it is kept under."""
        return str(error).replace(str(self.source), self.status.name)


def folder_of(workspace: Workspace) -> Path:
    """Where a workspace keeps uploads."""
    return workspace.path / ".uploads"


def find_upload(workspace: Workspace, upload_id: str) -> Upload:
    """An upload by its id.

    Raises:
        RunError: there is none.
    """
    upload = Upload(folder_of(workspace) / upload_id)
    if not SLUG.fullmatch(upload_id) or not (upload.path / "upload.json").is_file():
        raise RunError(f"There is no upload {upload_id[:100]!r} (any more).")
    return upload


def uploads_of(workspace: Workspace, study: str) -> list[tuple[Upload, UploadStatus]]:
    """The uploads that a study's networks mark, newest first, each with its state at this moment."""
    found = []
    for path in folder_of(workspace).glob(f"{PREFIX}*"):
        try:
            status = Upload(path).status
        except RunError:
            continue  # half written, or just being removed
        if status.study == study:
            found.append((Upload(path), status))
    return sorted(found, key=lambda entry: entry[1].queued, reverse=True)


def receive(workspace: Workspace, study: str, name: str, file: IO[bytes]) -> Upload:
    """Keep an uploaded file, if it is one that can be marked.

    Args:
        workspace: where.
        study: id of the study whose networks shall mark it.
        name: the file's name, any text.
        file: its contents.

    Raises:
        DataError: it is no GeoTIFF, too large, or broken: one sentence, nothing is kept.
        KdcoreError: the disk is full or the workspace cannot be written to.
    """
    check_busy(workspace)
    make_room(workspace)
    upload = Upload(folder_of(workspace) / f"{PREFIX}{secrets.token_hex(5)}")
    try:
        upload.path.mkdir(parents=True)
        copy_limited(file, upload.kept, name)
        check_apart(upload.kept, name)
        upload.write_status(UploadStatus(study=study, name=short(name), queued=time.time()))
    except BaseException as error:
        shutil.rmtree(upload.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise explain_write_error(upload.path, error) from error
        raise
    return upload


def point_at(workspace: Workspace, study: str, file: Path) -> Upload:
    """Take a raster of any size that lies on this machine; it stays where it is.

    Args:
        workspace: where its maps will be.
        study: id of the study whose networks shall mark it.
        file: the raster.

    Raises:
        DataError: there is no such file, or it is no raster: one sentence, nothing is kept.
        KdcoreError: the workspace cannot be written to.
    """
    with open_raster(file, max_declared_gb=ANY_SIZE) as dataset:
        odd = sorted(set(dataset.dtypes) - set(DTYPES))
    if odd:
        raise DataError(f"{file}: has values of type {odd[0]}; supported are {', '.join(DTYPES)}.")
    upload = Upload(folder_of(workspace) / f"{PREFIX}{secrets.token_hex(5)}")
    try:
        upload.path.mkdir(parents=True)
        upload.write_status(UploadStatus(study=study, name=short(file.name), file=file.absolute(), queued=time.time()))
    except OSError as error:
        raise explain_write_error(upload.path, error) from error
    return upload


def make_room(workspace: Workspace) -> None:
    """Remove the oldest uploads that nobody works on, so that at most `KEPT` are there after the next one.

    The maps of rasters that lie on this machine stay: they may have taken hours.
    """
    folders = [path for path in folder_of(workspace).glob(f"{PREFIX}*") if Upload(path).uploaded]
    folders.sort(key=lambda path: path.stat().st_mtime)
    idle = [path for path in folders if not Upload(path).alive]
    for path in idle[: max(0, len(folders) - KEPT + 1)]:
        shutil.rmtree(path, ignore_errors=True)


def short(name: str) -> str:
    """A file's name on one line, at most 100 characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())[:100] or "file"


def copy_limited(file: IO[bytes], target: Path, name: str) -> None:
    """Copy at most `MOST_BYTES`.

    Raises:
        DataError: there is more.
    """
    size = 0
    with target.open("wb") as output:
        while piece := file.read(1 << 20):
            size += len(piece)
            if size > MOST_BYTES:
                raise DataError(f"{short(name)}: is larger than {MOST_BYTES // 1_000_000} MB. {CUT}")
            output.write(piece)


def in_time(report: Report, most: float = MARK_SECONDS) -> Report:
    """A report that ends with an error once so many seconds have passed."""
    end = time.monotonic() + most

    def timed(progress: Progress) -> None:
        if time.monotonic() > end:
            raise DataError(
                f"This took more than {most / 3600:g} hours. Cut a part out of the file, or map it with kdcore predict."
            )
        report(progress)

    return timed


def check_busy(workspace: Workspace) -> None:
    """Refuse one file more than are marked at the same time.

    Raises:
        DataError: says how many are.
    """
    busy = sum(held(Upload(path).lock) for path in folder_of(workspace).glob(f"{PREFIX}*"))
    if busy >= MOST_BUSY:
        raise DataError(f"{busy} files are being marked already. Wait until one of them is finished, or stop it.")


def check_apart(path: Path, name: str) -> None:
    """As `check_geotiff`, in a process of its own with a limit on time and memory: a broken file cannot take the dashboard along.

    Raises:
        DataError: one sentence with the file's own name.
    """
    run_apart("kdcore.inference.check_upload", [str(path), short(name)], name, "Convert it anew with gdal_translate.")


def run_apart(module: str, arguments: Sequence[str], name: str, fix: str) -> str:
    """What a module prints that reads a stranger's file; it runs in a process of its own, and limits its time and memory itself.

    Args:
        module: ends with `REFUSED` and prints one sentence where it refuses the file.
        arguments: of the module.
        name: of the file, any text.
        fix: what to do with a file that takes too long or breaks the reader.

    Raises:
        DataError: one sentence with the file's own name.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{short(name)}: reading it takes too long. {fix}") from error
    said = done.stdout.decode("utf-8", errors="replace")
    if done.returncode == REFUSED:
        raise DataError(said)
    if done.returncode:
        raise DataError(f"{short(name)}: cannot be read, it broke the reader. {fix}")
    return said


def check_geotiff(path: Path, name: str) -> None:
    """Refuse whatever is no GeoTIFF of a size that can be marked; only the header is read, by GDAL's GeoTIFF driver alone.

    Raises:
        DataError: one sentence with the file's own name.
    """
    name = short(name)
    with path.open("rb") as file:
        start = file.read(4)
    if start not in TIFF:
        raise DataError(f"{name}: is no GeoTIFF, whatever its name says. Convert it with gdal_translate -of GTiff.")
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff", sharing=False) as dataset:
                width, height, count, types = dataset.width, dataset.height, dataset.count, set(dataset.dtypes)
                piece = largest_piece(dataset)
    except (RasterioError, OSError) as error:
        raise DataError(
            f"{name}: looks like a GeoTIFF but cannot be read. Convert it anew with gdal_translate."
        ) from error
    if not types <= set(DTYPES):
        odd = sorted(types - set(DTYPES))[0]
        raise DataError(
            f"{name}: has values of type {odd}; supported are {', '.join(DTYPES)}. Convert it with gdal_translate -ot."
        )
    if piece > LARGEST_PIECE:
        raise DataError(
            f"{name}: is stored in pieces of {piece / 1e9:.1f} GB, each of which must be read as a whole. "
            "Store it in tiles: `gdal_translate -co TILED=YES -co COMPRESS=DEFLATE`."
        )
    if width * height > MOST_PIXELS or width * height * count > MOST_VALUES:
        gigabytes = width * height * count * max(map(bytes_per_pixel, types)) / 1e9
        raise DataError(
            f"{name}: its header declares {width:,} x {height:,} px x {count} bands ({gigabytes:,.1f} GB); "
            f"at most {MOST_PIXELS // 1_000_000} million pixels are marked here. {CUT}"
        )
