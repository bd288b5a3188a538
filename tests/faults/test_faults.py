"""A short crash campaign: each kind of fault. The long one, with deployments and servers, is benchmarks/faults.py.

Whatever the moment, the same must hold: nothing is lost or shown alive that is dead, every file can be read, nothing is left over, and
the result is bit-identical to that of an undisturbed piece of work.
"""

import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.campaign import Calm, NoDiskError, Outcome
from tests.faults.process import Fault, begin, ended, operations, stopped

pytestmark = pytest.mark.slow  # trainings and maps, each again and again; two minutes in all
QUICK = ["study", "soft-label cache", "prediction"]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Calm]:
    """Each kind of work, undisturbed; made when it is asked for."""
    base = campaign.make_base(tmp_path_factory.mktemp("faults") / "base")

    @cache
    def undisturbed(name: str) -> Calm:
        return campaign.undisturbed(name, base, tmp_path_factory.mktemp("calm") / name.replace(" ", "-"))

    return undisturbed


def survived(outcomes: list[Outcome]) -> None:
    assert outcomes
    assert [outcome for outcome in outcomes if outcome.problems] == []


@pytest.mark.parametrize(("name", "kills"), [*((name, 4) for name in QUICK), ("sweep", 1)])
def test_killed_again_and_again(calm, tmp_path, name, kills):
    """The first kill is before an operation in the first half, so that there is one on any machine."""
    whole = calm(name)
    place = tmp_path / "place"
    whole.kind.prepare(place)
    assert ended(begin(whole.kind.work, place, Fault(whole.operations // 3))) == -9
    problems: list[str] = []
    campaign.check_dead(whole.kind, place, problems)
    assert problems == []
    survived(campaign.kill_again_and_again(whole, place, random.Random(name), kills - 1, begun=True))


@pytest.mark.parametrize(("name", "every"), [("study", 6), ("soft-label cache", 1), ("prediction", 2), ("sweep", 25)])
def test_a_reader_during_writes(calm, tmp_path, name, every):
    survived(campaign.read_at_every_moment(calm(name), tmp_path / "place", every))


@pytest.mark.parametrize(
    ("name", "share"),
    [("study", None), ("study", 0.6), ("prediction", None), ("prediction", 0.3), ("soft-label cache", 0.6)],
)
def test_a_bad_disk(calm, tmp_path, name, share):
    try:
        survived([campaign.on_a_bad_disk(calm(name), tmp_path / "disk/place", share)])
    except NoDiskError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "days"), [("study", -10), ("prediction", 10)])
def test_a_jump_of_the_clock(calm, tmp_path, name, days):
    whole = calm(name)
    outcome = campaign.with_another_clock(
        whole, tmp_path / "place", whole.operations // 4, 86400 * days, whole.operations // 2
    )
    survived([outcome])


@pytest.mark.parametrize(
    ("name", "kill"), [("study", True), ("soft-label cache", False), ("prediction", True), ("prediction", False)]
)
def test_two_commands_for_one_output(calm, tmp_path, name, kill):
    whole = calm(name)
    outcome = campaign.two_at_once(whole, tmp_path / "place", whole.operations // 2, kill)
    assert outcome.injected
    survived([outcome])


class TestTheCampaignItself:
    """What would not be survived is told."""

    def test_tells_of_other_results_leftovers_and_states(self, calm, tmp_path):
        whole = calm("study")
        place = tmp_path / "place"
        whole.kind.prepare(place)
        assert ended(begin(whole.kind.work, place)) == 0
        problems: list[str] = []
        campaign.check_done(whole, place, problems)
        assert problems == []
        (place / "town/.kdcore-tmp-abc").mkdir()
        map_file = next((place / "town/runs/alone-s0/maps").glob("*.tif"))
        map_file.write_bytes(map_file.read_bytes() + b"\0")
        campaign.check_done(whole, place, problems)
        assert [re.sub(" is .*", "", problem) for problem in problems] == [
            f"/runs/alone-s0/maps/{map_file.name}",
            "left over: ['town/.kdcore-tmp-abc']",
        ]

    def test_tells_of_what_is_dead_and_shown_alive_and_of_files_that_cannot_be_read(self, calm, tmp_path):
        whole = calm("study")
        place = tmp_path / "place"
        whole.kind.prepare(place)
        process = begin(whole.kind.work, place, Fault(whole.operations // 2, "pause"))
        assert stopped(process)
        problems: list[str] = []
        campaign.check_dead(whole.kind, place, problems)
        assert [problem.partition(":")[0] for problem in problems] == [
            "a lock is held by nobody",
            "what is dead is shown alive",
        ]
        process.kill()
        ended(process)
        problems.clear()
        campaign.check_dead(whole.kind, place, problems)
        assert problems == []
        (place / "town/about.json").write_text("{")
        campaign.check_dead(whole.kind, place, problems)
        assert problems[0].startswith("a file cannot be read")

    def test_counts_operations_on_files_of_the_folder_only(self, tmp_path):
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        assert ended(begin(four_operations, whole)) == 0
        assert operations(whole) == 4
        assert ended(begin(four_operations, killed, Fault(4))) == -9
        assert sorted(path.name for path in whole.iterdir()) == ["c"]
        assert sorted(path.name for path in killed.iterdir()) == ["a", "c"]


def four_operations(place: Path) -> None:
    place.mkdir()  # not in the folder: the folder itself
    (place / "a").write_text("1")
    (place.parent / "elsewhere").write_text("1")
    (place / "a").read_text()
    (place / "b").write_text("1")
    (place / "b").rename(place / "c")
    (place / "a").unlink()
