"""What runs a network: torch, ONNX Runtime or OpenVINO, behind one small interface."""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdcore.errors import CheckpointError, SettingsError, in_short
from kdcore.inference.quiet_openvino import NO_BFLOAT16, Precision, compile_network, has_bfloat16
from kdcore.inference.source import Facts
from kdcore.jobs.quota import free_memory, thread_count
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import computing_on, probabilities
from kdcore.models.onnx import Ask, OnnxInfo, class_probabilities, filled, open_session, read_info, whole
from kdcore.models.onnx_trial import try_out

EngineName = Literal["torch", "onnxruntime", "openvino", "openvino-bf16"]
ENGINES: tuple[EngineName, ...] = ("torch", "onnxruntime", "openvino")
BFLOAT16: EngineName = "openvino-bf16"
"""OpenVINO that computes in bfloat16 instead of float32. Not among `ENGINES`: it changes labels, so it is only taken where it is named."""
GPU_BATCH = 8  # tiles looked at together


class Engine(Protocol):
    """A network that is ready to look at imagery.

    Attributes:
        name: which library runs it; device: the processor or GPU, in words.
        info: what the network was trained for.
        fill: (bands,) values that stand for nodata, in the imagery's units.
        tile: side in pixels of the only tile it takes; None where any multiple of 32 does.
        batch: how many tiles it is best given at once.
    """

    name: EngineName
    device: str
    info: Facts
    fill: NDArray[np.float32]
    tile: int | None
    batch: int

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (N, K, H, W) of imagery (N, bands, H, W) in its own units, in any dtype, nodata already filled."""
        ...


class TorchEngine:
    """A network in torch: channels-last, and in bfloat16 on a GPU."""

    name: EngineName = "torch"
    tile: int | None = None

    def __init__(self, network: nn.Module, info: Facts, fill: NDArray[np.float32], device: torch.device | str) -> None:
        self.place = torch.device(device)
        self.network = network.eval().to(self.place).to(memory_format=torch.channels_last)
        self.info: Facts = info
        self.fill = fill
        on_gpu = self.place.type == "cuda"
        self.device = torch.cuda.get_device_name(self.place) if on_gpu else processor()
        self.batch = GPU_BATCH if on_gpu else 1

    @property
    def free(self) -> int:
        """Bytes of memory that it may still use."""
        return int(torch.cuda.mem_get_info(self.place)[0]) if self.place.type == "cuda" else free_memory()

    @torch.inference_mode()
    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Engine`."""
        batch = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        if self.place.type == "cuda":
            batch = batch.pin_memory().to(self.place, non_blocking=True)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with computing_on(self.place):
            logits = self.network(batch)
        return cast(NDArray[np.float32], probabilities(logits).contiguous().cpu().numpy())


class OnnxRuntimeEngine:
    """An ONNX file in ONNX Runtime."""

    name: EngineName = "onnxruntime"

    def __init__(self, path: Path, info: OnnxInfo, threads: int) -> None:
        self.path = path
        self.session = open_session(path, threads, info.optimise)
        self.onnx, self.tile = info, info.tile
        self.info: Facts = info
        self.fill = np.asarray(info.fill, dtype=np.float32)
        on_gpu = self.session.get_providers()[0] != "CPUExecutionProvider"
        self.device = "GPU" if on_gpu else processor()
        self.batch = GPU_BATCH if on_gpu and info.batch is None else 1
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[info.output_index].name

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Engine`."""
        return ask(self, images, lambda values: self.session.run([self.output], {self.input: values})[0])


class OpenVinoEngine:
    """An ONNX file in OpenVINO, on the processor, in float32 or bfloat16."""

    def __init__(self, path: Path, info: OnnxInfo, threads: int, precision: Precision = "f32") -> None:
        self.name: EngineName = "openvino" if precision == "f32" else BFLOAT16
        self.path = path
        try:
            self.model = compile_network(path, threads, precision)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise CheckpointError(f"{path}: OpenVINO cannot run it ({reason}). Use --engine onnxruntime.") from error
        self.onnx, self.tile = info, info.tile
        self.info: Facts = info
        self.fill = np.asarray(info.fill, dtype=np.float32)
        self.device, self.batch = processor(), 1
        self.request = self.model.create_infer_request()

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Engine`."""
        return ask(self, images, self.run)

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the graph gives for what it takes."""
        return np.asarray(self.request.infer([values], share_inputs=True)[self.onnx.output_index])


