"""A test that has failed, and left a thread, does not keep Python from ending."""

from __future__ import annotations

import faulthandler
import threading
from types import SimpleNamespace

import pytest

from tests.conftest import pytest_unconfigure


@pytest.fixture
def ends(monkeypatch):
    """Whether it is ended: asked for each time, instead of done."""
    asked = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, exit: asked.append(exit))
    # What other tests have left in this process, and what the workers of xdist need.
    there = set(threading.enumerate())
    original, main = threading.enumerate, threading.main_thread()
    monkeypatch.setattr(threading, "enumerate", lambda: [main, *(set(original()) - there)])
    return asked


@pytest.mark.parametrize(("daemon", "expected"), [(False, [True]), (True, [])])
def test_python_is_ended_if_a_thread_is_left(ends, daemon, expected):
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, daemon=daemon)
    thread.start()
    try:
        pytest_unconfigure(SimpleNamespace())
        assert ends == expected
        pytest_unconfigure(SimpleNamespace(workerinput={}))  # a worker, whose time xdist knows
        assert ends == expected
    finally:
        go_on.set()
        thread.join()
