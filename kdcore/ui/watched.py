"""One place as every network of a study sees it while it learns: pictures that the trainings write, beside photo and truth."""

import base64
import io
from functools import lru_cache
from html import escape
from pathlib import Path

import streamlit as st
from PIL import Image

from kdcore.jobs.plan import RunProgress, StudyProgress
from kdcore.jobs.small_files import modified
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.reading import ReadingError, read_bytes
from kdcore.settings import class_colours
from kdcore.ui import words
from kdcore.views.arms import ARM_NAMES, key_html
from kdcore.views.map_layers import swatch_html

MOST_BYTES = 1_000_000  # of a picture
LARGEST = 1024  # pixels wide and tall


def draw_watched(study: StudyFolder, progress: StudyProgress) -> None:
    """Photo, truth, and the latest picture of each arm with its step; nothing where no training has written one."""
    runs = {run.name: RunDirectory(study.path / "runs" / run.name) for run in progress.runs}
    drawn = {name: changed for name, run in runs.items() if (changed := modified(run.watched / "prediction.png"))}
    if not drawn:
        return
    newest = runs[max(drawn, key=drawn.__getitem__)].watched
    figures = [figure(newest / "photo.jpg", "Photo"), figure(newest / "truth.png", "Truth")]
    for arm, name in ARM_NAMES.items():
        of_arm = [run for run in progress.runs if run.arm == arm]
        if of_arm:
            latest = max(of_arm, key=lambda run: drawn.get(run.name, 0))
            several = len({run.seed for run in progress.runs if run.arm == arm}) > 1
            figures.append(
                network_figure(runs[latest.name], latest, f"{name}, seed {latest.seed}" if several else name)
            )
    st.html(f'<div class="kdcore-watched">{"".join(figures)}</div>{legend_of(study)}')
    st.caption(words.WATCHED)


def legend_of(study: StudyFolder) -> str:
    """The colours of the classes."""
    classes, colours = ((study.data or {}).get(key) for key in ("classes", "colours"))
    if not isinstance(classes, list) or not isinstance(colours, list):
        return ""
    named = zip(classes, class_colours(colours), strict=False)
    return " ".join(f"{swatch_html(escape(str(colour)))}{escape(str(name))}" for name, colour in named)


def network_figure(run: RunDirectory, progress: RunProgress, name: str) -> str:
    """What a network made of the place when it was validated last."""
    file = run.watched / "prediction.png"
    step = picture(file, modified(file))[1]
    told = "no picture yet" if step is None else f"step {step:,} of {progress.steps:,}"
    return figure(file, name, told, key_html(progress.arm))


def figure(file: Path, name: str, told: str = "", key: str = "") -> str:
    """A picture with its name; an empty frame where there is none."""
    address, _ = picture(file, modified(file))
    said = escape(f"{name}, {told}" if told else name)
    shown = f'<img src="{address}" alt="{said}">' if address else f'<div role="img" aria-label="{said}"></div>'
    return f"<figure>{shown}<figcaption>{key}{escape(name)}<br><small>{escape(told)}</small></figcaption></figure>"


@lru_cache(maxsize=100)
def picture(file: Path, changed: int) -> tuple[str, int | None]:
    """A picture as an address, and the step that it says it was made after; empty and None where it cannot be read.

    Args:
        file: PNG or JPEG.
        changed: when; makes a new one count as another.
    """
    try:
        data = read_bytes(file, MOST_BYTES)
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            form, large, step = image.format, max(image.size) > LARGEST, str(image.info.get("step", ""))
    except (OSError, ReadingError, Image.DecompressionBombError, ValueError, SyntaxError):
        return "", None
    if form is None or large:
        return "", None
    address = f"data:image/{form.lower()};base64,{base64.b64encode(data).decode()}"
    return address, int(step) if step.isdecimal() and len(step) < 12 else None
