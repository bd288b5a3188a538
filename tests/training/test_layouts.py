"""A folder as people have it trains with the settings that are proposed, unedited."""

import pytest

from kdcore.data.inspect import inspect
from kdcore.data.propose import proposal_text
from kdcore.jobs.store import RunDirectory
from kdcore.settings import Recipe
from kdcore.training.run import execute
from tests.conftest import run_settings
from tests.folders import build, write_vector


def split_folders(root):
    for part, numbers in (("train", range(1, 4)), ("val", range(4, 6)), ("test", range(6, 8))):
        build(root, f"{part}/images/{{n}}_sat.jpg", f"{part}/masks/{{n}}_mask.png", numbers)


def one_vector_file(root):
    build(root, "tiles/t{n}.tif", None)
    write_vector(root / "buildings.gpkg", range(1, 6))


@pytest.mark.parametrize("make", [split_folders, one_vector_file])
def test_a_proposal_trains_as_it_is(make, tmp_path):
    make(tmp_path / "c")
    found = inspect(tmp_path / "c", crop=64)
    assert found.problems == []
    (tmp_path / "c/collection.yaml").write_text(proposal_text(found), encoding="utf-8")
    settings = run_settings(tmp_path / "c/collection.yaml", recipe=Recipe(alpha=0))
    run = RunDirectory.create(tmp_path / "alone-s0", settings)
    execute(run)
    test = {name for name in found.scenes if name.startswith("test_")} or set(found.proposal.split.test)
    assert {file.stem for file in run.path.rglob("*.tif")} >= test
