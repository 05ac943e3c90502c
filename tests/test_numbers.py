"""What counts as a number, and what only converts to one."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from vllm.engine_args import EngineArgs
from vllm.numbers import as_integer, as_real
from vllm.sampling_params import SamplingParams


class Index:
    def __index__(self):
        return 7


class Real:
    def __float__(self):
        return 0.5


NEITHER = [True, False, None, "1", b"1", 1j, [1], {}]


def test_python_s_own():
    assert as_integer(5) == as_real(5) == 5
    assert as_real(0.5) == as_real(Real()) == as_real(Fraction(1, 2)) == as_real(Decimal("0.5"))
    assert as_integer(Index()) == 7
    assert as_integer(1.0) is as_integer(Decimal(1)) is None
    assert as_real(10**400) == 10**400
    assert as_real(Fraction(10**400)) is None
    for value in NEITHER:
        assert as_integer(value) is as_real(value) is None


def test_numpy_s():
    np = pytest.importorskip("numpy")
    for kind in (np.int8, np.uint64, np.int64):
        assert as_integer(kind(5)) == as_real(kind(5)) == 5
        assert type(as_integer(kind(5))) is int
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        assert as_real(kind(0.5)) == 0.5
        assert type(as_real(kind(0.5))) is float
        assert as_integer(kind(1)) is None
    assert as_integer(np.array(5)) == as_real(np.array(5)) == 5
    for value in (np.bool_(True), np.array(True), np.complex64(1), np.array([1]), np.str_("1")):
        assert as_integer(value) is as_real(value) is None


def test_torch_s():
    torch = pytest.importorskip("torch")
    assert as_integer(torch.tensor(5)) == 5
    assert as_real(torch.tensor(0.5)) == 0.5
    for value in (torch.tensor(True), torch.tensor([1]), torch.tensor(1j)):
        assert as_integer(value) is as_real(value) is None


def test_every_parameter_takes_numpy_s_numbers():
    np = pytest.importorskip("numpy")
    integers = {"n": 2, "top_k": 5, "seed": 3, "max_tokens": 9, "min_tokens": 1}
    integers.update(logprobs=1, prompt_logprobs=0)
    reals = {"presence_penalty": 0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.5}
    reals.update(temperature=0.5, top_p=0.5, min_p=0.125)
    given = {name: np.int64(value) for name, value in integers.items()}
    given.update({name: np.float32(value) for name, value in reals.items()})
    ids = np.array([1, 2], np.int32)
    params = SamplingParams(**given, stop_token_ids=ids)
    assert params == SamplingParams(**integers, **reals, stop_token_ids=[1, 2])
    assert all(type(getattr(params, name)) is int for name in integers)
    assert all(type(getattr(params, name)) is float for name in reals)
    assert [type(token) for token in params.stop_ids] == [int, int]
    with pytest.raises(ValueError, match=r"^temperature must be a number .*, got "):
        SamplingParams(temperature=np.float32(-1))
    assert EngineArgs("m", block_size=np.int16(8)).block_size == 8
