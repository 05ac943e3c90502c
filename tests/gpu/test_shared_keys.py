"""Attention that reads shared prefixes once, compared with reading them per sequence."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.gpu.random_checkpoint import write_checkpoint  # noqa: E402
from vllm import LLM, SamplingParams, ops  # noqa: E402
from vllm.layers.attention import AttentionPlanner  # noqa: E402

SIZE, DEVICE = 16, torch.device("cuda")


@pytest.fixture(autouse=True)
def _where_kernels_can():
    if not ops.attention_shares(128, SIZE, torch.cuda.current_device()):
        pytest.skip("the kernels for this GPU read keys for each sequence")


class Step:
    """Groups of decoding sequences; `own` tokens of each behind what its group shares.

    Slots behind a sequence's last token hold NaN.
    """

    def __init__(self, groups, heads, kv_heads, head_size=128, dtype=torch.bfloat16, prefill=0):
        generator = torch.Generator("cuda").manual_seed(0)
        tables, contexts, first = [], [], 0
        for count, shared, own in groups:
            common = list(range(first, first + shared // SIZE))
            first += len(common)
            for index in range(count):
                tokens = own + 7 * (index % 5)
                blocks = -(-tokens // SIZE)
                tables.append(common + list(range(first, first + blocks)))
                first += blocks
                contexts.append(shared + tokens)
        queries = [1] * len(contexts)
        if prefill:
            queries[-1] = prefill
        width = max(map(len, tables))
        self.tables = torch.tensor(
            [row + [0] * (width - len(row)) for row in tables], dtype=torch.int32
        )
        self.contexts = torch.tensor(contexts, dtype=torch.int32)
        self.starts = torch.tensor([0, *queries]).cumsum(0).to(torch.int32)
        shape = (first, kv_heads, SIZE, head_size)
        order = torch.randperm(first, generator=generator, device="cuda")  # of blocks in the cache
        self.tables = order.cpu()[self.tables.long()].to(torch.int32)
        self.caches = []
        for _ in "kv":
            cache = torch.randn(shape, generator=generator, device="cuda").to(dtype)
            for row, tokens in zip(self.tables, contexts):
                if tokens % SIZE:
                    cache[row[tokens // SIZE].item(), :, tokens % SIZE :] = float("nan")
            self.caches.append(cache.transpose(1, 2))
        rows = int(self.starts[-1])
        self.query = torch.randn(rows, heads, head_size, generator=generator, device="cuda").to(
            dtype
        )
        self.planner = AttentionPlanner(
            heads, kv_heads, head_size, DEVICE, block_size=SIZE, dtype=dtype
        )

    def plan(self, *, share):
        tables = self.tables if share else None
        return self.planner.plan(self.contexts, self.starts, block_tables=tables)[0]

    def run(self, plan, soft_cap=0.0):
        out = torch.full_like(self.query, float("nan"))
        on_device = [each.cuda() for each in (self.tables, self.contexts, self.starts)]
        plan = plan._replace(items=plan.items.cuda())
        scale = self.query.shape[-1] ** -0.5
        arguments = (out, self.query, *self.caches, *on_device, scale)
        ops.paged_attention(*arguments, soft_cap=soft_cap, plan=plan)
        torch.cuda.synchronize()
        return out.float()


GROUPS = {
    "one": [(250, 2048, 40)],
    "not whole tiles": [(61, 2000, 3)],
    "several": [(100, 1024, 50), (3, 64, 900), (90, 512, 1), (40, 4096, 200)],
    "beside others": [(5, 0, 3000), (130, 1536, 17), (1, 0, 20)],
    "many": [(600, 640, 90)],
}


@pytest.mark.parametrize("heads", [(16, 8), (32, 8), (40, 8), (14, 2), (8, 1), (16, 1)], ids=str)
@pytest.mark.parametrize("groups", GROUPS)
def test_results_are_those_of_reading_for_each(groups, heads):
    step = Step(GROUPS[groups], *heads)
    shared, alone = step.plan(share=True), step.plan(share=False)
    assert alone.prefill_tiles == 0
    if (groups, heads) != ("many", (32, 8)):  # where there may be too few slots
        assert shared.prefill_tiles > 0
    found, expected = step.run(shared), step.run(alone)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=4e-3)
    for _ in range(3):  # in the same order each time: the same bits
        assert torch.equal(step.run(shared), found)


@pytest.mark.parametrize("head_size", [64, 256])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_heads_and_types(head_size, dtype):
    step = Step([(80, 1024, 30)], 16, 4, head_size, dtype)
    shared = step.plan(share=True)
    assert shared.prefill_tiles > 0
    found, expected = step.run(shared, 30.0), step.run(step.plan(share=False), 30.0)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=4e-3)


def test_beside_a_prompt():
    step = Step([(150, 2048, 100)], 32, 8, prefill=70)
    found, expected = step.run(step.plan(share=True)), step.run(step.plan(share=False))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=4e-3)


def test_float32_reads_for_each():
    assert not AttentionPlanner(8, 2, 128, DEVICE, block_size=SIZE).shares


def test_a_grid_for_more_tiles_finds_those_that_there_are():
    """As a CUDA graph has it."""
    step = Step([(250, 2048, 40)], 16, 8)
    plan = step.plan(share=True)
    expected = step.run(plan)
    room = torch.zeros(step.planner.items_shape(250, 250)[1:], dtype=torch.int32)
    room[: len(plan.items)] = plan.items
    blocks = step.planner.blocks
    lasting = plan._replace(items=room, decode_blocks=blocks, prefill_tiles=blocks)
    assert plan.prefill_first == blocks
    assert torch.equal(step.run(lasting), expected)


CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_act": "silu",
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"), CONFIG, 0.06)


@pytest.mark.parametrize("enforce_eager", [False, True])
def test_an_engine_says_the_same(folder, monkeypatch, enforce_eager):
    """Requests that come and end in turns, so that there are steps of many sizes, with prompts."""
    shared = [n * 7 % 1000 for n in range(1100)]
    prompts = [shared + [(n * 13 + k) % 1000 for k in range(5 + n % 40)] for n in range(150)]
    params = [
        SamplingParams(temperature=0, max_tokens=4 + n % 30, ignore_eos=True, logprobs=0)
        for n in range(150)
    ]
    plans, outputs = [], []
    plan_of = AttentionPlanner.plan
    for share in (True, False):

        def plan(self, lens, starts, memory=None, tables=None, most=0, share=share):
            made = plan_of(self, lens, starts, memory, tables if share else None, most)
            plans.append((share, len(lens) == int(starts[-1]), made[0].prefill_tiles))
            return made

        monkeypatch.setattr(AttentionPlanner, "plan", plan)
        llm = LLM(folder, skip_tokenizer_init=True, num_kv_blocks=4000, enforce_eager=enforce_eager)
        llm.generate(prompts[:2], params[:2])
        outputs.append(llm.generate(prompts, params))
    decoding = [(share, tiles > 0) for share, decodes, tiles in plans if decodes]
    assert (True, True) in decoding
    assert (False, True) not in decoding
    # Rounding may decide between two tokens that are as likely; what comes then is another text.
    differences, alike = [], 0
    for one, other in zip(*(([o.outputs[0] for o in each]) for each in outputs)):
        for a, b, tokens, others in zip(
            one.logprobs, other.logprobs, one.token_ids, other.token_ids
        ):
            if tokens != others:
                break
            alike += 1
            differences.append(abs(a[tokens].logprob - b[others].logprob))
    assert alike > 0.8 * sum(p.max_tokens for p in params)
    assert max(differences) < 0.1