def ask(engine: OnnxRuntimeEngine | OpenVinoEngine, images: NDArray[Any], run: Ask) -> NDArray[np.float32]:
    """Probabilities of imagery by a function that runs the graph; a batch of a fixed size is filled up."""
    info = engine.onnx
    if info.batch is not None and len(images) != info.batch:
        starts = range(0, len(images), info.batch)
        parts = [ask(engine, filled(images[start : start + info.batch], info.batch), run) for start in starts]
        return np.concatenate(parts)[: len(images)]
    try:
        maps, margin = whole(info, images, run)
    except CheckpointError as error:
        raise CheckpointError(f"{engine.path}: {error}") from error
    except Exception as error:  # each runtime has kinds of its own
        raise CheckpointError(
            f"{engine.path}: {engine.name} could not run it on {images.shape[2]} x {images.shape[3]} pixels ({in_short(error)}). "
            "Export it with a fixed height and width if it does not take every size."
        ) from error
    if margin > info.margin:  # else the halo is as wide, see `kdcore.inference.parts.plan_prediction`
        raise CheckpointError(
            f"{engine.path}: gives no answer for the outer {margin} px of its tile, and its file does not say so. "
            "Export it with the size of its maps written into it, or with an open height and width."
        )
    return class_probabilities(info, maps)


class Flipped:
    """Test-time flips: the average over a tile as it is, mirrored, upside down and both; four times the work."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.device, self.info = engine.name, engine.device, engine.info
        self.fill, self.tile, self.batch = engine.fill, engine.tile, engine.batch

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Engine`."""
        total: NDArray[np.float32] | None = None
        views: Sequence[tuple[int, ...]] = ((), (3,), (2,), (2, 3))
        for axes in views:
            one = np.flip(self.engine(np.flip(images, axes)), axes)
            total = one if total is None else total + one
        assert total is not None
        return total / np.float32(len(views))


def open_engine(
    path: Path, engine: EngineName | Literal["auto"] = "auto", device: str = "auto", threads: int | None = None
) -> Engine:
    """Open a checkpoint (`.safetensors`) or an ONNX file.

    Args:
        path: the file.
        engine: 'auto' is torch for a checkpoint; for an ONNX file the faster of the others in float32, measured on two tiles.
        device: 'auto', 'cpu' or 'cuda'; torch and ONNX Runtime use a GPU, OpenVINO only the processor.
        threads: of the processor; None for `OMP_NUM_THREADS` or else all.

    Raises:
        CheckpointError: missing, broken, or of a kind that this engine does not run.
        SettingsError: no such engine or device, or bfloat16 on a processor that does not compute in it.
    """
    if engine not in (*ENGINES, BFLOAT16, "auto"):
        raise SettingsError(
            f"--engine {engine}: there is no such engine; choose auto, {', '.join((*ENGINES, BFLOAT16))}."
        )
    if path.suffix.lower() != ".onnx":
        if engine not in ("torch", "auto"):
            raise CheckpointError(f"{path}: {engine} runs ONNX files only. Make one: kdcore export {path} OUT.onnx")
        network, info = load_network(path)
        return TorchEngine(network, info, network.fill, choose_device(device))
    if engine == "torch":
        raise CheckpointError(f"{path}: torch runs kdcore checkpoints only. Use --engine onnxruntime or openvino.")
    if engine == BFLOAT16 and not has_bfloat16():
        raise SettingsError(f"--engine {BFLOAT16}: {NO_BFLOAT16}. Use --engine openvino.")
    facts, count = read_info(path), threads or thread_count()
    try_out(path, facts)
    if engine in ("openvino", BFLOAT16):
        return OpenVinoEngine(path, facts, count, "f32" if engine == "openvino" else "bf16")
    runtime = OnnxRuntimeEngine(path, facts, count)
    if engine == "onnxruntime" or device == "cuda" or runtime.device == "GPU":
        return runtime
    try:
        return faster(runtime, OpenVinoEngine(path, facts, count))
    except (CheckpointError, ImportError):
        return runtime


def faster(*engines: Engine) -> Engine:
    """The engine that needs least for a tile, measured in turn."""
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(3):  # the first time only warms up
        for engine, times in zip(engines, seconds, strict=True):
            times.append(tile_seconds(engine))
    best = min(range(len(engines)), key=lambda index: median(seconds[index][1:]))
    return engines[best]


def tile_seconds(engine: Engine, tile: int = 512, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds for one tile of imagery without structure."""
    side = engine.tile or tile
    image = np.broadcast_to(engine.fill[None, :, None, None], (1, len(engine.fill), side, side))
    started = clock()
    engine(image)
    return clock() - started


def choose_device(device: str) -> torch.device:
    """The device that 'auto', 'cpu' or 'cuda' means here.

    Raises:
        SettingsError: there is none of this kind.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise SettingsError(f"--device {device}: cannot be used here. Choose auto or cpu.")
    return torch.device(device)


def processor() -> str:
    """The processor in words, with its threads."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    count = thread_count()
    return f"{name} ({count} thread{'s' if count > 1 else ''})"
