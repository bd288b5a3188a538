"""What was exported: every form with its checks, the files to take, those that are refused, and the commands that do the same."""

import shlex
from pathlib import Path

import pandas as pd
import streamlit as st

from kdcore.deploy.folder import JOB_FILES, MIMES, TITLES, files_of
from kdcore.deploy.record import Deployment, Form
from kdcore.jobs.bundle import size_in, zipped
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.formatting import megabytes, plain, sentence
from kdcore.ui.study_picker import workspace
from kdcore.views.arms import ARM_NAMES
from kdcore.views.deploy import FORM_NAMES, difference_in_words, fastest, flips_in_words

IN_BFLOAT16 = (
    " Run in bf16: the same ONNX file, in OpenVINO with the property `INFERENCE_PRECISION_HINT: bf16`; "
    "`kdcore predict` does so with `--engine openvino-bf16`."
)


def show_exports(study: StudyFolder, folder: Path, known: Deployment) -> None:
    """The exported files with their checks, downloads, refusals and commands."""
    st.header("Take it with you")
    exported = [form for form in known.forms if form.kind != "torch"]
    offered = [form for form in exported if form.file and not form.refused]
    if offered:
        show_checks(offered)
        if any((folder / form.file).is_file() for form in offered):
            show_downloads(study, folder, offered)
        else:
            st.info(
                "The files themselves are not on this machine. **Export and measure again** below makes them.",
                icon=":material/info:",
            )
    else:
        st.info("No exported file passed its checks.", icon=":material/info:")
    for form in exported:
        if form.refused:
            st.warning(
                plain(f"{ARM_NAMES[form.arm]}, {FORM_NAMES[form.kind]}: not offered. {sentence(form.refused)}"),
                icon=":material/block:",
            )
    show_commands(study, folder, known)


def show_checks(offered: list[Form]) -> None:
    """A row for each form: does it do what the original does?"""
    st.table(
        pd.DataFrame(
            {
                "Network": [ARM_NAMES[form.arm] for form in offered],
                "Form": [FORM_NAMES[form.kind] for form in offered],
                "File": [plain(form.file) for form in offered],
                "Size": [megabytes(1e6 * form.megabytes) for form in offered],
                "Pixels with another label": [flips_in_words(form.flips) for form in offered],
                "Largest difference of a probability": [
                    "–" if form.largest_difference is None else f"{form.largest_difference:.2g}" for form in offered
                ],
                "Mean AP gained, points": [difference_in_words(form) for form in offered],
            }
        ),
        hide_index=True,
        border="horizontal",
        alt="Every exported file with its size and how far its predictions differ from the original network's",
    )
    st.caption(
        "Compared with the original in PyTorch: labels and probabilities on real tiles, mean AP on the validation split "
        "with a 95 % interval." + (IN_BFLOAT16 if any(form.kind == "bf16" for form in offered) else "")
    )


def show_downloads(study: StudyFolder, folder: Path, offered: list[Form]) -> None:
    """A menu of files for each form that has its own, and everything as a ZIP. A file is read only when its button is pressed."""
    with st.container(horizontal=True):
        for form in offered:
            if form.kind == "bf16":
                continue
            label = f"{ARM_NAMES[form.arm]}, {FORM_NAMES[form.kind]}"
            with st.popover(label, icon=":material/download:"):
                for path in files_of(folder, form):
                    st.download_button(
                        f"{TITLES[path.suffix]} ({megabytes(path.stat().st_size)})",
                        path.read_bytes,
                        file_name=f"{study.id}-{path.name}",
                        mime=MIMES[path.suffix],
                        key=f"take {path.name}",
                        icon=":material/description:",
                        on_click="ignore",
                    )
        st.download_button(
            f"Everything (ZIP, {megabytes(size_in(folder, JOB_FILES))})",
            lambda: zipped(folder, f"{study.id}-deploy", JOB_FILES),
            file_name=f"{study.id}-deploy.zip",
            mime="application/zip",
            icon=":material/folder_zip:",
            on_click="ignore",
        )


def show_commands(study: StudyFolder, folder: Path, known: Deployment) -> None:
    """The commands that export and predict without the dashboard."""
    best = fastest(known, "distilled")
    network, engine = Path("student.onnx"), ""
    if best is not None and best.speed is not None and best.form.file:
        network, engine = folder / best.form.file, f" --engine {best.speed.engine}"
    run = next((form.run for form in known.forms if form.arm == "distilled"), "distilled-s0")
    checkpoint = study.path / "runs" / run / "checkpoints/best.safetensors"
    with st.expander("The same on the command line", icon=":material/terminal:"):
        st.markdown("Export a network, then mark imagery of any size with it:")
        st.code(
            f"kdcore export {quoted(checkpoint)} student.onnx --int8 --data {quoted(data_of(study))}\n"
            f"kdcore predict {quoted(network)} imagery.tif --out maps{engine}",
            language="bash",
            wrap_lines=True,
        )


def data_of(study: StudyFolder) -> Path:
    """The collection that a study was trained on, as a command wants it named."""
    about = study.about
    return study.collection if about.demo is None else workspace().areas / f"demo-{about.demo}"


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))
