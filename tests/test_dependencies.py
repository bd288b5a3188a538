"""Dependencies: no declared floor and no pin is a release with a known vulnerability, and what is imported is declared."""

import ast
import datetime
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADVISORIES = tomllib.loads((ROOT / ".ci/advisories.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(text) for text in (*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values()))]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def lowest(requirement: Requirement) -> Version | None:
    floors = [Version(part.version) for part in requirement.specifier if part.operator in (">=", "==", "~=")]
    return max(floors, default=None)


@pytest.mark.parametrize("advisory", ADVISORIES["advisory"], ids=lambda entry: f"{entry['package']} {entry['id']}")
def test_no_floor_and_no_pin_has_this_vulnerability(advisory):
    fixed = Version(advisory["fixed"])
    for requirements in (DECLARED, PINS):
        found = [entry for entry in requirements if canonicalize_name(entry.name) == advisory["package"]]
        assert found, "an advisory of something that is not used any more: take it out"
        for requirement in found:
            assert lowest(requirement) is not None
            assert lowest(requirement) >= fixed, f"{requirement}: {advisory['id']}, {advisory['what']}"


def test_advisories_are_dated_and_named():
    assert isinstance(ADVISORIES["date"], datetime.date)
    names = [entry["id"] for entry in ADVISORIES["advisory"]]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"CVE-\d{4}-\d{4,}", name) for name in names)


def test_every_package_that_is_imported_is_declared():
    """Also one that comes with another: starlette with streamlit."""
    known = packages_distributions()
    imported = set()
    for file in (*(ROOT / "kdcore").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    declared = {canonicalize_name(entry.name) for entry in DECLARED} | {"kdcore"}
    owners = {name: {canonicalize_name(owner) for owner in known.get(name, ())} for name in imported}
    strange = {name for name, found in owners.items() if found and not found & declared}
    assert strange - set(sys.stdlib_module_names) == set()


def test_pins_are_exact_and_fit_what_is_declared():
    versions = {canonicalize_name(entry.name): lowest(entry) for entry in PINS}
    assert all(len(entry.specifier) == 1 and str(entry.specifier).startswith("==") for entry in PINS)
    for requirement in DECLARED:
        name = canonicalize_name(requirement.name)
        if name != "kdcore":
            assert requirement.specifier.contains(versions[name], prereleases=True), requirement
