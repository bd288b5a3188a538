"""Rasters at addresses: what is fetched from a server on this machine, and what is never asked."""

import http.server
import json
import shutil
import socket
import threading

import numpy as np
import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.data import remote
from kdcore.data.rasters import open_raster
from kdcore.data.remote import fetch, is_address
from kdcore.errors import DataError, SettingsError
from tests.conftest import write_raster


class Files(http.server.BaseHTTPRequestHandler):
    """Shows `server.files` by path: bytes, or headers and bytes, or the place to which it redirects."""

    def do_GET(self):
        self.server.asked.append(self.path)
        found = self.server.files.get(self.path)
        if found is None:
            self.send_error(404)
        elif isinstance(found, str):
            self.send_response(302)
            self.send_header("Location", found)
            self.end_headers()
        else:
            headers, body = found if isinstance(found, tuple) else ({}, found)
            self.send_response(200)
            for name, value in ({"Content-Length": len(body), "ETag": f'"{hash(body)}"'} | headers).items():
                if value is not None:
                    self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as found:
        found.files, found.asked = {}, []
        found.address = f"http://127.0.0.1:{found.server_port}"
        threading.Thread(target=found.serve_forever, daemon=True).start()
        monkeypatch.setenv(remote.VARIABLE, "127.0.0.1")
        yield found
        found.shutdown()


@pytest.fixture
def tiff(tmp_path):
    pixels = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
    return write_raster(tmp_path / "own/area.tif", pixels).read_bytes()


def resolve_to(monkeypatch, *numbers: str):
    """Whatever a host is called, these are its addresses."""
    found = [(socket.AF_INET6 if ":" in number else socket.AF_INET, 1, 6, "", (number, 443)) for number in numbers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)


class TestFetching:
    def test_gives_the_file_and_asks_for_its_bytes_once(self, server, tiff, tmp_path):
        server.files["/area.tif"] = tiff
        told = []
        file = fetch(f"{server.address}/area.tif", tmp_path / "r", lambda done, total: told.append((done, total)))
        assert file.name == "area.tif"
        assert file.read_bytes() == tiff
        assert told[-1] == (len(tiff), len(tiff))
        with open_raster(file) as dataset:
            assert dataset.count == 3
        told.clear()
        assert fetch(f"{server.address}/area.tif", tmp_path / "r", lambda done, total: told.append(done)) == file
        assert told == []  # same size, same ETag

    def test_what_has_changed_is_another_file(self, server, tiff, tmp_path):
        server.files["/area.tif"] = {"ETag": '"one"'}, tiff
        first = fetch(f"{server.address}/area.tif", tmp_path / "r")
        server.files["/area.tif"] = {"ETag": '"two"'}, tiff
        second = fetch(f"{server.address}/area.tif", tmp_path / "r")
        assert first != second
        assert first.exists()

    def test_follows_redirects_to_hosts_that_were_named(self, server, tiff, tmp_path):
        server.files |= {"/a.tif": "/b.tif", "/b.tif": f"{server.address}/c.tif", "/c.tif": tiff}
        assert fetch(f"{server.address}/a.tif", tmp_path / "r").read_bytes() == tiff
        server.files["/round.tif"] = "/round.tif"
        with pytest.raises(DataError, match="redirected more than 5 times"):
            fetch(f"{server.address}/round.tif", tmp_path / "r")

    def test_from_a_bucket(self, server, tiff, tmp_path, monkeypatch):
        assert remote.of_bucket("s3://imagery/2026/area.tif") == "https://imagery.s3.amazonaws.com/2026/area.tif"
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        server.files["/imagery/2026/area.tif"] = tiff
        assert fetch("s3://imagery/2026/area.tif", tmp_path / "r").read_bytes() == tiff

    def test_of_an_asset_of_a_stac_item(self, server, tiff, tmp_path):
        image = {"href": "./area.tif", "type": "image/tiff; application=geotiff; profile=cloud-optimized"}
        server.files["/items/area.tif"] = tiff
        server.files["/items/one.json"] = json.dumps({"assets": {"visual": image, "info": {"href": "x.html"}}}).encode()
        server.files["/items/two.json"] = json.dumps({"assets": {"visual": image, "nir": image}}).encode()
        assert fetch(f"{server.address}/items/one.json", tmp_path / "r").read_bytes() == tiff
        assert fetch(f"{server.address}/items/two.json#nir", tmp_path / "r").read_bytes() == tiff
        with pytest.raises(DataError, match=r"name one of its assets behind a #.*nir, visual"):
            fetch(f"{server.address}/items/two.json", tmp_path / "r")
        server.files["/items/none.json"] = b"[1, 2]"
        with pytest.raises(DataError, match="is no STAC item with assets"):
            fetch(f"{server.address}/items/none.json", tmp_path / "r")

    def test_a_connection_that_breaks_leaves_nothing(self, server, tiff, tmp_path):
        server.files["/area.tif"] = {"Content-Length": len(tiff) + 1000}, tiff
        with pytest.raises(DataError, match=rf"(ended after {len(tiff):,} of|cannot be fetched)"):
            fetch(f"{server.address}/area.tif", tmp_path / "r")
        assert not [file for file in (tmp_path / "r").rglob("*") if file.is_file() and file.suffix != ".lock"]

    @pytest.mark.parametrize(
        "body", [b"<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>", b"hello"]
    )
    def test_other_formats_are_refused(self, server, tmp_path, body):
        server.files["/area.tif"] = body
        with pytest.raises(DataError, match="is no GeoTIFF, JPEG, PNG or JPEG 2000 image"):
            fetch(f"{server.address}/area.tif", tmp_path / "r")

    def test_more_than_the_disk_holds_is_refused(self, server, tiff, tmp_path, monkeypatch):
        server.files["/area.tif"] = tiff
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
        with pytest.raises(DataError, match=r"has room for 0\.0 GB"):
            fetch(f"{server.address}/area.tif", tmp_path / "r")

    @pytest.mark.parametrize("lost", ["Content-Length", "ETag"])
    def test_a_file_without_size_or_version_is_refused(self, server, tiff, tmp_path, lost):
        server.files["/area.tif"] = {lost: None}, tiff
        with pytest.raises(DataError, match="says neither size nor version"):
            fetch(f"{server.address}/area.tif", tmp_path / "r")

    def test_a_missing_file_is_a_sentence(self, server, tmp_path):
        with pytest.raises(DataError, match="the server answers 404"):
            fetch(f"{server.address}/none.tif", tmp_path / "r")


