"""What holds for every file of a stranger: no host is asked, and nothing goes on without end or takes all memory."""

import resource
import signal
import socket

import pytest

SECONDS = 120  # far more than any refusal takes; a test that hangs fails instead
BYTES = 6_000_000_000  # of address space above what the test process has already


@pytest.fixture(autouse=True)
def _no_host(monkeypatch):
    asked: list[object] = []

    def refuse(*arguments, **_):
        asked.append(arguments[:2])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert asked == []


@pytest.fixture(autouse=True)
def _limits():
    def stop(*_):
        raise AssertionError("went on without end")

    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    signal.alarm(0)
