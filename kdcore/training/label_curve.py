"""A label curve: one study for each share of the labels, one after the other, with one teacher. See `kdcore.evaluation.label_curve`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdcore.evaluation.label_curve import REPORT, check_shares, label_curve, share_folder, titled, with_share
from kdcore.jobs.progress import Report, ignore
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.ownership import write_own_json
from kdcore.settings import StudySettings
from kdcore.training.worker import work
from kdcore.views.label_curve import write_label_page


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
    studies = [
        StudyFolder.begin(
            share_folder(folder, share),
            with_share(settings, share, unlabelled),
            about.model_copy(update={"title": titled(about.title, share)}),
        )
        for share in sorted(shares)
    ]
    values: dict[str, Any] = {}
    for study in studies:
        work(study, report, in_queue=False, forget_stop=True)
        values = label_curve(folder)
        write_own_json(folder / REPORT, values, overwrite=True)
        write_label_page(folder, values)
    return values
