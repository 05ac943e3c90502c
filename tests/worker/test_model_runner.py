"""Steps that are padded for a graph, and tokens that only the device knows, on the CPU."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.models.support import VOCAB_SIZE, prompts_of
from tests.models.test_parity import LENGTHS, make_llm, poison, tokens_of
from vllm import LLM
from vllm.models.loader import default_dtype
from vllm.sampling_params import SamplingParams
from vllm.worker.graphs import padded, padded_tokens

GREEDY = SamplingParams(temperature=0, max_tokens=20)
CUT = SamplingParams(temperature=0.9, seed=1, max_tokens=20, top_k=30, top_p=0.9, min_p=0.01)
PENALISED = SamplingParams(
    temperature=0,
    max_tokens=20,
    min_tokens=4,
    repetition_penalty=1.3,
    frequency_penalty=0.4,
    logit_bias={7: 2.5, 11: -3.0},
)


class NoGraphs:
    """Stands where graphs are, and computes what they would replay."""

    def __init__(self):
        self.kinds = []

    def run(self, kind, compute):
        self.kinds.append(kind)
        compute()

    def clear(self):
        pass


def run(folder, params, *, pad, mixed=0, **kwargs):
    llm = make_llm(folder, enable_prefix_caching=False, **kwargs)
    poison(llm)
    runner = llm.engine.executor.runner
    if pad:
        runner._graphs = NoGraphs()
        runner._most_graph_tokens = mixed
    several = [dataclasses.replace(params, max_tokens=20 - 3 * i) for i in range(len(LENGTHS))]
    outputs = llm.generate(prompts_of(LENGTHS), several)
    return outputs, [tensor for pair in runner.caches for tensor in pair], runner._graphs


@pytest.mark.parametrize(("prompt_logprobs", "expected"), [(None, [1]), (0, [14, 14, 5])])
def test_the_last_layer_computes_only_what_is_sampled(tiny, prompt_logprobs, expected):
    """A prompt of 33 tokens in steps of 14, of which only the last one samples a row."""
    llm = make_llm(tiny("qwen3").folder, max_num_seqs=4, max_num_batched_tokens=14)
    mlps = [layer.mlp for layer in llm.engine.executor.runner.model.model.layers]
    rows = {mlp: [] for mlp in mlps}
    for mlp in mlps:
        mlp.register_forward_pre_hook(lambda mlp, args: rows[mlp].append(len(args[0].residual)))
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=prompt_logprobs)
    llm.generate(prompts_of([33]), params)
    assert rows[mlps[0]] == [14, 14, 5]
    assert rows[mlps[-1]] == expected


@pytest.mark.parametrize("params", [GREEDY, CUT, PENALISED], ids=["greedy", "cut", "penalised"])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("mixed", [0, 1000])
def test_padding_changes_nothing(tiny, params, overlap, mixed):
    """mixed: the most tokens of a step with prompts that is padded."""
    folder = tiny("qwen3").folder
    how = {"async_scheduling": overlap, "max_num_seqs": 8, "max_num_batched_tokens": 50}
    outputs, caches, graphs = run(folder, params, pad=True, mixed=mixed, **how)
    assert {shape.tokens for _, shape, *_ in graphs.kinds} >= {5, 4, 3, 2, 1}
    # Of the penalised, each step with a prompt also has token counts that begin.
    selects = mixed > 0 and params is not PENALISED
    assert {shape.selects for _, shape, *_ in graphs.kinds} == {selects, False}
    expected, plain, _ = run(folder, params, pad=False)
    assert tokens_of(outputs) == tokens_of(expected)
    for cache, reference in zip(caches, plain):
        written = ~reference.isnan()
        if overlap:  # what is computed in vain is written as well
            assert torch.allclose(cache[written], reference[written], atol=1e-4)
        else:
            assert torch.equal(written, ~cache.isnan())
            assert torch.allclose(cache[written], reference[written], atol=1e-4)


@pytest.mark.parametrize("params", [GREEDY, CUT, PENALISED], ids=["greedy", "cut", "penalised"])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_step_in_two_parts_is_that_in_one(tiny, params, overlap):
    """A mask that allows every token splits the step, and changes nothing."""
    folder = tiny("qwen3").folder
    outputs, caches, whole = run(folder, params, pad=True, async_scheduling=overlap)
    allowed = dataclasses.replace(params, allowed_token_ids=list(range(VOCAB_SIZE)))
    split_outputs, split_caches, split = run(folder, allowed, pad=True, async_scheduling=overlap)
    assert tokens_of(outputs) == tokens_of(split_outputs)
    for cache, split_cache in zip(caches, split_caches):
        assert torch.equal(cache.view(torch.uint8), split_cache.view(torch.uint8))
    assert {kind[3] for kind in whole.kinds} == {False}
    assert {kind[3] for kind in split.kinds} == {True}


HELD = [
    SamplingParams(temperature=0, max_tokens=24, structured_outputs={"regex": "[ab]{20}c*"}),
    SamplingParams(temperature=0, max_tokens=20),
    SamplingParams(
        temperature=0.9,
        seed=2,
        max_tokens=16,
        frequency_penalty=0.5,
        structured_outputs={"regex": "[a-f]{4} [0-9]{4}"},
    ),
    SamplingParams(
        temperature=0.9, seed=3, max_tokens=5, logprobs=2, allowed_token_ids=[7, 9, 64, 65, 200]
    ),
    SamplingParams(temperature=0, max_tokens=30, structured_outputs={"choice": ["the cat", "dog"]}),
]


@pytest.mark.parametrize("pad", [False, True], ids=["eagerly", "as graphs"])
@pytest.mark.parametrize("overlap", [False, True], ids=["in turns", "overlapping"])
def test_masks_come_behind_the_logits(chat_model, pad, overlap, monkeypatch):
    """Tokens and log-probabilities are those of each request alone. With overlap, the model's part
    of a step has been launched when the tokens come that its masks follow from."""
    pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")

    def make(**kwargs):
        return LLM(str(chat_model.folder), num_kv_blocks=64, **kwargs)

    expected = [make().generate("the cat", params)[0].outputs[0] for params in HELD]
    llm = make(async_scheduling=overlap)
    runner = llm.engine.executor.runner
    if pad:
        runner._graphs = NoGraphs()
    order = []
    for owner, name in ((runner, "run"), (runner, "sample"), (llm.engine.executor, "collect")):
        watch(monkeypatch, owner, name, order)
    found = [output.outputs[0] for output in llm.generate(["the cat"] * len(HELD), HELD)]
    for one, other in zip(found, expected):
        assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
    for entry, alone in zip(found[3].logprobs, expected[3].logprobs):
        assert {token: each.logprob for token, each in entry.items()} == pytest.approx(
            {token: each.logprob for token, each in alone.items()}, abs=1e-4
        )
    assert found[4].text in ("the cat", "dog")
    steps = "run collect sample" if overlap else "run sample collect"
    assert order[2 if overlap else 0 :][6:9] == steps.split()
    if pad:
        assert {kind[3] for kind in runner._graphs.kinds} >= {True}


def watch(monkeypatch, owner, name, calls):
    function = getattr(owner, name)

    def watched(*args):
        calls.append(name)
        return function(*args)

    monkeypatch.setattr(owner, name, watched)


def test_five_sequences_are_not_padded_and_nine_are():
    assert [padded(n) for n in (1, 2, 5, 8, 9, 10, 11, 17, 33, 185, 250)] == [
        1, 2, 5, 8, 10, 10, 12, 20, 40, 192, 256,
    ]  # fmt: skip
    sizes = {padded(n) for n in range(1, 257)}
    assert len(sizes) == 40
    assert all(0 <= padded(n) - n < 0.2 * padded(n) for n in range(1, 2000))
    assert all(0 <= padded(n) - n < 8 for n in range(129, 257))


def test_tokens_of_steps_with_prompts_are_padded_to_few_sizes():
    assert [padded_tokens(n) for n in (9, 129, 250, 257, 500, 513, 4000)] == [
        10, 160, 256, 320, 512, 640, 4096,
    ]  # fmt: skip
    assert len({padded_tokens(n) for n in range(129, 4097)}) == 36
    assert all(0 <= padded_tokens(n) - n < 0.2 * padded_tokens(n) for n in range(1, 4097))


@pytest.mark.parametrize("logprobs", [None, 1])
def test_overlap_gives_the_same_text_stops_and_logprobs(chat_model, logprobs):
    prompts = ["the cat and the dog", "the mat", "a dog sat"]
    free = SamplingParams(temperature=0, max_tokens=30, logprobs=logprobs)
    outputs = []
    for overlap in (False, True):
        llm = LLM(str(chat_model.folder), num_kv_blocks=64, async_scheduling=overlap)
        whole = llm.generate(prompts, free)
        stop = whole[0].outputs[0].text[6:9]
        stopped = llm.generate(prompts, dataclasses.replace(free, stop=stop))
        penalised = llm.generate(prompts, dataclasses.replace(free, frequency_penalty=0.5))
        outputs.append([output.outputs[0] for output in (*whole, *stopped, *penalised)])
        manager = llm.engine.scheduler.block_manager
        assert manager.num_free_blocks == manager.num_blocks
    plain, overlapped = outputs
    for one, other in zip(plain, overlapped):
        assert (one.text, one.token_ids, one.stop_reason) == (
            other.text,
            other.token_ids,
            other.stop_reason,
        )
        if logprobs:
            for a, b in zip(one.logprobs, other.logprobs):
                assert a.keys() == b.keys()


SCRIPTS = {
    "default device": lambda: torch.device("meta"),  # as torch.set_default_device("cuda")
    "autocast": lambda: torch.autocast("cpu"),
    "default dtype": lambda: default_dtype(torch.float64),
}


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_modes_of_a_script_change_nothing(chat_model, script, overlap):
    """They are for the script's own tensors."""
    params = [
        SamplingParams(temperature=0, max_tokens=9),
        SamplingParams(seed=3, max_tokens=9, logprobs=2, prompt_logprobs=1, min_p=0.01),
        SamplingParams(temperature=0, max_tokens=9, frequency_penalty=0.5, logit_bias={5: 2.0}),
        SamplingParams(seed=4, max_tokens=9, allowed_token_ids=list(range(5, 90)), top_k=7),
    ]

    def generate():
        llm = LLM(str(chat_model.folder), num_kv_blocks=64, async_scheduling=overlap)
        outputs = llm.generate(["the cat"] * len(params), params)
        return [output.outputs[0].token_ids for output in outputs]

    expected = generate()
    with SCRIPTS[script]():
        found = generate()
    assert found == expected
