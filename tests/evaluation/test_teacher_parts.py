"""What made a teacher stronger, from reports written by hand."""

import json

import pytest

from kdcore.evaluation.advantage import teacher_parts
from kdcore.jobs.store import RunDirectory
from kdcore.settings import Budget, Recipe, RunSettings, save
from tests.conftest import TINY


@pytest.fixture
def run(tmp_path):
    def write(name, mean_ap, flips=False, **report) -> RunDirectory:
        folder = tmp_path / name
        folder.mkdir()
        settings = RunSettings(
            arm="teacher",
            seed=0,
            collection=tmp_path,
            network=TINY,
            recipe=Recipe(alpha=0),
            budget=Budget(),
            teacher=(tmp_path / "member.safetensors",) if name == "teacher" else (),
            teacher_flips=flips,
        )
        save(settings, folder / "settings.yaml")
        (folder / "report.json").write_text(
            json.dumps({"parameters": 1, "steps": 1, "seconds": 1.0, "validation": {"mean_ap": mean_ap}, **report})
        )
        return RunDirectory(folder)

    return write


def steps(*runs):
    return [(step["name"], round(step["mean_ap"], 4), step["points"]) for step in teacher_parts(runs)]


def test_one_network_as_it_is_has_no_steps(run):
    assert teacher_parts([run("teacher-s0", 0.8)]) == []


def test_every_step_adds_to_the_one_before(run):
    first = run("teacher-s0", 0.80, last_weights={"as_they_are": 0.70, "averaged": 0.76})
    second = run("teacher-s1", 0.82, last_weights={"as_they_are": 0.74, "averaged": 0.80})
    both = run("teacher", 0.86, flips=True, members=2, without_flips=0.84)
    assert steps(first, second, both) == [
        ("Last weights", 0.72, None),
        ("Weights averaged over the last steps (EMA)", 0.78, 6.0),
        ("Best checkpoint, mean of 2 networks", 0.81, 3.0),
        ("Answers of 2 networks averaged", 0.84, 3.0),
        ("Answers to eight turned and mirrored views averaged", 0.86, 2.0),
    ]


def test_flips_alone_and_an_ensemble_alone(run):
    member = run("teacher-s0", 0.80)
    flips = run("teacher", 0.81, flips=True, members=1)
    assert steps(member, flips) == [
        ("Best checkpoint", 0.8, None),
        ("Answers to eight turned and mirrored views averaged", 0.81, 1.0),
    ]


def test_an_ensemble_that_is_worse_than_its_networks_loses_points(run):
    members = [run("teacher-s0", 0.80), run("teacher-s1", 0.84)]
    assert steps(*members, run("teacher", 0.81, members=2))[-1] == ("Answers of 2 networks averaged", 0.81, -1.0)


def test_networks_that_were_given_are_not_scored_one_by_one(run):
    both = run("teacher", 0.86, flips=True, members=2, without_flips=0.84)
    assert steps(both) == [
        ("Answers of 2 networks averaged", 0.84, None),
        ("Answers to eight turned and mirrored views averaged", 0.86, 2.0),
    ]
