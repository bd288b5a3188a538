"""Imports of large libraries."""

import gc
import sys

import pytest

from kdcore.imports import large_imports


@pytest.fixture
def without_torch(monkeypatch):
    """As a process is that has just begun."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    frozen = gc.get_freeze_count()
    yield
    if not frozen:
        gc.unfreeze()


@pytest.mark.usefixtures("without_torch")
class TestLargeImports:
    def test_nobody_looks_for_garbage_meanwhile_and_afterwards_not_among_what_is_there(self):
        kept = [[] for _ in range(1000)]
        with large_imports():
            with large_imports():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled()
        assert not {id(item) for item in kept} & {id(item) for item in gc.get_objects()}

    def test_collecting_goes_on_after_a_failure(self):
        with pytest.raises(ImportError), large_imports():
            raise ImportError
        assert gc.isenabled()

    def test_leave_it_off_where_it_is_off(self):
        gc.disable()
        try:
            with large_imports():
                pass
            assert not gc.isenabled()
        finally:
            gc.enable()


def test_nothing_changes_where_torch_is_there_already():
    import torch  # noqa: F401

    kept: list[int] = []
    with large_imports():
        assert gc.isenabled()
    assert any(item is kept for item in gc.get_objects())  # not among what is never looked at again
