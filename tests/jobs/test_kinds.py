"""Every kind of job is found by its name, and so is its work."""

import pytest

from kdcore.deploy.folder import DeploymentFolder
from kdcore.inference.uploads import Upload
from kdcore.jobs import worker
from kdcore.jobs.question import DataLook, Measurement
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.sweep_folder import SweepWorker
from kdcore.jobs.worker import named

KINDS = [StudyFolder, SweepWorker, DeploymentFolder, Upload, DataLook, Measurement]


@pytest.mark.parametrize("kind", KINDS)
def test_is_found_by_its_process(kind):
    assert named(kind.KIND) is kind
    assert callable(named(kind.WORK))


def test_a_process_without_a_folder_says_how_it_is_called(capsys):
    assert worker.main([StudyFolder.KIND]) == 2
    assert "usage: python -m kdcore.jobs.worker" in capsys.readouterr().err
