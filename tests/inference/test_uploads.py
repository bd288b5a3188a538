"""Files that strangers upload: what is refused, in which words, and what is left behind."""

import io
import os
import time
import tracemalloc

import numpy as np
import pytest
import rasterio
from filelock import FileLock

from kdcore.errors import DataError, KdcoreError, RunError
from kdcore.inference import uploads
from kdcore.inference.uploads import Upload, UploadStatus, find_upload, in_time, receive, uploads_of
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.workspace import Workspace
from tests.conftest import write_raster

VRT = b"""<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "studies")


def tiff(tmp_path, **options) -> bytes:
    shape = options.pop("shape", (3, 40, 50))
    array = np.zeros(shape, dtype=options.pop("dtype", "uint8"))
    return write_raster(tmp_path / "made.tif", array, **options).read_bytes()


def declared(path, width, height, bands) -> bytes:
    """A GeoTIFF whose header says it is huge, without pixels."""
    profile = {"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(path, "w", tiled=True, blockxsize=8192, blockysize=8192, **profile):
        pass
    return path.read_bytes()


def test_a_geotiff_is_kept_until_it_is_removed(workspace, tmp_path):
    contents = tiff(tmp_path)
    upload = receive(workspace, "town", "my town.tif", io.BytesIO(contents))
    assert upload.source.read_bytes() == contents
    assert (upload.status.state, upload.status.name, upload.status.study) == ("queued", "my town.tif", "town")
    assert find_upload(workspace, upload.id) == upload
    assert [found for found, _ in uploads_of(workspace, "town")] == [upload]
    assert uploads_of(workspace, "other") == []
    upload.delete()
    assert not upload.path.exists()
    with pytest.raises(RunError, match="no upload"):
        find_upload(workspace, upload.id)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (VRT, "is no GeoTIFF, whatever its name says"),
        (b"", "is no GeoTIFF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no GeoTIFF"),
        (b"PK\x03\x04" + bytes(100), "is no GeoTIFF"),
        (b"II*\0" + bytes(3), "cannot be read"),
        (b"II*\0" + VRT, "cannot be read"),
    ],
)
def test_what_is_no_geotiff_gets_one_sentence_and_leaves_nothing(workspace, contents, words):
    with pytest.raises(DataError, match=words) as caught:
        receive(workspace, "town", "roofs.tif", io.BytesIO(contents))
    assert str(caught.value).startswith("roofs.tif: ")
    assert str(workspace.path) not in str(caught.value)  # paths of the server are nobody's business
    assert len(str(caught.value)) < 300
    assert list(uploads.folder_of(workspace).iterdir()) == []


def test_a_header_that_declares_120_gigabytes_is_refused_without_reading(workspace, tmp_path):
    contents = declared(tmp_path / "huge.tif", 200_000, 200_000, 3)
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"declares 200,000 x 200,000 px x 3 bands \(120.0 GB\); at most 100 million pixels"
    ):
        receive(workspace, "town", "huge.tif", io.BytesIO(contents))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000  # bytes; a single row of blocks would take more
    assert list(uploads.folder_of(workspace).iterdir()) == []


def test_many_bands_count_too(workspace, tmp_path):
    contents = declared(tmp_path / "deep.tif", 9000, 9000, 30)  # 81 million pixels, 2.4 billion values
    with pytest.raises(DataError, match=r"30 bands|pieces of 2.0 GB, each of which"):  # whichever is seen first
        receive(workspace, "town", "deep.tif", io.BytesIO(contents))


def test_values_of_other_types_are_refused(workspace, tmp_path):
    with pytest.raises(DataError, match="values of type float64"):
        receive(workspace, "town", "a.tif", io.BytesIO(tiff(tmp_path, dtype="float64")))
    with pytest.raises(DataError, match="values of type complex64"):
        receive(workspace, "town", "a.tif", io.BytesIO(tiff(tmp_path, dtype="complex64")))


def test_too_many_bytes_are_not_written_to_the_end(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 3_000_000)
    endless = io.BytesIO(bytes(50_000_000))
    with pytest.raises(DataError, match="larger than 3 MB"):
        receive(workspace, "town", "long.tif", endless)
    assert endless.tell() < 6_000_000
    assert list(uploads.folder_of(workspace).iterdir()) == []


def test_names_are_shortened_to_one_line(workspace, tmp_path):
    upload = receive(workspace, "town", "a\nb\x00" + "x" * 300, io.BytesIO(tiff(tmp_path)))
    assert upload.status.name == ("a b " + "x" * 300)[:100]


def test_a_file_name_is_no_path(workspace, tmp_path):
    upload = receive(workspace, "town", "../../evil.tif", io.BytesIO(tiff(tmp_path)))
    assert upload.source.parent.parent == uploads.folder_of(workspace)
    assert not (tmp_path / "evil.tif").exists()


@pytest.mark.parametrize("upload_id", ["../town", "upload-x", "", "upload-..", "upload-a/b"])
def test_ids_from_addresses_are_looked_up(workspace, upload_id):
    with pytest.raises(RunError, match="no upload"):
        find_upload(workspace, upload_id)


def test_old_uploads_make_room_but_not_those_that_are_worked_on(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "KEPT", 3)
    contents = tiff(tmp_path)
    made = []
    for age in range(4):
        upload = receive(workspace, "town", f"{age}.tif", io.BytesIO(contents))
        made.append(upload)
        os.utime(upload.path, (1000 + age, 1000 + age))
        if age == 0:
            busy = FileLock(upload.lock)
            busy.acquire()
            os.utime(upload.path, (1000, 1000))
    busy.release()
    assert [upload.path.exists() for upload in made] == [True, False, True, True]


def test_a_process_that_is_gone_was_interrupted(workspace, tmp_path):
    upload = receive(workspace, "town", "a.tif", io.BytesIO(tiff(tmp_path)))
    upload.write_status(upload.status.model_copy(update={"state": "running"}))
    with FileLock(upload.lock):
        assert upload.status.state == "running"
        with pytest.raises(RunError, match="Stop that first"):
            upload.delete()
    assert upload.status.state == "interrupted"
    upload.write_status(UploadStatus(study="town", name="a.tif", queued=time.time() - 3600))
    assert upload.status.state == "interrupted"  # it never came to life


def test_a_workspace_that_cannot_be_written_to_says_so(tmp_path):
    (tmp_path / "studies").write_text("a file where the folder should be")
    with pytest.raises(KdcoreError):
        receive(Workspace(tmp_path / "studies"), "town", "a.tif", io.BytesIO(tiff(tmp_path)))


def test_a_broken_folder_is_left_out_of_the_list(workspace, tmp_path):
    upload = receive(workspace, "town", "a.tif", io.BytesIO(tiff(tmp_path)))
    (uploads.folder_of(workspace) / "upload-broken").mkdir()
    assert [found for found, _ in uploads_of(workspace, "town")] == [upload]
    with pytest.raises(RunError, match="gone or broken"):
        _ = Upload(uploads.folder_of(workspace) / "upload-broken").status


def test_a_file_that_breaks_the_reader_does_not_break_the_dashboard(workspace, tmp_path, monkeypatch):
    """The header is read in another process: what ends that one is a sentence in this one."""
    contents = io.BytesIO(tiff(tmp_path))
    broken = tmp_path / "broken"
    (broken / "rasterio").mkdir(parents=True)
    (broken / "rasterio/__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(broken), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(DataError, match=r"roofs\.tif: cannot be read, it broke the reader"):
        receive(workspace, "town", "roofs.tif", contents)
    assert list(uploads.folder_of(workspace).iterdir()) == []


def test_a_header_that_is_read_without_end_is_given_up(workspace, tmp_path, monkeypatch):
    contents = io.BytesIO(tiff(tmp_path))
    slow = tmp_path / "slow"
    (slow / "rasterio").mkdir(parents=True)
    (slow / "rasterio/__init__.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(slow), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(uploads, "CHECK_SECONDS", 0.5)
    with pytest.raises(DataError, match="takes too long"):
        receive(workspace, "town", "roofs.tif", contents)
    assert list(uploads.folder_of(workspace).iterdir()) == []


def test_a_fifth_file_waits_while_four_are_marked(workspace, tmp_path):
    contents = tiff(tmp_path)
    marked = [receive(workspace, "town", "a.tif", io.BytesIO(contents)) for _ in range(4)]
    locks = [FileLock(upload.lock) for upload in marked]
    for lock in locks:
        lock.acquire()
    with pytest.raises(DataError, match="4 files are being marked already"):
        receive(workspace, "town", "b.tif", io.BytesIO(contents))
    locks[0].release()
    assert receive(workspace, "town", "b.tif", io.BytesIO(contents)).uploaded
    for lock in locks[1:]:
        lock.release()


def test_marking_an_uploaded_file_ends_after_its_time():
    told: list[Progress] = []
    step = Progress("", Stage.MAPPING)
    in_time(told.append)(step)
    with pytest.raises(DataError, match="more than 0 hours"):
        in_time(told.append, most=0.0)(step)
    assert told == [step]
