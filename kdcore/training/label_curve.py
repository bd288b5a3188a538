"""A label curve: one study for each share of the labels, one after the other, with one teacher. See `kdcore.evaluation.label_curve`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdcore.evaluation.label_curve import PREFIX, REPORT, check_shares, label_curve, share_folder, titled, with_share
from kdcore.jobs.progress import Report, ignore
from kdcore.jobs.study_folder import About, StudyFolder, check_goes_on
from kdcore.ownership import write_own_json
from kdcore.settings import Hardware, StudySettings
from kdcore.training.precision import settle
from kdcore.training.worker import work
from kdcore.views.label_curve import write_label_page


def same_numbers(folder: Path, hardware: Hardware) -> Hardware:
    """Hardware for shares that are added to a label curve: with the precision of those that are there, for they share their teacher.

    Raises:
        RunError: another one is asked for.
    """
    for file in sorted(folder.glob(f"{PREFIX}*/study.yaml")):
        study = StudyFolder(file.parent)
        hardware = hardware.as_begun(study.settings.hardware)
        if study.runs():
            check_goes_on(study.path, study.settings.hardware, hardware)
    return hardware


def run_label_curve(
    folder: Path,
    settings: StudySettings,
    shares: Sequence[float],
    about: About,
    unlabelled: bool,
    report: Report = ignore,
) -> dict[str, Any]:
    """Do whatever of a label curve is not done yet; shares may be added later.

    The first study trains the teacher and the others take it over, with its soft labels.

    Args:
        folder: of the curve; each share has its study in it.
        settings: of the studies; `labels` is replaced.
        shares: of the labels, 0 to 1.
        about: title and data.
        unlabelled: whether the data have imagery without labels.
        report: is told what happens.

    Returns:
        The curve's report, also written to `labels.json` and, as a page, to `labels.html`, whenever a study is finished.

    Raises:
        KdcoreError: shares of which no curve can be made, other settings than those that are there, or anything else the user can mend.
        Stopped: someone asked for it.
    """
    check_shares(shares)
    settings, studies = settings.model_copy(update={"hardware": same_numbers(folder, settings.hardware)}), []
    for share in sorted(shares):
        study = StudyFolder.begin(
            share_folder(folder, share),
            with_share(settings, share, unlabelled),
            about.model_copy(update={"title": titled(about.title, share)}),
        )
        settings = settings.model_copy(update={"hardware": settle(study)})
        studies.append(study)
    values: dict[str, Any] = {}
    for study in studies:
        work(study, report, in_queue=False, forget_stop=True)
        values = label_curve(folder)
        write_own_json(folder / REPORT, values, overwrite=True)
        write_label_page(folder, values)
    return values
