"""A first run of a foreign ONNX file, in a process of its own with limits of memory and time.

A small file can ask for gigabytes or for hours. `python -m kdcore.models.onnx_trial JSON` is that process; it imports no torch.
"""

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdcore.errors import CheckpointError

if TYPE_CHECKING:
    from kdcore.models.onnx_info import OnnxInfo

SECONDS = 60.0  # for opening it and one image
OPEN_SIDE = 256  # pixels: of the image where every size will do
PLAIN_BYTES = 1_000_000_000  # what the runtime itself may take
BYTES_A_PIXEL = 8_000  # of the image: a thousand features and their copies
TIMES_WEIGHTS = 6  # copies of the weights while they are rearranged
NO_MEMORY = 3  # exit code


def try_out(path: Path, info: "OnnxInfo") -> None:
    """Run a file once, or find that this was done before in this process.

    Args:
        path: the file.
        info: what it takes.

    Raises:
        CheckpointError: it takes more memory or time than a network of its size needs, or ends the process that runs it.
    """
    weights = sum(file.stat().st_size for file in {path, *other_files(path)})
    side, batch = info.tile or OPEN_SIDE, info.batch or 1
    sides = (side, side, len(info.order)) if info.channels_last else (len(info.order), side, side)
    run_once(path, path.stat().st_mtime_ns, weights, (batch, *sides), info.input_type)


def other_files(path: Path) -> list[Path]:
    """Files beside it that hold its weights."""
    from kdcore.models.onnx_graph import external_files

    return external_files(path)


@lru_cache(maxsize=256)
def run_once(path: Path, changed: int, weights: int, shape: tuple[int, ...], kind: str) -> None:
    """See `try_out`; `changed` only tells one state of the file from another."""
    most = PLAIN_BYTES + TIMES_WEIGHTS * weights + BYTES_A_PIXEL * int(np.prod(shape)) // min(shape[1:])
    asked = json.dumps({"path": str(path), "shape": shape, "type": kind, "bytes": most})
    shown = f"one run on an image of {' x '.join(map(str, shape[1:]))}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "kdcore.models.onnx_trial", asked],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{path}: {shown} took more than {SECONDS:.0f} s and was stopped. Export it with a smaller tile, or use a smaller network."
        ) from error
    if done.returncode == NO_MEMORY:
        raise CheckpointError(
            f"{path}: {shown} asked for more than {most / 1e9:.1f} GB of memory and was stopped; a network with {weights / 1e6:.1f} MB of "
            "weights needs far less. Export it anew, with a smaller tile."
        )
    if done.returncode < 0:
        raise CheckpointError(
            f"{path}: {shown} ended the process that tried it out (signal {-done.returncode}). Export it anew; do not use the file as it is."
        )


def main(asked: str) -> int:
    """Open and run the file that is asked for, within limits; what else goes wrong is told when it is really run."""
    import onnxruntime

    values = json.loads(asked)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (values["bytes"], values["bytes"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ImportError:  # Windows
        pass
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(values["path"], options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: np.zeros(values["shape"], dtype=values["type"])})
    except MemoryError:
        return NO_MEMORY
    except Exception as error:  # ONNX Runtime has a dozen kinds without a common one
        words = ("bad_alloc", "failed to allocate", "allocate memory", "out of memory", "bad allocation")
        return NO_MEMORY if any(word in str(error).lower() for word in words) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
