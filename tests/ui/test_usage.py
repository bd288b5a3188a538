"""What a study takes of the machine, in words."""

from kdcore.jobs.usage import Gpu, Usage
from kdcore.ui.usage import cores, in_words


def test_busy_cores_are_the_seconds_of_the_processor_in_a_second():
    before = (100.0, Usage(1, 50.0))
    assert cores(before, 102.0, Usage(1, 53.0)) == 1.5
    assert cores(None, 102.0, Usage(1, 53.0)) is None
    assert cores(before, 100.2, Usage(1, 53.0)) is None  # too soon to mean anything
    assert cores(before, 102.0, Usage(1, 49.0)) is None  # a process has ended


def test_the_line_tells_what_is_known(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert in_words(Usage(1_234_000_000, 3.0), None, []) == "Memory 1.2 GB"
    assert in_words(Usage(300_000_000, 3.0), 1.94, [Gpu(87, 12_300, 80_000)]) == (
        "Memory 300.0 MB · processor 1.9 of 2 cores · GPU 87 %, 12.3 of 80.0 GB"
    )
