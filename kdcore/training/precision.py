"""Which numbers a study or a sweep trains with where its settings leave that open: chosen once, and kept in its settings file."""

from typing import Literal

import torch

from kdcore.errors import SettingsError
from kdcore.inference.engines import choose_device
from kdcore.jobs.study_folder import StudyFolder, beginning
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.settings import Hardware, save


def choose_precision(device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    """bfloat16 where the device itself computes with it, else float32.

    Where it does, a step took 0.5 to 0.7 of the seconds; where a processor has to imitate it, more (`benchmarks/precision.py`).
    """
    if device.type == "cuda":
        own = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        own = any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return "bf16-mixed" if own else "32-true"


def settle(folder: StudyFolder | SweepFolder) -> Hardware:
    """Choose what was left open, for all runs alike and for good: networks of two precisions would not be compared fairly.

    Returns:
        The folder's hardware, with a precision.

    Raises:
        TakenError: another process is beginning it.
        SettingsError: float16 without a GPU, which Fabric would make bfloat16 of.
    """
    hardware = folder.settings.hardware
    device = choose_device(hardware.device)
    if hardware.precision == "16-mixed" and device.type != "cuda":
        raise SettingsError(
            f"{folder.path}: hardware.precision 16-mixed needs a GPU. Choose auto, bf16-mixed or 32-true."
        )
    if hardware.precision != "auto":
        return hardware
    chosen = choose_precision(device)  # which may start a GPU: a second
    with beginning(folder.path):
        settings = folder.settings
        if settings.hardware.precision == "auto":
            hardware = settings.hardware.model_copy(update={"precision": chosen})
            settings = settings.model_copy(update={"hardware": hardware})
            save(settings, folder.settings_file)
            folder.log(
                f"precision {chosen}: {'faster here' if chosen != '32-true' else 'this device has no bfloat16 of its own'}"
            )
        return settings.hardware
