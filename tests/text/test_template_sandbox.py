"""A template cannot run for ever, exhaust memory, or read its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vllm.text.template_sandbox import TemplateError, TemplateSandbox


@pytest.fixture(scope="module")
def sandbox():
    """Gives a template the time that a slow machine needs to reach its other limits."""
    made = TemplateSandbox(max_seconds=600, max_characters=1000)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty():
    made = TemplateSandbox(max_seconds=1)
    yield made
    made.close()


LOOP = "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = (
    "{% set ns = namespace(s='x') %}"
    "{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ 'x' * 10 ** 10 }}", "more memory than a template may have"),
        ("{{ 'x'.ljust(10 ** 10) }}", "more memory than a template may have"),
        (DOUBLING, "more memory than a template may have"),
        ("{% for i in range(99999) %}{{ i }}{% endfor %}", "more than 1000 characters"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "maximum recursion depth"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ x.append(1) }}", "not safely callable|unsafe"),
        ("{% include 'a' %}", "no loader"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_is_rendered(sandbox, source, message):
    with pytest.raises(TemplateError, match=message):
        sandbox.render(source, {"x": [1]})
    assert sandbox.render("{{ x }}漢", {"x": 1}) == "1漢"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (LOOP, "more than 1 seconds of CPU time"),
        ("{{ (2 ** (2 ** 30)) ** 5 }}", "more than 1 seconds|more memory"),
    ],
)
def test_what_takes_too_long_is_ended_and_the_next_is_rendered(hasty, source, message):
    with pytest.raises(TemplateError, match=message):
        hasty.render(source, {})
    assert hasty.render("{{ x }}漢", {"x": 1}) == "1漢"


def test_the_environment_of_the_process_is_not_there(sandbox, monkeypatch):
    monkeypatch.setenv("VLLM_SECRET", "s")
    sandbox.close()
    sandbox.render("", {})
    environment = Path(f"/proc/{sandbox._process.pid}/environ").read_bytes()
    assert b"VLLM_SECRET" not in environment


def test_a_process_that_was_killed_is_replaced(sandbox):
    sandbox.render("", {})
    process = sandbox._process
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert sandbox.render("a", {}) == "a"
    assert sandbox._process is not process


def test_a_process_that_is_killed_while_it_renders_is_told():
    sandbox = TemplateSandbox(max_seconds=600)
    sandbox.render("", {})
    killer = threading.Thread(target=_kill_when_busy, args=(sandbox._process.pid,))
    killer.start()
    with pytest.raises(TemplateError, match="exited with status -9"):
        sandbox.render(LOOP, {})
    killer.join()
    sandbox.close()


def test_a_process_that_dies_before_it_is_written_to_is_told(sandbox, monkeypatch):
    sandbox.render("", {})
    process = sandbox._process
    process.kill()
    process.wait()
    monkeypatch.setattr(sandbox, "_running", lambda: process)  # it was alive a moment ago
    with pytest.raises(TemplateError, match="exited with status -9"):
        sandbox.render("a" * 100_000, {})
    monkeypatch.undo()
    assert sandbox.render("a", {}) == "a"


def _kill_when_busy(pid):
    """Kills a process as soon as it computes, which no clock can tell."""
    before = _processor_time(pid)
    while _processor_time(pid) == before:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)


def _processor_time(pid):
    """The clock ticks that a process has used in user mode (proc_pid_stat(5), field 14)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


@pytest.mark.parametrize("module", ["vllm.text.template_worker", "vllm.entrypoints.openai.front"])
def test_a_process_whose_parent_has_ended_says_nothing(module):
    for name in ("fastapi", "torch") if module.endswith("front") else ():
        pytest.importorskip(name)
    ended = subprocess.run(
        [sys.executable, "-m", module], input=b"", capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_threads_get_their_own_answers(sandbox):
    wrong = []

    def render(number):
        for _ in range(50):
            if sandbox.render("{{ n }}", {"n": number}) != str(number):
                wrong.append(number)

    threads = [threading.Thread(target=render, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_may_be_started_before_it_is_needed(sandbox):
    sandbox.start()
    pid = sandbox._process.pid
    assert not sandbox.is_busy
    assert sandbox.render("x", {}) == "x"
    assert sandbox._process.pid == pid


def test_a_forked_child_has_a_process_of_its_own(sandbox):
    sandbox.render("", {})
    pid = os.fork()
    if not pid:
        os._exit(0 if sandbox.render("child", {}) == "child" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert sandbox.render("parent", {}) == "parent"


LIMITED = """
from vllm.text.template_sandbox import SANDBOX
print(SANDBOX.render("{{ 1 }}", {}))
with open(f"/proc/{SANDBOX._process.pid}/limits") as limits:
    print(*next(line for line in limits if "address space" in line).split()[3:5])
"""


def test_lower_limits_of_somebody_else_stay():
    command = ["bash", "-c", 'ulimit -v 800000 && exec "$0" -c "$1"', sys.executable, LIMITED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"1\n{800000 * 1024} {800000 * 1024}\n", "")