class TestHosts:
    def test_without_a_list_nobody_is_asked(self, server, tiff, tmp_path, monkeypatch):
        monkeypatch.delenv(remote.VARIABLE)
        with pytest.raises(
            SettingsError, match=r"not among the hosts that may be asked\. Name it: KDCORE_REMOTE_HOSTS=127"
        ):
            fetch(f"{server.address}/area.tif", tmp_path / "r")
        assert server.asked == []

    def test_a_redirect_to_another_host_is_refused(self, server, tmp_path):
        server.files["/a.tif"] = "https://elsewhere.example/b.tif"
        with pytest.raises(SettingsError, match=r"elsewhere\.example is not among the hosts"):
            fetch(f"{server.address}/a.tif", tmp_path / "r")

    @pytest.mark.parametrize(
        "number",
        ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
         "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1"],
    )  # fmt: skip
    def test_a_name_at_a_private_address_is_refused(self, monkeypatch, tmp_path, number):
        monkeypatch.setenv(remote.VARIABLE, "data.example.org")
        resolve_to(monkeypatch, "93.184.215.14", number)  # one public address is no excuse
        with pytest.raises(SettingsError, match="which is no public address"):
            fetch("https://data.example.org/a.tif", tmp_path / "r")

    def test_a_redirect_to_a_private_address_is_refused(self, server, monkeypatch, tmp_path):
        server.files["/a.tif"] = "https://169.254.169.254/latest/meta-data.tif"
        monkeypatch.setenv(remote.VARIABLE, "127.0.0.1, 169.254.169.254")
        with pytest.raises(SettingsError, match="which is no public address"):
            fetch(f"{server.address}/a.tif", tmp_path / "r")

    def test_the_address_that_was_checked_is_the_one_that_is_asked(self, monkeypatch, tmp_path):
        """The name may lead elsewhere a moment later (DNS rebinding)."""
        monkeypatch.setenv(remote.VARIABLE, "data.example.org")
        resolve_to(monkeypatch, "93.184.215.14")
        asked = []

        def refuse(address, timeout):
            asked.append(address)
            raise OSError("no network in tests")

        monkeypatch.setattr(socket, "create_connection", refuse)
        with pytest.raises(DataError, match="cannot be fetched"):
            fetch("https://data.example.org/a.tif", tmp_path / "r")
        assert asked == [("93.184.215.14", 443)]

    def test_other_machines_are_asked_over_https_only(self, monkeypatch, tmp_path):
        monkeypatch.setenv(remote.VARIABLE, "data.example.org")
        resolve_to(monkeypatch, "93.184.215.14")
        with pytest.raises(SettingsError, match="only https:// and s3://"):
            fetch("http://data.example.org/a.tif", tmp_path / "r")

    @pytest.mark.parametrize("name", ["..%2Fx.tif", ".hidden.tif", "", "a%00b.tif"])
    def test_names_that_would_lead_elsewhere_are_refused(self, server, tmp_path, name):
        with pytest.raises(DataError, match="no file name"):
            fetch(f"{server.address}/{name}", tmp_path / "r")


def test_what_is_an_address():
    assert all(map(is_address, ("https://a/b.tif", "s3://bucket/b.tif", "http://localhost/b.tif")))
    assert not any(
        map(is_address, ("area.tif", "/data/https/a.tif", "file:///etc/passwd", "ftp://a/b.tif", "/vsicurl/https://a"))
    )


def test_inspect_takes_an_address(server, tiff):
    server.files["/area.tif"] = tiff
    result = CliRunner().invoke(app, ["data", "inspect", f"{server.address}/area.tif", "--json"])
    assert result.exit_code == 0, result.output
    assert "area.tif" in result.stdout
