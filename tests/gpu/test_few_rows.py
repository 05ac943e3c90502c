"""Skinny GEMMs among other kernels with early launch (PDL), and in a model."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.models.support import FAMILIES, prompts_of  # noqa: E402
from tests.models.test_parity import make_llm  # noqa: E402
from vllm import ops  # noqa: E402
from vllm.layers.weights import dense  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402

SIXTEEN_BITS = [torch.bfloat16, torch.float16]
ROWS = [1, 4, 16]


def draw(*shape, dtype, seed, scale=1.0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return (torch.randn(*shape, generator=generator, device="cuda") * scale).to(dtype)


class Layers:
    """Products like those of a model's layers, each of what the one before has written."""

    def __init__(self, rows, hidden, width, dtype, layers=24):
        self.residual = draw(rows, hidden, dtype=dtype, seed=0)
        # Of the first one's outputs, the second uses half, as of a model's heads.
        shapes = [(4 * hidden, hidden), (hidden, 2 * hidden), (2 * width, hidden), (hidden, width)]
        self.weights = [
            [draw(*shape, dtype=dtype, seed=9 * n + i, scale=shape[1] ** -0.5 / 2)]
            for n in range(layers)
            for i, shape in enumerate(shapes)
        ]
        self.norm = 1 + draw(hidden, dtype=dtype, seed=1, scale=0.1)
        self.heads = self.residual.new_empty(rows, 4 * hidden)
        self.inner = self.heads[:, : 2 * hidden]
        self.gated = self.residual.new_empty(rows, width)

    def run(self, between=lambda: None):
        """The residual stream after the layers; `between` is called before each kernel."""
        stream, norm = self.residual.clone(), (None, self.norm, 1e-6)
        for n, (weight,) in enumerate(self.weights):
            between()
            if n % 4 == 0:
                ops.few_rows_linear(self.heads, stream, weight, *norm)
            elif n % 4 == 1:
                ops.few_rows_linear(stream, self.inner, weight, residual=stream)
            elif n % 4 == 2:
                ops.few_rows_linear(self.gated, stream, weight, *norm, True)
            else:
                ops.few_rows_linear(stream, self.gated, weight, residual=stream)
        return stream


@pytest.mark.parametrize("dtype", SIXTEEN_BITS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("hidden", "width"), [(1024, 3072), (896, 4864), (128, 200)])
def test_what_the_kernel_before_writes_is_seen(rows, hidden, width, dtype):
    """Kernels that begin while others run give the bits of kernels that run alone."""
    layers = Layers(rows, hidden, width, dtype)
    expected = layers.run(torch.cuda.synchronize).clone()
    assert expected.isfinite().all()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = layers.run()
    for _ in range(20):
        found.fill_(float("nan"))
        graph.replay()
        assert torch.equal(found, expected)
    assert torch.equal(layers.run(), expected)


def test_which_kernel_runs(run_fresh):
    """That without loops takes up to 8 rows, and certain numbers of inputs."""
    code = """
import json, torch
from vllm import _C, ops
loaded = []
outputs = 8 * torch.cuda.get_device_properties(0).multi_processor_count
for inputs, rows in ((2048, 9), (2560, 8), (2048, 8)):
    x = torch.zeros(rows, inputs, device="cuda", dtype=torch.bfloat16)
    ops.few_rows_linear(x.new_empty(rows, outputs), x, x.new_zeros(outputs, inputs))
    loaded.append(sorted(path.split("/")[-1].split(".")[0] for _, path in _C.loaded_kernels()))
print(json.dumps(loaded))
"""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the kernels need compute capability 8.0")
    loops = ["few_rows"]
    assert run_fresh(code) == [loops, loops, [*loops, "few_rows_once"]]


@pytest.mark.parametrize("rows", ROWS)
def test_a_weight_that_was_just_copied_is_seen(rows):
    x, weight = draw(rows, 512, dtype=torch.bfloat16, seed=0), None
    for seed in range(1, 20):
        new = draw(2048, 512, dtype=torch.bfloat16, seed=seed)
        weight = torch.empty_like(new) if weight is None else weight
        first, second = x.new_empty(rows, 2048), x.new_empty(rows, 2048)
        ops.few_rows_linear(first, x, weight)
        weight.copy_(new)
        ops.few_rows_linear(second, x, weight)
        expected = x.double() @ new.double().T
        error = (second.double() - expected).norm() / expected.norm()
        assert error < 4e-3


def logprobs(tiny, family, dtype):
    """Of the tokens of prompts short enough for products of few rows; the same in float32."""
    prompts = prompts_of([15, 16, 15, 16])
    llm = make_llm(tiny(family).folder, device="cuda", dtype=dtype, max_num_seqs=1)
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    found, right = [], []
    for prompt, output in zip(prompts, llm.generate(prompts, params)):
        reference = tiny(family).logprobs(prompt)
        for place, (token, said) in enumerate(zip(prompt[1:], output.prompt_logprobs[1:])):
            found.append(said[token].logprob)
            right.append(float(reference[place, token]))
    return torch.tensor(found), torch.tensor(right)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_as_near_to_float32_as_cublas_s(tiny, family, dtype, monkeypatch):
    found, right = logprobs(tiny, family, dtype)
    monkeypatch.setattr(dense, "is_ours", lambda x, weight: False)
    other, _ = logprobs(tiny, family, dtype)
    assert not torch.equal(found, other)  # it was something else
    assert (found - right).norm() < 1.5 * (other - right).norm()
