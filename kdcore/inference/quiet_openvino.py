"""OpenVINO without its telemetry, which would look up a host and write an id into the home folder as soon as it is imported."""

import sys
from typing import Any


def import_openvino() -> Any:
    """The module `openvino`; its telemetry is told that the package it reports with is not installed.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
