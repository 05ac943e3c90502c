"""The thread pool: its size, concurrent callers, fork, and exit.

Each test runs a program in a separate process. A deadlock shows as a timeout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = r"""
import os, sys, threading, warnings
import numpy as np
from vllm import _C
warnings.simplefilter("ignore")  # Python 3.12 on fork with threads: meant here

x = np.random.default_rng(0).standard_normal((4000, 256)).astype(np.float32)  # 8 MB to move
weight = np.ones(256, np.float32)
expected = x / np.sqrt((x * x).mean(-1, keepdims=True))

def workers():
    # A worker names itself when it first runs.
    files = [open(f"/proc/self/task/{task}/status") for task in os.listdir("/proc/self/task")]
    fields = [dict(line.split(":\t", 1) for line in file) for file in files]
    return [each for each in fields if each["Name"] == "vllm-cpu\n"]

def work():
    out = np.full_like(x, np.nan)
    _C.rms_norm(out, x, weight, 0.0)
    np.testing.assert_allclose(out, expected, 1e-5)
"""


def run(program: str, threads: str = "4", **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        env={**os.environ, "VLLM_CPU_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def output(program: str, **options) -> str:
    done = run(program, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_work_is_spread_over_threads_made_at_first_use():
    program = """
        before = len(workers())
        small = np.ones((4, 8), np.float32)
        _C.rms_norm(small, small, np.ones(8, np.float32), 0.0)
        after_small = len(workers())
        work()
        while len(workers()) < 3: pass
        work()
        print(before, after_small, len(workers()))
    """
    assert output(program) == "0 0 3"


def test_one_thread_is_the_calling_one():
    program = """
        before = len(os.listdir("/proc/self/task"))
        work()
        print(len(os.listdir("/proc/self/task")) - before)
    """
    assert output(program, threads="1") == "0"


@pytest.mark.parametrize("processors", [1, 2])
def test_the_affinity_mask_says_how_many(processors):
    allowed = sorted(os.sched_getaffinity(0))
    if processors > len(allowed):
        pytest.skip("this machine has one processor")
    program = f"os.sched_setaffinity(0, {allowed[:processors]}); print(_C.cpu_threads())"
    assert output(program, threads="") == str(processors)


@pytest.mark.parametrize("threads", ["0", "-1", "1025", "2.5", "many", "9" * 30])
def test_a_wrong_number_is_an_error_of_every_op(threads):
    program = """
        for _ in range(2):
            try: work()
            except ValueError as error: print(error)
    """
    message = f"VLLM_CPU_THREADS is '{threads}': it takes a number from 1 to 1024"
    assert output(program, threads=threads).splitlines() == [message] * 2


def test_many_callers_at_once():
    program = """
        failures = []
        def caller():
            try:
                for _ in range(20): work()
            except BaseException as failure: failures.append(failure)
        callers = [threading.Thread(target=caller) for _ in range(6)]
        for each in callers: each.start()
        for each in callers: each.join()
        print(failures)
    """
    assert output(program) == "[]"


def test_a_child_of_fork_has_threads_of_its_own():
    program = """
        work()
        child = os.fork()
        work()
        if not child:
            grandchild = os.fork()
            work()
            if not grandchild: os._exit(7)
            os._exit(os.WEXITSTATUS(os.waitpid(grandchild, 0)[1]) + 1)
        print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
    """
    assert output(program) == "8"


def test_fork_while_another_thread_works():
    program = """
        done = threading.Event()
        def caller():
            while not done.is_set(): work()
        callers = [threading.Thread(target=caller) for _ in range(2)]
        for each in callers: each.start()
        statuses = set()
        for _ in range(20):
            child = os.fork()
            if not child:
                out = np.empty_like(x)  # no assert_allclose: NumPy's own locks may be held
                _C.rms_norm(out, x, weight, 0.0)
                os._exit(3 if abs(out - expected).max() < 1e-5 else 4)
            statuses.add(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
        done.set()
        for each in callers: each.join()
        print(statuses)
    """
    assert output(program) == "{3}"


@pytest.mark.parametrize("attempt", range(4))
def test_the_process_may_end_in_the_middle_of_work(attempt):
    """The threads are somewhere else each time; one of three ends used to crash."""
    program = """
        started = threading.Semaphore(0)
        def caller():
            while True:
                started.release()
                work()
        for _ in range(3): threading.Thread(target=caller, daemon=True).start()
        for _ in range(12): started.acquire()
        print("leaving")
    """
    assert output(program) == "leaving"


def test_signals_reach_the_main_thread():
    """A worker that took the signal would leave the main thread asleep."""
    program = """
        import signal
        signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
        work()
        while len(workers()) < 3: pass
        blocked = [int(worker["SigBlk"], 16) >> (signal.SIGUSR1 - 1) & 1 for worker in workers()]
        os.kill(os.getpid(), signal.SIGUSR1)
        print(blocked)
    """
    assert output(program).splitlines() == ["signal", "[1, 1, 1]"]
