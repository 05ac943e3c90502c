"""The ops inside ``torch.compile``: one graph, the same results."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from vllm import ops

torch = pytest.importorskip("torch")

WIDTH, TOKENS = 64, 6


def arguments() -> dict:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    return {
        "x": normal(TOKENS, WIDTH),
        "residual": normal(TOKENS, WIDTH),
        "weight": normal(WIDTH),
        "positions": torch.arange(TOKENS),
        "cache": normal(TOKENS, 16),
    }


def block(x, residual, weight, positions, cache):
    """Every op once, on intermediate values, on inputs, and without the optional key."""
    normed = torch.empty_like(x)
    ops.rms_norm(normed, x * 2, weight, 1e-6)
    ops.fused_add_rms_norm(normed, residual, weight, 1e-6)
    query, key = normed.view(TOKENS, 2, 32), residual + 1
    ops.rotary_embedding(positions, query, key, 32, cache, False)
    ops.rotary_embedding(positions, query, None, 32, cache)
    out = torch.empty(TOKENS, WIDTH // 2)
    ops.silu_and_mul(out, normed + key)
    return out.sum(), normed


# Without it AOTAutograd refuses every custom op that writes to an argument.
functionalizes = pytest.mark.skipif(
    importlib.util.find_spec("torch._higher_order_ops.auto_functionalize") is None,
    reason=f"torch {torch.__version__} does not functionalize ops that write to their arguments",
)


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=functionalizes)])
def test_a_compiled_block_is_one_graph_with_the_same_results(backend):
    torch._dynamo.reset()
    expected_arguments = arguments()
    expected = block(**expected_arguments)
    compiled_arguments = arguments()
    compiled = torch.compile(block, fullgraph=True, backend=backend)(**compiled_arguments)
    for got, wanted in zip(compiled, expected):
        assert torch.equal(got, wanted)
    for name, value in expected_arguments.items():  # residual is written in place
        assert torch.equal(compiled_arguments[name], value), name
    assert not torch.equal(compiled_arguments["residual"], arguments()["residual"])


def test_every_op_has_a_schema():
    sizes = {
        "AttentionPlanSizes",
        "attention_blocks",
        "attention_cluster",
        "prefill_blocks",
        "few_prefill_items",
        "attention_plan_sizes",
        "attention_shares",
        "sample_workspace_size",
    }
    # On the host, before and behind a step.
    planning = {
        *("AttentionPlan", "FEW_ROWS", "copy_pinned", "plan_attention", "keys_are_ready"),
        *("wait_for_host", "tell_device"),
    }
    assert set(ops.tracing._SCHEMAS) == set(ops.__all__) - planning - sizes


def test_errors_come_through():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="eager")
    def call(out, input, weight):
        ops.rms_norm(out, input, weight, 1e-6)

    with pytest.raises(ValueError, match="rms_norm: argument 'weight' has shape"):
        call(torch.empty(2, 8), torch.ones(2, 8), torch.ones(7))


def paged_arguments() -> dict:
    """Two tokens of one sequence, in the second of two blocks of 4."""
    tokens, (keys, values) = torch.randn(3, 2, 2, 8).unbind(), torch.randn(2, 2, 4, 2, 8).unbind()
    indices = [torch.tensor(each, dtype=torch.int32) for each in ([[1]], [2], [0, 2])]
    no_plan = (None, None, None, 0, 0, 0, False, 0)
    query, key, value = tokens
    return {
        "reshape_and_cache": (key, value, keys, values, torch.tensor([4, 5])),
        "rotary_and_cache": (
            torch.arange(2),
            query.clone(),
            key,
            value,
            torch.randn(4, 8),
            keys.clone(),
            values.clone(),
            torch.tensor([4, 5]),
            torch.ones(8),
            torch.ones(8),
            1e-6,
            True,
        ),
        "paged_attention": (
            *(torch.empty(2, 2, 8), query, keys, values, *indices, 1.0, 0, 0.0, None),
            *(1.0, 1.0, *no_plan),
        ),
        "rotary_and_attention": (
            torch.empty(2, 2, 8),
            torch.arange(2),
            query.clone(),
            key,
            value,
            torch.randn(4, 8),
            keys.clone(),
            values.clone(),
            torch.tensor([4, 5]),
            *indices,
            *(1.0, 0, 0.0, torch.ones(8), torch.ones(8), 1e-6, *no_plan),
        ),
    }


def sampling_arguments() -> dict:
    """Two rows; a change in each; the second is greedy."""
    integers, reals = torch.arange(2), torch.tensor([0.5, 0.0])
    state = (torch.zeros(2, 1, dtype=torch.int32), torch.zeros(2, 8, dtype=torch.int32))
    return {
        "count_tokens": (*state, integers, torch.tensor([0, 1, 2]), integers, integers),
        "penalize": (
            *(torch.randn(2, 8), integers, integers, integers),
            *(torch.full((2,), 2.0), reals, reals, *(each.clone() for each in state)),
        ),
        "bias_logits": (torch.randn(2, 8), integers, integers, reals, integers, integers),
        "mask_logits": (torch.randn(2, 8), integers, torch.ones(2, 1, dtype=torch.int32)),
        "sample": (
            *(torch.zeros(2, dtype=torch.int64), torch.randn(2, 8)),
            *(reals, None, torch.tensor([0.9, 0.8]), None, integers, integers, None),
        ),
    }


@pytest.mark.skipif(
    not hasattr(torch.library, "opcheck"), reason=f"torch {torch.__version__} has no opcheck"
)
def test_the_schemas_hold():
    """torch's own check: what is declared as written, and only that, is written."""
    values = arguments()
    ops.tracing.register()
    for name, args in {
        "rms_norm": (torch.empty(TOKENS, WIDTH), values["x"], values["weight"], 1e-6),
        "fused_add_rms_norm": (values["x"], values["residual"], values["weight"], 1e-6),
        "silu_and_mul": (torch.empty(TOKENS, WIDTH // 2), values["x"]),
        "rotary_embedding": (values["positions"], values["x"], None, 32, values["cache"], True),
        "few_rows_linear": (
            *(torch.empty(TOKENS, 3), values["x"], values["x"][:3].clone(), None),
            *(values["weight"], 1e-6, False, torch.randn(TOKENS, 3)),
        ),
        "embedding": (torch.empty(3, WIDTH), torch.tensor([1, 0, 5]), values["x"]),
        **paged_arguments(),
        **sampling_arguments(),
    }.items():
        torch.library.opcheck(
            getattr(torch.ops.vllm, name).default, args, test_utils=["test_schema"]
        )


@pytest.mark.parametrize("first", ["", "call(torch.ones(2, 8)); "], ids=["never called", "called"])
def test_ops_imported_before_torch_are_found(first):
    """The other order: torch comes later, and the first call may be inside a trace."""
    code = (
        "import sys, vllm.ops as ops; assert 'torch' not in sys.modules; import torch\n"
        "def call(x):\n"
        "    out = torch.empty_like(x); ops.rms_norm(out, x, torch.ones(8), 0.0); return out\n"
        f"{first}\n"
        "compiled = torch.compile(call, fullgraph=True, backend='eager')\n"
        "print(compiled(torch.full((2, 8), 3.0)).unique().tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1.0]"
