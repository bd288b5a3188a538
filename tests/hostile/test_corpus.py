"""A spread sample of the corpus of hostile inputs; all of it is `benchmarks/hostile.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.corpus import CASES

ROOT = Path(__file__).parents[2]
EVERY = 23
SLOW = ("ONNX: ", "page", "report", "zeros", "Range", "70 MB", "900 MB", "4 GB")  # of seconds; the benchmark has them


@pytest.fixture(autouse=True)
def _limits():
    """The nursery has limits of its own for each input; how long all take says something about the machine only."""


def test_a_sample_of_all_doors_is_right(tmp_path):
    """Each through the real command in a process of its own; that such a process is imported once makes it seconds."""
    quick = [name for name, case in CASES.items() if not case.user and not any(word in name for word in SLOW)]
    chosen = quick[::EVERY]
    seen = {CASES[name].door for name in chosen}
    assert seen >= {"data inspect", "predict", "study", "runs list", "runs show", "tiles", "upload"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.nursery", str(tmp_path / "n"), "-"],
        input=json.dumps(chosen),
        capture_output=True,
        cwd=ROOT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome["name"] for outcome in found] == chosen
    assert [outcome for outcome in found if not outcome["right"]] == []


def test_the_corpus_is_large_and_reaches_all_doors():
    assert len(CASES) >= 300
    doors = {case.door for case in CASES.values()}
    assert doors == {
        *("data inspect", "evaluate", "study", "predict", "profile", "export"),
        *("runs list", "runs show", "report", "upload", "page", "tiles"),
    }
