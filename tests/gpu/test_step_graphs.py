"""Steps as CUDA graphs give the same bits as the kernels launched one by one."""

from __future__ import annotations

import dataclasses
import time

import pytest

torch = pytest.importorskip("torch")

from tests.models.support import FAMILIES, VOCAB_SIZE, prompts_of  # noqa: E402
from tests.models.test_parity import FEATURES, LENGTHS, make_llm, poison, tokens_of  # noqa: E402
from tests.worker.test_model_runner import HELD  # noqa: E402
from vllm import LLM  # noqa: E402
from vllm.engine.masks import StepMasks  # noqa: E402
from vllm.engine.pipeline import Pipeline  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.text import grammars  # noqa: E402
from vllm.worker import mask_gate  # noqa: E402
from vllm.worker.graphs import Graphs  # noqa: E402
from vllm.worker.model_runner import ModelRunner  # noqa: E402

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
        assert {kind[3] for kind in engine.executor.runner._graphs._graphs} == {masked}


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

        def fill_late(self, *args):
            torch.cuda.synchronize()
            return fill(self, *args)

        monkeypatch.setattr(StepMasks, "fill", fill_late)
    assert generate() == expected
    assert generate(enforce_eager=True) == expected


@pytest.fixture
def slow_masks(monkeypatch):
    """slow_masks(seconds): from then on, each step's masks come that much later."""
    llguidance = pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")
    executor, delay = llguidance.LLExecutor(2), [0.0]

    class Slow:
        def unsafe_compute_mask_ptr(self, *args):
            time.sleep(delay[0])
            executor.unsafe_compute_mask_ptr(*args)

    monkeypatch.setattr(grammars, "_executor", Slow)
    return lambda seconds: delay.__setitem__(0, seconds)


@pytest.fixture
def ahead(monkeypatch):
    """Whether each step behind one with masks was launched before these were there."""
    launch, found = ModelRunner.launch_ahead, []

    def watched(self, *args):
        handle = launch(self, *args)
        found.append(handle is not None)
        return handle

    monkeypatch.setattr(ModelRunner, "launch_ahead", watched)
    return found


def tokens_held(llm):
    outputs = [output.outputs[0] for output in llm.generate(["the cat"] * len(HELD), HELD)]
    return [(each.token_ids, each.finish_reason) for each in outputs]


@pytest.fixture
def held(chat_model):
    """(an engine that has captured its graphs, the tokens of one without graphs and overlap)"""
    folder = str(chat_model.folder)
    plain = LLM(folder, device="cuda", num_kv_blocks=64, enforce_eager=True, async_scheduling=False)
    llm = LLM(folder, device="cuda", num_kv_blocks=64)
    expected = tokens_held(plain)
    for _ in range(3):
        assert tokens_held(llm) == expected
    return llm, expected


def test_the_device_waits_for_masks_that_come_late(slow_masks, ahead, held):
    llm, expected = held
    assert any(ahead)
    for seconds in (0.001, 0.02):
        del ahead[:]
        slow_masks(seconds)
        assert tokens_held(llm) == expected
        assert ahead.count(True) > 10


def test_an_exception_while_the_device_waits(slow_masks, held, monkeypatch):
    """As Ctrl-C may: whatever waits is let pass, and the engine goes on."""
    llm, expected = held
    slow_masks(0.01)
    go_ahead = Pipeline._go_ahead
    for countdown in range(12):
        left = [countdown]

        def interrupted(self, step, left=left):
            go_ahead(self, step)
            left[0] -= 1
            if left[0] < 0 and self._in_flight[-1] is not step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "_go_ahead", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tokens_held(llm)
        assert tokens_held(llm) == expected


def test_masks_that_come_too_late_are_an_error(slow_masks, chat_model, monkeypatch):
    """And never a wrong token; the engine goes on."""
    monkeypatch.setattr(mask_gate, "MOST_SECONDS", 0.5)
    llm = LLM(str(chat_model.folder), device="cuda", num_kv_blocks=64)
    expected = [tokens_held(llm) for _ in range(3)][-1]
    slow_masks(2)
    with pytest.raises(mask_gate.LateMasksError, match=r"has waited 0\.5 seconds"):
        tokens_held(llm)
    slow_masks(0)
    assert tokens_held(llm) == expected


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
