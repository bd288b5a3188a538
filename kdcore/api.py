"""A study from Python: `import kdcore; kdcore.Study("collection", out="studies/first").run()`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdcore.cli.choices import flags_of, study_settings
from kdcore.data.collection import Collection
from kdcore.evaluation.scores import Scores
from kdcore.jobs.naming import begin_study
from kdcore.jobs.plan import run_name
from kdcore.jobs.progress import Report, ignore
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import About
from kdcore.settings import Arm, StudySettings


class Study:
    """Teacher, student alone and distilled student, trained and compared in one folder; the same as `kdcore study`.

    Args:
        collection: a folder with `collection.yaml`, or that file.
        out: the study's folder; an unfinished one goes on where it was.
        preset: what the settings begin with; a key of `kdcore.settings.STUDY_PRESETS`.
        recipe: a key of `kdcore.settings.RECIPES`; without it the recommended one.
        temperature: in place of the recipe's.
        alpha: the teacher's share in [0, 1], in place of the recipe's.
        seeds: of the students; three or more give a verdict.
        settings: all settings, in place of everything above.

    Raises:
        KdcoreError: the collection cannot be used, a setting is out of range, or the folder holds something else.
    """

    def __init__(
        self,
        collection: Path | str,
        out: Path | str,
        *,
        preset: str = "quick",
        recipe: str | None = None,
        temperature: float | None = None,
        alpha: float | None = None,
        seeds: Sequence[int] | None = None,
        settings: StudySettings | None = None,
    ) -> None:
        data = Collection.open(Path(collection))
        if settings is None:
            numbers = None if seeds is None else ",".join(map(str, seeds))
            flags = flags_of(numbers, temperature, alpha, None, None, None, recipe=recipe)
            settings = study_settings(preset, None, flags, unlabelled=bool(data.unlabelled))
        about = About(title=Path(out).name[:200] or "study", collection=data.path, created=time.time())
        self.folder = begin_study(Path(out).absolute(), settings, about)

    def run(self, report: Report = ignore) -> "Study":
        """Do whatever is not done yet, in this process; Ctrl-C saves the state.

        Args:
            report: is told how far it is, as `kdcore.jobs.progress.Progress`.

        Raises:
            KdcoreError: anything that can be mended. What is finished stays.
        """
        from kdcore.training.worker import work  # torch takes a second

        work(self.folder, report, in_queue=False, forget_stop=True)
        return self

    @property
    def report(self) -> dict[str, Any]:
        """Scores, differences, intervals and verdict; see `kdcore.evaluation.report`."""
        return self.folder.report()

    @property
    def verdict(self) -> str:
        """Whether distillation helped, in a sentence."""
        return str(self.report["comparison"]["sentence"])

    def scores(self, arm: Arm, seed: int = 0) -> Scores:
        """Counts of the test part, from which every curve and threshold follows, of 'teacher', 'alone' or 'distilled'."""
        return Scores.load(self._run(arm, seed).scores)

    def checkpoint(self, arm: Arm = "distilled", seed: int = 0) -> Path:
        """The weights of a network, for `kdcore predict` and `kdcore export`."""
        return self._run(arm, seed).best

    def _run(self, arm: Arm, seed: int) -> RunDirectory:
        return RunDirectory(self.folder.path / "runs" / run_name(arm, seed))
