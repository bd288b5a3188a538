"""Who closes the tab, or kills the server, ends the work that was done for it: a look at data that takes ten minutes."""

import os
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg

from kdcore.jobs.library import Library
from kdcore.jobs.workspace import Workspace
from tests.conftest import write_collection
from tests.jobs.studies import wait_for
from tests.server.conftest import ROOT, Served, Tab

# Imported by Python itself as it starts: makes the look at the data slow, whatever is looked at.
SLOW = """
import os, sys, time, types

def sleep(*_, **__):
    with open({file!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    time.sleep(600)

if "kdcore.jobs.question:DataLook" in sys.orig_argv:
    sys.modules["kdcore.views.data_overview"] = types.SimpleNamespace(look=sleep)
"""


@pytest.fixture(scope="module")
def pids(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pids") / "pids"


@pytest.fixture(scope="module")
def served(serve, tmp_path_factory, pids) -> Served:
    folder = tmp_path_factory.mktemp("leaving")
    (folder / "slow").mkdir()
    (folder / "slow/sitecustomize.py").write_text(SLOW.format(file=str(pids)))
    data = write_collection(folder / "data")
    Library(Workspace(folder / "studies")).remember(data if data.is_dir() else data.parent)
    (folder / "tmp").mkdir()
    path = os.pathsep.join([str(folder / "slow"), str(ROOT)])
    return serve(folder / "studies", folder, PYTHONPATH=path, TMPDIR=str(folder / "tmp"))


def look(served: Served, pids: Path) -> tuple[Tab, int]:
    """Open the Data page on the collection, and give the process that looks at it once it lives."""
    pids.unlink(missing_ok=True)
    (known,) = Library(Workspace(served.workspace)).known()
    tab = Tab(served)
    asked = BackMsg()
    asked.rerun_script.page_name, asked.rerun_script.query_string = "data", f"collection={known.path}"
    tab.socket.send(asked.SerializeToString())
    wait_for(lambda: pids.exists() and pids.read_text().strip())
    return tab, int(pids.read_text().split()[0])


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow  # the test waits for a server, which imports what the pages need
def test_a_closed_tab_ends_the_look_at_its_data(served, pids):
    tab, pid = look(served, pids)
    assert not ended(pid)
    tab.close()
    wait_for(lambda: ended(pid))


@pytest.mark.slow  # the same server, which ends here
def test_a_killed_server_ends_the_look_at_its_data(served, pids):
    tab, pid = look(served, pids)
    assert not ended(pid)
    temporary = served.workspace.parent / "tmp"
    wait_for(lambda: len(list(temporary.glob("kdcore-question-*"))) == 1)  # that of the test above is gone
    served.process.kill()
    served.process.wait()
    wait_for(lambda: ended(pid))
    assert list(temporary.glob("kdcore-question-*")) == []
    tab.close()
