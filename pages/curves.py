"""Curves: does distillation help? Precision and recall of all arms, one threshold, and what the difference is worth."""

import streamlit as st

from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import curves
from kdcore.ui.study_picker import choose_study
from kdcore.ui.verdict import show_gap, show_verdict


def show(study: StudyFolder) -> None:
    """A study's verdict, curves, differences and calibration."""
    report = study.report()
    path, files = str(study.path), curves.stamp(study)
    measured = curves.load_curves(path, files)

    show_verdict(report)
    show_gap(report)
    view = curves.choose_view(measured)
    curves.show_curves(path, files, view, report["data"]["metres_per_pixel"])
    curves.show_reading_help(measured, view)

    st.header("Is the difference real, or chance?")
    curves.show_differences(path, files, view, report["comparison"])

    curves.show_quality(path, files, report["comparison"])

    st.header("What is taken for what?")
    curves.show_confusion(path, files)

    st.header("Can its probabilities be trusted?")
    curves.show_calibration(path, files, view)


chosen = choose_study("Does distillation help?", ":material/show_chart:")
if chosen is not None:
    show(chosen)
