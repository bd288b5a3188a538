"""Checkpoints of strangers: no host and no folder is asked, nothing large is made before it is clear that the file holds it."""

import json
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import kdcore
from kdcore.cli import app
from kdcore.errors import CheckpointError, KdcoreError, SettingsError
from kdcore.models.checkpoint import KEY, SUM, CheckpointInfo, load_network, load_tensors, save_network
from kdcore.models.networks import build_network
from kdcore.teacher.teacher import read_member_info
from tests.conftest import TINY, run_settings, write_collection

EXAMPLE = Path(kdcore.__file__).parent / "example"


@pytest.fixture
def model(tmp_path):
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(tmp_path / "m.safetensors", build_network(TINY, 3, 1, seed=0), info)
    return tmp_path / "m.safetensors"


def rewrite(path: Path, change, tensors=None) -> None:
    """Write a checkpoint anew whose settings were changed, as a stranger would: with the right checksum left away."""
    held, values = load_tensors(path)
    change(values)
    save_file(held if tensors is None else tensors, path, metadata={KEY: json.dumps(values)})


def refused(path: Path) -> str:
    with pytest.raises(KdcoreError) as caught:
        load_network(path)
    result = CliRunner().invoke(
        app, ["predict", str(path), str(EXAMPLE / "layers/outskirts/imagery.tif"), "--out", str(path.parent / "o")]
    )
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return str(caught.value)


@pytest.mark.parametrize(
    "network",
    [
        {"encoder": "hf-hub:owner/x"},
        {"encoder": "tu-hf-hub:owner/x"},
        {"encoder": "tu-hf_hub:owner/x"},
        {"encoder": "tu-local-dir:/etc"},
        {"encoder": "tu-local_dir:/etc"},
        {"encoder": "tu-/etc/passwd"},
        {"encoder": "owner/x"},
        {"architecture": "owner/x"},
        {"encoder": "tu-no_such_network"},
        {"encoder": "tu-"},
        {"encoder": ""},
        {"architecture": "no-such"},
    ],
)
def test_names_are_never_places(model, network):
    rewrite(model, lambda values: values["network"].update(network))
    assert "m.safetensors" in refused(model) or "is not known" in refused(model)


def test_weights_are_never_downloaded_for_a_file(model):
    rewrite(model, lambda values: values["network"].update({"encoder": "resnet18", "weights": "imagenet"}))
    assert "does not fit the network" in refused(model)
    rewrite(EXAMPLE_COPY(model), lambda values: values["network"].update({"weights": "imagenet"}))
    assert read_member_info(model).network.weights is None


def EXAMPLE_COPY(model: Path) -> Path:
    shutil.copy(EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors", model)
    return model


@pytest.mark.parametrize(
    "change",
    [
        {"bands": 10**9},
        {"bands": 0},
        {"bands": -3},
        {"classes": ["x"] * 100_000},
        {"classes": []},
        {"classes": ["x" * 10_000, "y"]},
        {"band_numbers": [1] * 100_000},
        {"seed": [[[]]]},
        {"colours": ["red", "blue"]},
        {"network": {"decoder_channels": [10**6] * 5}},
        {"network": {"decoder_channels": [16] * 10_000}},
        {"network": {"depth": 10**9}},
        {"network": None},
        {"more": 1},
        {"arm": "x" * 10_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_out_of_range_are_refused(model, change):
    rewrite(model, lambda values: values.update(change))
    sentence = refused(model)
    assert "m.safetensors: its settings are not those of a kdcore checkpoint" in sentence
    assert len(sentence) < 1500


@pytest.mark.parametrize(
    "encoder", ["tu-eva02_enormous_patch14_clip_224", "timm-efficientnet-l2", "tu-convnext_xxlarge"]
)
def test_a_huge_network_is_not_built_to_find_that_its_weights_are_not_there(model, encoder):
    rewrite(
        model, lambda values: values["network"].update({"encoder": encoder, "depth": 4, "decoder_channels": [16] * 4})
    )
    assert "m.safetensors" in refused(model) or "cannot be built" in refused(model)


def test_a_band_order_is_one_of_few_whole_numbers(model):
    tensors, _ = load_tensors(model)
    for order in (torch.zeros(2_000_000, dtype=torch.int64), torch.zeros(3), torch.tensor([7, 8, 9])):
        rewrite(model, lambda values: None, tensors | {"band_order": order})
        assert "band" in refused(model)


def test_settings_that_are_no_mapping_or_too_deep_are_refused(model):
    tensors, _ = load_tensors(model)
    for text, words in (
        ("[" * 50_000, "m.safetensors"),
        ("[]", "m.safetensors"),
        ("null", "m.safetensors"),
        ("{", "m.safetensors"),
    ):
        save_file(tensors, model, metadata={KEY: text})
        assert words in refused(model)


def test_broken_headers_are_refused(model):
    whole = model.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    deep = b"[" * 100_000
    for text in (
        b"",
        whole[:7],
        struct.pack("<Q", 2**63) + whole[8:],
        struct.pack("<Q", 10**12) + whole[8:],
        struct.pack("<Q", len(deep)) + deep,
        whole[: 8 + length // 2],
        whole[:-10],
        whole[:8] + whole[8 : 8 + length].replace(b'"F32"', b'"F99"') + whole[8 + length :],
        whole[:8] + whole[8 : 8 + length].replace(b"[16,", b"[99,") + whole[8 + length :],
    ):
        model.write_bytes(text)
        assert "m.safetensors" in refused(model)


def test_pipes_and_folders_are_no_checkpoints(tmp_path):
    os.mkfifo(tmp_path / "m.safetensors")
    assert "there is no such file" in refused(tmp_path / "m.safetensors")


class TestChecksums:
    def test_twenty_changed_bytes_are_noticed(self, model):
        data = bytearray(model.read_bytes())
        for place in range(len(data) - 20, len(data)):
            data[place] ^= 1
        model.write_bytes(data)
        assert "its contents have changed since it was written" in refused(model)

    def test_one_changed_setting_is_noticed(self, model):
        data = model.read_bytes()
        assert b"building" in data
        model.write_bytes(data.replace(b"building", b"bunlding"))
        assert "its contents have changed since it was written" in refused(model)

    def test_a_file_of_an_earlier_version_has_none_and_opens(self, tmp_path):
        path = EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors"
        with safe_open(path, framework="pt") as file:
            about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        assert SUM in about
        save_file(tensors, tmp_path / "old.safetensors", metadata={KEY: about[KEY]})
        assert load_network(tmp_path / "old.safetensors")[1].arm == "distilled"

    def test_a_damaged_state_is_not_resumed_from(self, tmp_path):
        from kdcore.errors import Stopped
        from kdcore.jobs.store import RunDirectory
        from kdcore.training.run import execute

        settings = run_settings(write_collection(tmp_path / "c"))
        run = RunDirectory.create(tmp_path / "run", settings)
        steps = iter([False] * 4 + [True] * 100)
        with suppress(Stopped):
            execute(run, should_stop=lambda: next(steps))
        data = bytearray(run.state.read_bytes())
        for place in range(len(data) // 2, len(data) // 2 + 20):
            data[place] ^= 1
        run.state.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"state\.safetensors: its contents have changed"):
            execute(run)


def test_names_of_the_settings_door_are_those_of_the_library():
    with pytest.raises(SettingsError, match="this encoder is not known"):
        build_network(TINY.model_copy(update={"encoder": "tu-resnet9000"}), 3, 1)
