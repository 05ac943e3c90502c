"""The native module itself: what it exports, and how it fails."""

from __future__ import annotations

import ast
import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import vllm
from vllm import _C
from vllm.ops import tracing

FUNCTIONS = sorted(name for name in dir(_C) if not name.startswith("__"))


def signature(definition: ast.FunctionDef) -> tuple:
    """Its arguments, each with how it may be given and its type, and what it returns."""
    assert definition.returns is not None
    return ast.dump(definition.args), ast.dump(definition.returns)


def stubs() -> dict:
    stub = ast.parse(Path(vllm.__file__).with_name("_C.pyi").read_text(encoding="utf-8"))
    return {node.name: signature(node) for node in stub.body if isinstance(node, ast.FunctionDef)}


def test_the_stub_names_what_there_is():
    assert sorted(stubs()) == FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_stub_has_the_signature_that_was_compiled(name):
    line, empty, about = getattr(_C, name).__doc__.split("\n", 2)
    (definition,) = ast.parse(f"def {line}: ...").body
    assert isinstance(definition, ast.FunctionDef)
    assert definition.name == name
    assert signature(definition) == stubs()[name]
    assert not empty
    assert about.endswith(".")


# A torch schema's word for each type of an argument.
SCHEMA_TYPES = {
    "Tensor": "Tensor",
    "Tensor?": "Optional[Tensor]",
    "float": "float",
    "int": "int",
    "bool": "bool",
}


@pytest.mark.parametrize("name", sorted(tracing._SCHEMAS))
def test_the_torch_schema_has_the_signature_that_was_compiled(name):
    """Which tensors are written, a schema alone says; tests/ops/test_compile.py has torch see."""
    found = re.fullmatch(r"\((.*)\) -> \(\)", tracing._SCHEMAS[name])
    assert found is not None
    arguments = [each.rsplit(" ", 1) for each in found[1].split(", ")]
    arguments = [(re.sub(r"\([a-z]!\)", "", kind), argument) for kind, argument in arguments]
    words = ", ".join(f"{argument}: {SCHEMA_TYPES[kind]}" for kind, argument in arguments)
    assert getattr(_C, name).__doc__.split("\n")[0] == f"{name}({words}, /) -> None"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: _C.rms_norm(), "rms_norm takes 4 arguments (out, input, weight, epsilon)"),
        (lambda: _C.silu_and_mul(1, 2, 3), "by position; got 3"),
        (lambda: _C.select_code("9", 0), "select_code: argument 'major' takes an integer"),
        (lambda: _C.select_code(9.5, 0), "select_code: argument 'major' takes an integer"),
        (lambda: _C.select_code(9, 2**70), "select_code: argument 'minor' takes an integer"),
        (
            lambda: _C.rms_norm(*[np.ones((2, 8), "f4")] * 2, np.ones(8, "f4"), "small"),
            "rms_norm: argument 'epsilon' takes a number: must be real number, not str",
        ),
    ],
)
def test_a_wrong_call_says_what_it_takes(call, words):
    with pytest.raises(TypeError) as raised:
        call()
    assert words in str(raised.value)


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="this machine has an NVIDIA driver"
)
@pytest.mark.parametrize("ask", [_C.devices, _C.driver_version])
def test_no_driver_is_an_error_that_says_so(ask):
    for _ in range(2):  # and again: a failed start is not remembered as a success
        with pytest.raises(RuntimeError, match=r"no NVIDIA driver on this machine: libcuda\.so\.1"):
            ask()


def test_exceptions_of_the_cpu_kernels_cross_over():
    code = "from vllm import _C\ntry: _C.cpu_isa()\nexcept ValueError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "VLLM_CPU_ISA": "pentium"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pentium" in done.stdout


def test_no_reference_is_lost_or_kept():
    """Each thing that a call touches has as many references afterwards as before."""
    array, weight = np.ones((2, 8), ml_dtypes.bfloat16), np.ones(8, ml_dtypes.bfloat16)
    epsilon, wrong = 0.125, object()
    touched = [array, weight, epsilon, wrong, type(array), type(wrong), array.dtype, None]

    def call() -> None:
        _C.rms_norm(array, array, weight, epsilon)
        for arguments in [(array, wrong, weight, epsilon), (array, array, weight, wrong), ()]:
            with pytest.raises(TypeError):
                _C.rms_norm(*arguments)
        _C.loaded_kernels()

    call()
    gc.collect()  # exceptions hold references to what their frames had
    before = [sys.getrefcount(each) for each in touched]
    calls = 5000  # other tests' garbage moves the counts of None and of types, by hundreds
    for _ in range(calls):
        call()
    gc.collect()
    after = [sys.getrefcount(each) for each in touched]
    assert max(abs(now - then) for now, then in zip(after, before)) < calls / 2


def test_threads_may_call_at_once():
    """Big enough to let go of the interpreter lock and to use the workers of one another."""
    rows, width = 64, 4096
    inputs = [np.full((rows, width), n + 1, np.float32) for n in range(4)]
    outs = [np.empty_like(each) for each in inputs]
    weight = np.arange(width, dtype=np.float32)
    start = threading.Barrier(len(inputs))

    def work(n: int) -> None:
        start.wait()
        for _ in range(20):
            _C.rms_norm(outs[n], inputs[n], weight, 0.0)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs:
        np.testing.assert_allclose(out, np.broadcast_to(weight, out.shape), rtol=1e-6)
