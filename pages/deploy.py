"""Deploy: what is gained by using the student instead of the teacher, what it costs, and the files to take along."""

import streamlit as st

from kdcore.deploy.folder import deployment_folder
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import deploy_job
from kdcore.ui.deploy_costs import show_costs
from kdcore.ui.deploy_files import show_exports
from kdcore.ui.deploy_results import show_headline, show_pareto
from kdcore.ui.study_picker import PARAMETER, choose_study, workspace


def show(study: StudyFolder) -> None:
    """A study's exports, or the button that makes them."""
    folder = deployment_folder(workspace(), study)
    records = deploy_job.records(workspace(), study)
    if not records:
        deploy_job.offer(workspace(), study, folder, None)
        return
    known = records[0]
    show_headline(known, study.report())
    show_pareto(known)
    show_costs(study, known)
    show_exports(study, folder, known)
    st.caption(f"{deploy_job.measured_where(known)} {deploy_job.notes(folder, known)}")
    deploy_job.offer(workspace(), study, folder, known)


chosen = choose_study("What do I gain?", ":material/rocket_launch:")
if chosen is not None:
    show(chosen)
    st.page_link(
        "map.py",
        label="Hectares, and files for QGIS",
        icon=":material/straighten:",
        query_params={PARAMETER: chosen.id},
    )
