"""A STAC item that describes an exported network: the Machine Learning Model (MLM) extension, version 1.5.

It lies beside the network, so that a catalogue finds it together with the imagery that it fits. See
https://github.com/stac-extensions/mlm for the meaning of every field.

The tests check it with stac-model and the schemas that pystac brings. The item itself is a plain dict: written with stac-model 0.7 it would name the
same fields in as many lines, write version 1.6, bring 26 packages (pip among them), and take 0.6 s longer to import.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kdcore.models.onnx_info import OnnxInfo

STAC_VERSION = "1.1.0"
EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    # MLM refers to bands in the item's properties, where STAC 1.1 allows its own `bands` only if an asset repeats them.
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
)
SEMANTIC_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
TASKS = ["semantic-segmentation"]
Bounds = tuple[float, float, float, float]


def stac_item(
    info: OnnxInfo,
    *,
    id: str,
    description: str,
    file: str,
    bytes: int,
    sha256: str,
    tile: int,
    made: float,
    colours: Sequence[str | None] = (),
    bounds: Bounds | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    card: str | None = None,
    onnx_version: str = "",
) -> dict[str, Any]:
    """Describe one ONNX file.

    Args:
        info: what the network takes and gives.
        id: of the item, unique in a catalogue.
        description: one paragraph for people.
        file: the ONNX file's name, in the same folder as the item.
        bytes: its size.
        sha256: of its contents, hexadecimal.
        tile: side of the tiles that it takes, pixels.
        made: when it was trained, seconds since 1970.
        colours: '#RRGGBB' of each class, or None.
        bounds: west, south, east, north of the imagery it was trained on, degrees; None where it has no place.
        hyperparameters: of the training; names of letters, digits, '_', '-', '.'.
        card: the model card's file name in the same folder.
        onnx_version: of the package that wrote the file.

    Returns:
        JSON values.
    """
    properties = network_properties(info, id, description, tile, made, colours)
    if SEMANTIC_VERSION.fullmatch(onnx_version):
        properties["mlm:framework_version"] = onnx_version
    if hyperparameters:
        properties["mlm:hyperparameters"] = dict(hyperparameters)
    assets: dict[str, Any] = {
        "model": {
            "href": f"./{file}",
            "type": "application/octet-stream; application=onnx",
            "title": file,
            "roles": ["mlm:model", "mlm:weights", "data"],
            "mlm:artifact_type": "onnx",
            "file:size": bytes,
            "file:checksum": f"1220{sha256}",  # multihash: SHA-256, 32 bytes
        }
    }
    if card:
        assets["card"] = {"href": f"./{card}", "type": "text/markdown", "title": "Model card", "roles": ["metadata"]}
    place: dict[str, Any] = {"geometry": None}
    if bounds is not None:
        west, south, east, north = bounds
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        place = {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": list(bounds)}
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": id,
        **place,
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def network_properties(
    info: OnnxInfo, id: str, description: str, tile: int, made: float, colours: Sequence[str | None]
) -> dict[str, Any]:
    """An item's properties that the network itself gives; the arguments are those of `stac_item`."""
    names = [f"B{number}" for number in info.band_numbers]
    network = info.network
    return {
        "title": id,
        "description": description,
        "datetime": datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eo:bands": [{"name": name, "description": f"Band {name[1:]} of the image file"} for name in names],
        "mlm:name": machine_name(id),
        "mlm:architecture": f"{network.architecture} with encoder {network.encoder}" if network else "unknown",
        "mlm:tasks": TASKS,
        "mlm:framework": "ONNX",
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:total_parameters": info.parameters,
        "mlm:batch_size_suggestion": info.batch or 1,
        "mlm:pretrained": bool(network and network.weights),
        "mlm:pretrained_source": network.pretrained_on if network else None,
        "mlm:input": [network_input(info, names, tile)],
        "mlm:output": [network_output(info, tile, colours)],
        **({} if info.metres_per_pixel is None else {"gsd": info.metres_per_pixel}),
    }


def network_input(info: OnnxInfo, names: Sequence[str], tile: int) -> dict[str, Any]:
    """An MLM input object. There is no `value_scaling` where the file scales by itself."""
    described: dict[str, Any] = {
        "name": "image",
        "description": f"Imagery in its own units ({info.dtype} in the files), nodata filled with "
        f"{', '.join(f'{value:.6g}' for value in info.fill)}.",
        "bands": list(names),
        "input": {
            "shape": [info.batch or -1, info.bands, tile, tile],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": info.input_type,
        },
    }
    if any(info.mean) or any(value != 1 for value in info.std):
        described["value_scaling"] = [
            {"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(info.mean, info.std, strict=True)
        ]
    return described


def network_output(info: OnnxInfo, tile: int, colours: Sequence[str | None]) -> dict[str, Any]:
    """An MLM output object."""
    one = info.logits == 1
    classes = []
    for value, name in enumerate(info.classes):
        entry: dict[str, Any] = {"value": value, "name": class_slug(name, value), "description": name}
        if value < len(colours) and (colour := colours[value]):
            entry["color_hint"] = colour.lstrip("#").upper()
        classes.append(entry)
    return {
        "name": info.output,
        "description": f"Of the class {info.classes[1]}." if one else "One map for each class.",
        "tasks": TASKS,
        "result": {
            "shape": [info.batch or -1, info.outputs or info.logits, tile, tile],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": classes,
    }


def machine_name(text: str) -> str:
    """A name as MLM wants it: it begins with a letter, ends with a letter or digit, and has no strange ones between."""
    plain = re.sub(r"[^a-zA-Z0-9_.\-\s]+", "-", to_ascii(text)).strip("-_. ")
    return plain if re.fullmatch(r"[a-zA-Z].+[a-zA-Z0-9]", plain) else f"network-{plain or 'x'}"


def class_slug(name: str, value: int) -> str:
    """A class's name as the classification extension wants it: letters, digits, '-' and '_'."""
    return re.sub(r"[^0-9A-Za-z_-]+", "-", to_ascii(name)).strip("-") or f"class-{value}"


def to_ascii(text: str) -> str:
    """Letters without their accents."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
