"""What runs a network: torch, ONNX Runtime or OpenVINO, behind one small interface."""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kdcore.models.checkpoint import CheckpointInfo

EngineName = Literal["torch", "onnxruntime", "openvino"]


class Engine(Protocol):
    """A network that is ready to look at imagery.

    Attributes:
        name: which library runs it; device: the processor or GPU, in words.
        info: what it was trained for.
        fill: (bands,) values that stand for nodata, in the imagery's units.
        tile: side in pixels of the only tile it takes; None where any multiple of `stride` does.
    """

    name: EngineName
    device: str
    info: CheckpointInfo
    fill: NDArray[np.float32]
    tile: int | None

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (N, K, H, W) of imagery (N, bands, H, W) in its own units, in any dtype, nodata already filled."""
        ...
