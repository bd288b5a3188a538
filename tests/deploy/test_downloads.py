"""What can be taken from a deployment's folder."""

import io
import zipfile

import pytest

from kdcore.deploy.folder import JOB_FILES, files_of
from kdcore.errors import RunError
from kdcore.jobs import bundle
from kdcore.jobs.bundle import size_in, zipped
from tests.deployment import form, make_deployment, write_deployment


def test_a_form_comes_with_its_descriptions_and_not_with_those_of_another(tmp_path):
    write_deployment(tmp_path, make_deployment())
    names = [path.name for path in files_of(tmp_path, form("distilled", "int8"))]
    assert names == ["distilled-int8.onnx", "distilled-int8.md", "distilled-int8.stac.json"]
    assert files_of(tmp_path, form("distilled", "torch")) == []


def test_the_archive_leaves_out_what_belongs_to_the_machine(tmp_path):
    write_deployment(tmp_path, make_deployment())
    for name in ("status.json", "alive.lock", "cancel", "log.txt", ".half.onnx"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.onnx").symlink_to("/etc/hostname")
    with zipfile.ZipFile(io.BytesIO(zipped(tmp_path, "town-deploy", JOB_FILES))) as packed:
        names = packed.namelist()
        assert packed.read("town-deploy/teacher.onnx") == b"teacher.onnx of teacher"
        assert size_in(tmp_path, JOB_FILES) == sum(entry.file_size for entry in packed.infolist())
    assert len(names) == 5 * 3 + 1
    assert "town-deploy/deploy.json" in names
    assert all(name.startswith("town-deploy/") for name in names)


def test_what_is_too_large_is_named_instead(tmp_path, monkeypatch):
    write_deployment(tmp_path, make_deployment())
    monkeypatch.setattr(bundle, "LARGEST", 10)
    with pytest.raises(RunError, match="Copy the folder"):
        zipped(tmp_path, "town-deploy", JOB_FILES)
