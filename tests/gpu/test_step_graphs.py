"""Steps as CUDA graphs give the same bits as the kernels launched one by one."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from tests.models.support import FAMILIES, VOCAB_SIZE, prompts_of  # noqa: E402
from tests.models.test_parity import FEATURES, LENGTHS, make_llm, poison, tokens_of  # noqa: E402
from tests.worker.test_model_runner import HELD  # noqa: E402
from vllm import LLM  # noqa: E402
from vllm.engine.masks import StepMasks  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.worker.graphs import Graphs  # noqa: E402

WAYS = {
    "greedy": SamplingParams(temperature=0, max_tokens=30),
    "temperature": SamplingParams(temperature=0.9, seed=1, max_tokens=30),
    "cut": SamplingParams(temperature=0.9, seed=1, max_tokens=30, top_k=30, top_p=0.9, min_p=0.01),
    "penalties": SamplingParams(
        temperature=0, max_tokens=30, repetition_penalty=1.3, presence_penalty=0.5
    ),
}


@pytest.fixture
def launch_one_by_one(monkeypatch):
    """Graphs run what they would capture."""

    def set_eager():
        monkeypatch.setattr(Graphs, "run", lambda self, kind, compute: compute())

    return set_eager


def run(folder, params, **kwargs):
    llm = make_llm(folder, device="cuda", **kwargs)
    poison(llm)
    # They end one after another, so that there are steps of every number of sequences.
    several = [
        dataclasses.replace(params, max_tokens=params.max_tokens - 4 * index)
        for index in range(len(LENGTHS))
    ]
    outputs = llm.generate(prompts_of(LENGTHS), several)
    torch.cuda.synchronize()
    # The first block is what padding points to.
    caches = [tensor[: kwargs.get("num_kv_blocks", 256)].clone() for tensor in caches_of(llm)]
    return outputs, caches, llm


def caches_of(llm):
    return [tensor for pair in llm.engine.executor.runner.caches for tensor in pair]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunks", [False, True], ids=["decoding", "with prompts"])
def test_a_graph_is_bit_equal_to_its_kernels(tiny, way, dtype, chunks, launch_one_by_one):
    folder = tiny("qwen3").folder
    how = {"max_num_seqs": 6, "max_num_batched_tokens": 16} if chunks else {}
    outputs, caches, llm = run(folder, WAYS[way], dtype=dtype, **how)
    shapes = [shape for _, shape, *_ in llm.engine.executor.runner._graphs._graphs]
    assert len([shape for shape in shapes if not shape.selects]) > 1
    assert any(shape.selects for shape in shapes) == chunks
    launch_one_by_one()
    expected, eager_caches, _ = run(folder, WAYS[way], dtype=dtype, **how)
    assert tokens_of(outputs) == tokens_of(expected)
    for cache, eager in zip(caches, eager_caches):
        assert torch.equal(cache.view(torch.uint8), eager.view(torch.uint8))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
def test_a_graph_that_ends_with_its_logits_is_bit_equal_to_a_whole_one(tiny, way, dtype):
    """A mask that allows every token splits the step, and changes nothing."""
    folder = tiny("qwen3").folder
    outputs, caches, llm = run(folder, WAYS[way], dtype=dtype)
    all_allowed = dataclasses.replace(WAYS[way], allowed_token_ids=list(range(VOCAB_SIZE)))
    split_outputs, split_caches, split = run(folder, all_allowed, dtype=dtype)
    assert tokens_of(outputs) == tokens_of(split_outputs)
    for cache, split_cache in zip(caches, split_caches):
        assert torch.equal(cache.view(torch.uint8), split_cache.view(torch.uint8))
    for engine, masked in ((llm.engine, False), (split.engine, True)):
        assert {kind[-1] for kind in engine.executor.runner._graphs._graphs} == {masked}


@pytest.mark.parametrize("pause", [False, True])
def test_masks_that_come_late(chat_model, pause, monkeypatch):
    """Grammars, free sequences and all else in one batch, whose model's part is launched before
    the tokens come that the masks follow from: as kernel by kernel, one step after another. Also
    where the device has long been done when the masks are there."""
    pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")
    prompts = ["the cat"] * len(HELD)

    def generate(**how):
        llm = LLM(str(chat_model.folder), device="cuda", num_kv_blocks=64, **how)
        for _ in range(2):  # graphs are captured, then used
            outputs = [output.outputs[0] for output in llm.generate(prompts, HELD)]
        return [(each.token_ids, each.finish_reason) for each in outputs]

    expected = generate(enforce_eager=True, async_scheduling=False)
    if pause:
        fill = StepMasks.fill

        def fill_late(self, meanwhile=None):
            torch.cuda.synchronize()
            return fill(self, meanwhile)

        monkeypatch.setattr(StepMasks, "fill", fill_late)
    assert generate() == expected
    assert generate(enforce_eager=True) == expected


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen3"])
def test_tokens_are_those_without_graphs_and_overlap(tiny, family, feature):
    folder = tiny(family).folder
    for params in (WAYS["greedy"], dataclasses.replace(WAYS["cut"], logprobs=1)):
        outputs = [
            tokens_of(run(folder, params, **FEATURES[feature], **how)[0])
            for how in ({}, {"enforce_eager": True, "async_scheduling": False})
        ]
        assert outputs[0] == outputs[1]


def test_more_graphs_than_are_kept(tiny, monkeypatch):
    monkeypatch.setattr("vllm.worker.graphs.MOST_GRAPHS", 2)
    folder = tiny("qwen3").folder
    outputs, _, llm = run(folder, WAYS["greedy"])
    assert len(llm.engine.executor.runner._graphs._graphs) == 2
    assert tokens_of(outputs) == tokens_of(run(folder, WAYS["greedy"], enforce_eager=True)[0])


def test_steps_that_need_more_memory_than_any_before(tiny):
    """The device's memory moves: graphs are captured anew."""
    llm = make_llm(tiny("qwen3").folder, device="cuda")
    short, long = prompts_of([3]), prompts_of([100, 90, 120, 110, 80, 130, 90, 99])
    expected = tokens_of(llm.generate(short, WAYS["greedy"]))
    before = llm.engine.executor.runner._memory.last_tokens(1).data_ptr()
    llm.generate(long, WAYS["penalties"])
    assert llm.engine.executor.runner._memory.last_tokens(1).data_ptr() != before
    assert tokens_of(llm.generate(short, WAYS["greedy"])) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_in_a_step_under_way(tiny, family):
    llm = make_llm(tiny(family).folder, device="cuda")
    expected = tokens_of(llm.generate(prompts_of(LENGTHS), WAYS["greedy"]))
    stream = llm.stream(prompts_of(LENGTHS), WAYS["greedy"])
    next(stream)
    llm.engine.drop_all()
    assert tokens_of(llm.generate(prompts_of(LENGTHS), WAYS["greedy"])) == expected


def test_the_very_first_step_may_be_of_a_kind_with_graphs(run_fresh, tiny):
    """Nothing has been launched before it, by this thread or any; then another thread captures."""
    code = f"""
import json, threading
from vllm import LLM, SamplingParams
llm = LLM({str(tiny("qwen3").folder)!r}, device="cuda", skip_tokenizer_init=True, num_kv_blocks=64)
params = SamplingParams(temperature=0, max_tokens=20)
said = [llm.generate([7], params)[0].outputs[0].token_ids]
def run():
    said.append(llm.generate([[7]] * 2, params)[1].outputs[0].token_ids)
for _ in range(2):
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
print(json.dumps([said, len(llm.engine.executor.runner._graphs._graphs)]))
"""
    said, graphs = run_fresh(code)
    assert said[0] == said[1] == said[2]
    assert graphs == 2
