"""OpenVINO without its telemetry, which would look up a host and write an id into the home folder as soon as it is imported.

How a network is compiled in it stands here too, and what the processor can do, because what measures speeds may not import torch.
"""

import sys
from pathlib import Path
from typing import Any, Literal

Precision = Literal["f32", "bf16"]
"""In which numbers OpenVINO computes what a file holds in float32, as its property `INFERENCE_PRECISION_HINT` calls them."""
NO_BFLOAT16 = "this processor does not compute in bfloat16 (OpenVINO reports no BF16 for it)"


def import_openvino() -> Any:
    """The module `openvino`; its telemetry is told that the package it reports with is not installed.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def capabilities() -> list[str]:
    """What the processor itself computes in, as OpenVINO reports it, for example 'FP32', 'BF16' and 'INT8'."""
    return list(import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def has_bfloat16() -> bool:
    """Whether the processor itself computes in bfloat16."""
    return "BF16" in capabilities()


def compile_network(path: Path, threads: int, precision: Precision = "f32") -> Any:
    """An ONNX file for one tile at a time on the processor, as an `openvino.CompiledModel`.

    Args:
        path: the file.
        threads: of the processor.
        precision: left alone OpenVINO chooses bfloat16 on some processors, which changes labels; so it is always told.

    Raises:
        RuntimeError: OpenVINO cannot read or run it.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    return import_openvino().Core().compile_model(str(path), "CPU", settings)
