"""What a study at work takes of this machine, in one line."""

import os
import time

import streamlit as st

from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.usage import Gpu, Usage, gpus, measure
from kdcore.ui.formatting import megabytes

SOON = 0.5  # seconds between two looks, from which on a share of the processor means something


def show_usage(study: StudyFolder) -> None:
    """Memory, processor and GPU of a study's processes; nothing where they are on another machine or the system does not tell."""
    now, found, key = time.monotonic(), measure(study.lock), f"usage {study.id}"
    if found is None:
        return
    before = st.session_state.get(key)
    if before is None or now - before[0] > SOON:
        st.session_state[key] = (now, found)
    on_gpu = study.job.device != "cpu"
    st.caption(in_words(found, cores(before, now, found), gpus_now(int(now) // 4) if on_gpu else []))


@st.cache_data(max_entries=2, show_spinner=False)
def gpus_now(moment: int) -> list[Gpu]:
    """The GPUs, asked at most once in four seconds however many look."""
    return gpus()


def cores(before: tuple[float, Usage] | None, now: float, found: Usage) -> float | None:
    """How many of the processor's cores were busy since the look before; None without one, or where a process has ended since."""
    if before is None or now - before[0] <= SOON or found.cpu_seconds < before[1].cpu_seconds:
        return None
    return (found.cpu_seconds - before[1].cpu_seconds) / (now - before[0])


def in_words(found: Usage, busy: float | None, devices: list[Gpu]) -> str:
    """'Memory 1.2 GB · processor 1.9 of 2 cores · GPU 87 %, 12.3 of 80.0 GB'."""
    parts = [f"Memory {megabytes(found.memory)}"]
    if busy is not None:
        parts.append(f"processor {busy:.1f} of {os.cpu_count()} cores")
    for number, gpu in enumerate(devices):
        name = f"GPU {number}" if len(devices) > 1 else "GPU"
        parts.append(f"{name} {gpu.percent:.0f} %, {gpu.used / 1000:.1f} of {gpu.total / 1000:.1f} GB")
    return " · ".join(parts)
