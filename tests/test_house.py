"""Rules of the house: who may import what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "kdcore"
FILES = sorted(HOUSE.rglob("*.py"))
PAGES = sorted((HOUSE.parent / "pages").glob("*.py"))
# Imports point to the left only.
ROOMS = [
    "bounded",
    "errors",
    "files",
    "imports",
    "ownership",
    "reading",
    "settings",
    "recipes",
    "jobs",
    "data",
    "models",
    "divergences",
    "losses",
    "evaluation",
    "teacher",
    "inference",
    "deploy",
    "views",
    "training",  # behind views, because a study ends with its page
    "server",
    "ui",
    "cli",
    "api",
]
WITHOUT_TORCH = [
    "kdcore.settings",
    "kdcore.recipes",
    "kdcore.jobs.store",
    "kdcore.jobs.workspace",
    "kdcore.jobs.launch",
    "kdcore.jobs.sweep_claims",
    "kdcore.jobs.sweep_confirm",
    "kdcore.jobs.sweep_folder",
    "kdcore.jobs.sweep_library",
    "kdcore.jobs.worker",
    "kdcore.jobs.question",
    "kdcore.training.worker",  # a job that waits for a device is small
    "kdcore.evaluation.report",
    "kdcore.evaluation.sweep_report",
    "kdcore.views.page",
    "kdcore.data.inspect",
    "kdcore.data.demo",
    "kdcore.teacher.cost",
    "kdcore.deploy.record",
    "kdcore.deploy.costs",
    "kdcore.cli",
]


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_imports_point_one_way(file):
    own = file.relative_to(HOUSE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):
        return
    for name in imports(file):
        if name.startswith("kdcore.") and room(name) in ROOMS:
            assert ROOMS.index(room(name)) <= ROOMS.index(own), f"{file.name} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_only_the_ui_imports_streamlit(file):
    if file.relative_to(HOUSE).parts[0] != "ui":
        assert not any(name.split(".")[0] == "streamlit" for name in imports(file))


LOOK = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    print(name, "torch" in sys.modules, "streamlit" in sys.modules)
"""


def test_what_serves_pages_never_imports_torch():
    """One process imports all of them; the first line that says True names the module that did it."""
    command = [sys.executable, "-c", LOOK, *WITHOUT_TORCH]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [f"{module} False False" for module in WITHOUT_TORCH]


def test_trainings_and_predictions_import_no_pandas():
    """It takes a third of a second, also where a library of those that stand at the top of a file brings it."""
    code = f"{LOOK}sys.exit('pandas' in sys.modules)"
    modules = ["kdcore.training.sweep", "kdcore.inference.merging", "kdcore.deploy.make", "kdcore.views.page"]
    assert subprocess.run([sys.executable, "-c", code, *modules], check=False).returncode == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_nothing_is_pickled(file):
    assert not imports(file) & {"pickle", "joblib", "dill"}


@pytest.mark.parametrize("file", [*PAGES, *(HOUSE / "ui").glob("*.py")], ids=lambda file: file.name)
def test_pages_run_to_their_end(file):
    """`st.stop` drops what was clicked inside a fragment while the page was being drawn (Streamlit 1.67)."""
    calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert "st.stop" not in {ast.unparse(call) for call in calls}
