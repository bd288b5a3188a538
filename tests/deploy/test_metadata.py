"""Keys for the QGIS plugin Deepness, read and used as the plugin does it."""

import json

import numpy as np
import pytest

from kdcore.deploy.export import deepness_keys
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.settings import NetworkSettings


def info(classes=("land", "building"), bands=3, metres=0.5) -> CheckpointInfo:
    return CheckpointInfo(
        network=NetworkSettings(),
        bands=bands,
        band_numbers=tuple(range(1, bands + 1)),
        classes=classes,
        metres_per_pixel=metres,
    )


def as_deepness_sees(values: np.ndarray, keys: dict[str, str]) -> np.ndarray:
    """(H, W, bands) through the plugin's two steps: to 0..1, then mean and standard deviation, in float32."""
    scaled = np.float32(values * 1.0 / 255.0)
    mean, std = (np.array(json.loads(keys[f"standardization_{name}"]), dtype=np.float32) for name in ("mean", "std"))
    return (scaled - mean) / std


@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535), ("float32", 1.0)])
def test_the_network_gets_imagery_in_its_own_units(dtype, largest):
    keys = deepness_keys(info(bands=4))
    values = np.linspace(0, largest, 4 * 64).reshape(8, 8, 4).astype(dtype)
    assert as_deepness_sees(values, keys) == pytest.approx(values.astype(float), rel=1e-6, abs=1e-6 * largest)


def test_keys_are_what_the_plugin_parses():
    keys = deepness_keys(info(), 0.42, 20, tile=256)
    parsed = {key: json.loads(value) for key, value in keys.items()}
    assert parsed["model_type"].capitalize() == "Segmentor"
    assert [parsed["class_names"][str(index)] for index in range(2)] == ["land", "building"]
    assert float(parsed["resolution"]) == 50  # centimetres
    assert (parsed["tile_size"], parsed["tiles_size"], parsed["tiles_overlap"]) == (256, 256, 20)
    assert parsed["seg_thresh"] == 0.42


@pytest.mark.parametrize(
    ("tile", "percent", "pixels"),
    [
        (512, 25, 128),  # 13 % are 66 px: the next tile would begin at 446
        (1024, 25, 256),
        (256, 25, 64),
        (320, 20, 64),
        (224, 29, 64),  # 64.96 px, cut off
    ],
)
def test_tiles_overlap_by_two_halos_at_least_and_begin_at_multiples_of_32(tile, percent, pixels):
    """As the plugin computes them: whole pixels of the per cent, cut off."""
    assert json.loads(deepness_keys(info(), tile=tile, halo=32)["tiles_overlap"]) == percent
    assert (int(tile * percent / 100), (tile - pixels) % 32) == (pixels, 0)


def test_an_unknown_resolution_is_left_for_the_person_to_say():
    assert "resolution" not in deepness_keys(info(metres=None))


def test_several_classes_are_decided_by_the_largest():
    """The plugin sets what is below the threshold to zero, then takes the arg-max."""
    keys = deepness_keys(info(classes=("a", "b", "c")))
    shares = np.array([0.3, 0.26, 0.44])
    marked = np.where(shares < json.loads(keys["seg_thresh"]), 0.0, shares)
    assert int(marked.argmax()) == 2
    assert json.loads(deepness_keys(info())["seg_thresh"]) == 0.5


def test_class_names_may_hold_any_text():
    names = json.loads(deepness_keys(info(classes=('ground "x"', "Gebäude"))).pop("class_names"))
    assert names == {"0": 'ground "x"', "1": "Gebäude"}
