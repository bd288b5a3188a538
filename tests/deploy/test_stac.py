"""The STAC item: valid by the core schema that pystac brings, by the models of the MLM extension's own package, and by its rules."""

import json
import re

import pystac
import pytest
from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from referencing import Registry, Resource
from stac_model.input import ModelInput
from stac_model.output import ModelOutput
from stac_model.schema import MLModelProperties

from kdcore.deploy.stac import EXTENSIONS, class_slug, machine_name, stac_item
from kdcore.models.onnx_info import OnnxInfo
from kdcore.settings import NetworkSettings

OURS = OnnxInfo(
    classes=("ground", "building"),
    channels=((), (0,)),
    bands=3,
    band_numbers=(1, 2, 3),
    order=(0, 1, 2),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    output="probabilities",
    tile=512,
    outputs=1,
    metres_per_pixel=0.5,
    fill=(90.0, 91.5, 80.0),
    parameters=143_157,
    network=NetworkSettings(encoder="tu-regnetx_002", depth=3),
    sha256="ab" * 32,
)
FOREIGN = OURS.model_copy(
    update={
        "classes": ("water", "Gebäude & Hütte", "?"),
        "channels": ((0,), (1, 3), (2,)),
        "mean": (120.0, 110.0, 100.0),
        "std": (50.0, 51.0, 52.0),
        "output": "logits",
        "outputs": 4,
        "network": None,
        "metres_per_pixel": None,
        "batch": 4,
        "sha256": "",
    }
)
ITEMS = {
    "ours": {"info": OURS, "bounds": (11.0, 48.0, 11.1, 48.1), "card": "a.md", "colours": ("#999999", None)},
    "foreign": {"info": FOREIGN},
}


def make(name: str, **options) -> dict:
    values = {
        "id": "town-distilled-s0",
        "description": "A student.",
        "file": "distilled-s0.onnx",
        "bytes": 600_000,
        "sha256": "cd" * 32,
        "tile": 512,
        "made": 1_700_000_000.0,
        "hyperparameters": {"temperature": 2.0, "seed": 0},
        "onnx_version": "1.23.0",
    }
    return json.loads(json.dumps(stac_item(**(values | ITEMS[name] | options)), allow_nan=False))


@pytest.fixture(params=ITEMS)
def item(request):
    return make(request.param)


@pytest.fixture(scope="module")
def core():
    """The core schema of STAC 1.1, from the files that pystac brings."""
    schemas = get_local_schema_cache()
    registry = Registry().with_resources((uri, Resource.from_contents(schema)) for uri, schema in schemas.items())
    return Draft7Validator(
        schemas["https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"], registry=registry
    )


def test_the_core_schema_is_met(item, core):
    assert [error.message for error in core.iter_errors(item)] == []
    read = pystac.Item.from_dict(item)
    assert read.to_dict(include_self_link=False)["properties"] == item["properties"]


def test_a_broken_item_is_seen_by_that_schema(item, core):
    del item["properties"]["datetime"]
    assert list(core.iter_errors(item))


def test_the_models_of_the_extension_accept_it_and_lose_nothing(item):
    properties = MLModelProperties.model_validate(item["properties"])
    assert properties.name == "town-distilled-s0"
    assert properties.framework == "ONNX"
    (entry,) = item["properties"]["mlm:input"]
    again = ModelInput.model_validate(entry).model_dump(mode="json", by_alias=True)
    assert {key: again[key] for key in entry} == entry
    (entry,) = item["properties"]["mlm:output"]
    again = ModelOutput.model_validate(entry).model_dump(mode="json", by_alias=True)
    assert {key: again[key] for key in entry if key != "classification:classes"} == {
        key: value for key, value in entry.items() if key != "classification:classes"
    }


def test_rules_between_fields_of_the_extension(item):
    """Those that the JSON schema of MLM 1.5.0 has, and models of single fields have not."""
    properties, assets = item["properties"], item["assets"]
    assert EXTENSIONS[0] in item["stac_extensions"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["mlm:framework_version"])
    assert not {"mlm:artifact_type", "mlm:compile_method", "mlm:entrypoint"} & properties.keys()
    (entry,) = properties["mlm:input"]
    assert "bands" in entry["input"]["dim_order"]
    assert entry["bands"] == [band["name"] for band in properties["eo:bands"]]  # bands refer to those of the item
    (result,) = properties["mlm:output"]
    assert "bands" not in result["result"]["dim_order"]
    for structure in (entry["input"], result["result"]):
        assert len(structure["shape"]) == len(structure["dim_order"])
        assert all(isinstance(size, int) and size >= -1 for size in structure["shape"])
        assert all(re.fullmatch(r"[a-z-_]+", name) for name in structure["dim_order"])
    assert (properties["mlm:pretrained"], properties["mlm:pretrained_source"]) == (False, None)
    for asset in assets.values():
        assert ("mlm:artifact_type" in asset) == ("mlm:model" in asset["roles"])
        assert not {"mlm:name", "mlm:input", "mlm:output", "mlm:hyperparameters"} & asset.keys()
    for entry in result["classification:classes"]:
        assert re.fullmatch(r"[0-9A-Za-z-_]+", entry["name"])
        assert re.fullmatch(r"[0-9A-F]{6}", entry.get("color_hint", "000000"))


def test_the_published_schemas_accept_it(item):
    """Asks for the schemas where they are published; without a network they cannot be had."""
    try:
        JsonSchemaSTACValidator()._get_schema(EXTENSIONS[0])
    except Exception as error:
        pytest.skip(f"no network for the published schema ({type(error).__name__})")
    assert EXTENSIONS[0] in pystac.Item.from_dict(item).validate()


def test_what_the_item_says():
    item = make("ours")
    assert item["bbox"] == [11.0, 48.0, 11.1, 48.1]
    assert item["properties"]["datetime"] == "2023-11-14T22:13:20Z"
    assert item["properties"]["gsd"] == 0.5
    model = item["assets"]["model"]
    assert (model["href"], model["file:checksum"]) == ("./distilled-s0.onnx", "1220" + "cd" * 32)
    assert item["assets"]["card"]["href"] == "./a.md"
    (entry,) = item["properties"]["mlm:input"]
    assert "value_scaling" not in entry  # the file scales by itself
    assert item["properties"]["mlm:output"][0]["result"]["shape"] == [-1, 1, 512, 512]
    classes = item["properties"]["mlm:output"][0]["classification:classes"]
    assert classes == [
        {"value": 0, "name": "ground", "description": "ground", "color_hint": "999999"},
        {"value": 1, "name": "building", "description": "building"},
    ]


def test_a_network_from_elsewhere_says_how_it_is_scaled():
    item = make("foreign")
    assert item["geometry"] is None
    assert "bbox" not in item
    (entry,) = item["properties"]["mlm:input"]
    assert entry["value_scaling"][2] == {"type": "z-score", "mean": 100.0, "stddev": 52.0}
    assert entry["input"]["shape"] == [4, 3, 512, 512]
    assert item["properties"]["mlm:output"][0]["result"]["shape"] == [4, 4, 512, 512]


def test_names_are_made_fit():
    assert machine_name("Stadt Zürich #2") == "Stadt Zurich -2"
    assert machine_name("2026-a") == "network-2026-a"
    assert machine_name("x") == "network-x"
    assert machine_name("…") == "network-x"
    assert class_slug("Gebäude & Hütte", 1) == "Gebaude-Hutte"
    assert class_slug("?", 2) == "class-2"
