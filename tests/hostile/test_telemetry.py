"""Nothing is reported to anybody."""

import os
import subprocess
import sys

CODE = """
import socket
asked = []
def refuse(*arguments, **more):
    asked.append(arguments[:2])
    raise OSError("no network here")
socket.getaddrinfo = refuse
socket.socket.connect = refuse
from kdcore.inference.quiet_openvino import import_openvino
openvino = import_openvino()
openvino.Core()
import openvino.tools.ovc.convert_impl
import time; time.sleep(1)  # a sender has a thread of its own
print(asked, "openvino_telemetry.main" in __import__("sys").modules)
"""


def test_openvino_asks_no_host_and_writes_nothing_into_the_home_folder(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] False"
    assert list(tmp_path.iterdir()) == []


def test_openvino_is_imported_through_that_door_only():
    from tests.test_house import FILES, HOUSE

    for file in FILES:
        if file.name != "quiet_openvino.py":
            lines = file.read_text().splitlines()
            assert not [line for line in lines if line.strip().startswith(("import openvino", "from openvino"))], (
                file.relative_to(HOUSE)
            )
