"""Sampling on CUDA where it differs from the CPU: two launches and a workspace, capture, large
vocabularies; and that both draw the same tokens."""

from __future__ import annotations

import pytest

from vllm import ops

torch = pytest.importorskip("torch")

WAYS = [
    {},
    {"top_k": 50},
    {"top_k": 2000},
    {"top_p": 0.9},
    {"top_k": 500, "top_p": 0.95},
    {"min_p": 0.02},
    {"top_p": 0.99, "min_p": 0.001},
]
DTYPES = {"top_k": torch.int64, "top_p": torch.float32, "min_p": torch.float32}


def arguments(logits, *, first_row=0, temperature=0.9, **way):
    """What `ops.sample` takes after its output."""
    rows, device = len(logits), logits.device
    full = {
        name: torch.full((rows,), way[name], dtype=dtype, device=device) if name in way else None
        for name, dtype in DTYPES.items()
    }
    workspace = None
    if logits.is_cuda:
        size = ops.sample_workspace_size(*logits.shape)
        workspace = torch.full((size,), -1, dtype=torch.int64, device=device)
    return (
        logits,
        torch.full((rows,), temperature, device=device),
        *full.values(),
        torch.arange(first_row, first_row + rows, device=device),
        torch.full((rows,), 3, device=device),
        workspace,
    )


def sample(logits, **how):
    out = torch.full((len(logits),), -1, device=logits.device)
    ops.sample(out, *arguments(logits, **how))
    return out.cpu()


def normal(rows, vocab, spread, dtype=torch.float32, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return (torch.randn(rows, vocab, device="cuda", generator=generator) * spread).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_cpu_draws_the_same(way, spread, dtype):
    """All but where rounding decides: a number within 1e-6 of the border of two tokens."""
    logits = normal(200, 50_257, spread, dtype)
    differing = (sample(logits, **way) != sample(logits.cpu(), **way)).sum()
    assert differing <= 1


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_row_does_not_depend_on_its_company(way, spread):
    """Nor on how many blocks choose its token, of which there are the more the fewer the rows."""
    logits = normal(300, 50_257, spread)
    together = sample(logits, **way)
    for first, count in [(0, 1), (131, 1), (299, 1), (17, 20), (200, 50), (100, 120)]:
        some = slice(first, first + count)
        assert torch.equal(sample(logits[some], first_row=first, **way), together[some])


@pytest.mark.parametrize("rows", [1, 40, 100, 200])
@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.9, 0.99, 0.9999])
def test_a_nucleus_that_ends_far_beyond_what_its_blocks_begin_with(top_p, rows):
    """Likely tokens side by side: the likeliest of each 256 says little of where it ends."""
    steps = torch.arange(50_257, device="cuda").clamp(max=2000)
    scales = torch.linspace(0.001, 0.05, rows, device="cuda")
    logits = -steps * scales[:, None]
    assert torch.equal(sample(logits, top_p=top_p), sample(logits.cpu(), top_p=top_p))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_more_blocks_of_tokens_than_threads(way):
    logits = normal(3, 600_011, 3.0)
    assert torch.equal(sample(logits, **way), sample(logits.cpu(), **way))


def test_greedy_finds_a_token_wherever_it_is():
    logits = normal(64, 151_936, 1.0)
    expected = torch.randint(151_936, (64,), generator=torch.Generator().manual_seed(0))
    logits[torch.arange(64), expected.cuda()] = 50.0
    assert torch.equal(sample(logits, temperature=0.0), expected)


def test_a_captured_call_follows_its_buffers():
    logits = normal(5, 40_000, 2.0)
    out = torch.full((5,), -1, device="cuda")
    how = arguments(logits, top_k=100, top_p=0.9)
    ops.sample(out, *how)  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.sample(out, *how)
    for seed in range(1, 4):
        logits.copy_(normal(5, 40_000, 2.0, seed=seed))
        out.fill_(-1)
        graph.replay()
        assert torch.equal(out.cpu(), sample(logits, top_k=100, top_p=0.9))


def test_the_same_again():
    """The order in which threads find candidates changes nothing."""
    logits = normal(256, 128_256, 1.0)
    for way in ({"top_p": 0.9}, {"top_k": 900}):
        first = sample(logits, **way)
        for _ in range(5):
            assert torch.equal(sample(logits, **way), first)
