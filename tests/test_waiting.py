"""Whether a process is there, and for how long tests wait."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests import waiting
from tests.waiting import is_there, until, until_gone


def test_a_process_is_there_until_it_has_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_there(process.pid)
        process.stdin.close()
        until_gone([process.pid])  # a zombie, until this process asks how it has ended
        assert process.wait() != 0
    assert not is_there(process.pid)


def test_a_process_that_ends_while_it_is_asked_for(monkeypatch):
    def read(path):
        raise ProcessLookupError

    monkeypatch.setattr(waiting.Path, "read_text", read)
    assert not is_there(1)


def test_what_comes_late_is_waited_for_and_what_never_comes_is_told(monkeypatch):
    come = threading.Event()
    timer = threading.Timer(0.05, come.set)
    timer.start()
    until(come.is_set, "it has not come")
    timer.join()
    monkeypatch.setattr(waiting, "PATIENCE", 0)
    with pytest.raises(AssertionError, match="it has not come"):
        until(lambda: False, "it has not come")
