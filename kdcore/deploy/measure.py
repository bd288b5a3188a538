"""`python -m kdcore.deploy.measure FILE ENGINE DEVICE THREADS TILE`: runs one network in one engine, and nothing else.

A process of its own, because peak memory belongs to a process, and so that one engine's libraries are not counted for another:
torch is imported for checkpoints only. It says `ready` in JSON once it has warmed up, then for each line with a number n on
standard input runs n tiles and prints the seconds of each, and at the end of its input its peak memory.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from kdcore.imports import large_imports
from kdcore.inference.quiet_openvino import Precision, compile_network

EngineName = Literal["torch", "onnxruntime", "openvino", "openvino-bf16"]
Run = Callable[[], object]


def open_run(path: Path, engine: EngineName, device: str, threads: int, tile: int) -> tuple[Run, int, str]:
    """Open a network.

    Args:
        path: a checkpoint for torch, else an ONNX file.
        engine: which library runs it.
        device: 'cpu' or 'cuda'; OpenVINO uses the processor only.
        threads: of the processor.
        tile: side of the tile in pixels where the network takes any.

    Returns:
        What runs it once, how many pixels that are, and the kind of device that is used.
    """
    if engine == "torch":
        return open_torch(path, device, threads, tile)
    if engine == "onnxruntime":
        return open_onnxruntime(path, device, threads, tile)
    return open_openvino(path, threads, tile, "f32" if engine == "openvino" else "bf16")


def open_torch(path: Path, device: str, threads: int, tile: int) -> tuple[Run, int, str]:
    """A checkpoint in torch, as predictions run it."""
    with large_imports():
        import torch

        from kdcore.inference.engines import open_engine

    torch.set_num_threads(threads)
    engine = open_engine(path, "torch", device, threads)
    images = tiles_of((engine.batch, len(engine.fill), tile, tile), "float32")
    return lambda: engine(images), engine.batch * tile**2, device


def open_onnxruntime(path: Path, device: str, threads: int, tile: int) -> tuple[Run, int, str]:
    """An ONNX file in ONNX Runtime; the options are those of `kdcore.models.onnx.open_session`, which would import torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    wanted = (["CUDAExecutionProvider"] if device == "cuda" else []) + ["CPUExecutionProvider"]
    at_hand = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(str(path), options, providers=[name for name in wanted if name in at_hand])
    given = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else None for side in given.shape]
    images = tiles_of(fixed(shape, tile), NUMBERS.get(given.type, "float32"))
    used = "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"
    outputs = [session.get_outputs()[0].name]
    return lambda: session.run(outputs, {given.name: images}), pixels(images), used


NUMBERS = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16"}


def open_openvino(path: Path, threads: int, tile: int, precision: Precision) -> tuple[Run, int, str]:
    """An ONNX file in OpenVINO, as predictions run it."""
    model = compile_network(path, threads, precision)
    shape = [None if side.is_dynamic else side.get_length() for side in model.input(0).get_partial_shape()]
    images = tiles_of(fixed(shape, tile), model.input(0).get_element_type().to_dtype().name)
    request = model.create_infer_request()
    return lambda: request.infer([images], share_inputs=True), pixels(images), "cpu"


def fixed(shape: list[int | None], tile: int) -> tuple[int, ...]:
    """A shape of four sides with one image and the tile's side where it leaves them open."""
    return (shape[0] or 1, *(side or tile for side in shape[1:]))


def pixels(images: NDArray[Any]) -> int:
    """Pixels of a batch, whichever side holds the bands: there are fewer bands than rows or columns."""
    sides = sorted(images.shape[1:])
    return int(len(images) * sides[1] * sides[2])


def tiles_of(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A batch of noise: speed does not depend on what there is to see."""
    values = np.random.default_rng(0).integers(0, 255, shape)
    return np.ascontiguousarray(values, dtype=dtype)


def peak_bytes() -> int:
    """Most memory that this process held.

    On Linux not `ru_maxrss`, which a process that was started by another one begins with the other's.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    except (OSError, StopIteration):
        import resource  # not on Windows

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else 1024 * largest


def say(**values: Any) -> None:
    """Tell the process that started this one."""
    print(json.dumps(values), flush=True)  # noqa: T201


def main(arguments: list[str]) -> int:
    """Serve measurements until the input ends; 1 with a sentence where the network cannot be opened or run."""
    path, engine, device, threads, tile = arguments
    try:
        run, size, used = open_run(Path(path), cast(EngineName, engine), device, int(threads), int(tile))
        for _ in range(2):  # the first pass lays out memory, and some engines compile in it
            run()
    except Exception as error:  # every engine has kinds of its own
        say(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return 1
    say(ready=True, pixels=size, device=used)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
        say(seconds=seconds)
    say(peak_bytes=peak_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
