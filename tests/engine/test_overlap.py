"""The engine with overlapping steps, compared with the engine without.

The executor of these tests computes a function of the prefix. It sees a step like a device: only
its buffer, and what earlier steps left in the cache and in the rows that they sampled. Slots that
were reassigned, steps that overwrite needed data and tokens that are not ready yet result in a
wrong prefix.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import queue
import random
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks.host_steps import config
from vllm.config import GenerationDefaults
from vllm.engine.executor import Executor, StepResult
from vllm.engine.llm_engine import EngineParts, LLMEngine
from vllm.engine_args import EngineArgs
from vllm.outputs import Logprob
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.text import grammars

VOCAB = 6
EOS = 5
MAX_LEN = 40
CONFIG = config(VOCAB, MAX_LEN)


class Letters:
    """A tokenizer of as many letters, and its detokenizer. folder: has it for llguidance."""

    def __init__(self):
        self._made = tempfile.TemporaryDirectory()
        self.folder = Path(self._made.name)
        vocab = {letter: token for token, letter in enumerate("abcdef")}
        model = {"type": "BPE", "vocab": vocab, "merges": []}
        end = {"id": EOS, "content": "f", "special": True}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        made = {"added_tokens": [{**end, **flags}], "decoder": decoder, "model": model}
        (self.folder / "tokenizer.json").write_text(json.dumps(made))

    def detokenizer(self, token_ids, *, skip_special_tokens):
        return self

    def encode(self, text, *, add_special_tokens):
        return ["abcdef".index(letter) for letter in text.strip()]

    def append(self, token_ids):
        return "".join(map(self.token_text, token_ids))

    def flush(self):
        return ""

    def token_text(self, token):
        return "abcdef"[token]


LETTERS = Letters()


class PrefixExecutor(Executor):
    """Computes a step as soon as it may, or as late as it may: when it is collected.

    masked: the prefix of each row that had a mask, and the tokens that this let come.
    """

    max_rows = 16
    overlaps = True

    def __init__(self, num_blocks, block_size, *, late):
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.cache = {}
        self.last = [0] * self.max_rows
        self.uses = {}  # by counter and token
        self.steps = 0
        self.masked = []
        self._late = late
        self._unsampled = None

    def allocate(self, nbytes):
        return memoryview(bytearray(nbytes))

    def room(self, size):
        return 0

    def submit(self, step):
        assert self._unsampled is None, "the step before waits for its masks"
        self.steps += 1
        # The buffer is this executor's until the step is collected; what it is then must do.
        handle = SimpleNamespace(step=step, prefixes=None, result=None)
        if not self._late:
            handle.prefixes = self._compute(step)
        if step.masks is not None:
            self._unsampled = handle
        elif not self._late:
            handle.result = self._draw(step, handle.prefixes)
        return handle

    def sample(self, handle):
        assert handle is self._unsampled
        self._unsampled = None
        if not self._late:
            handle.result = self._draw(handle.step, handle.prefixes)

    def collect(self, handle):
        assert handle is not self._unsampled
        if self._late:
            handle.result = self._draw(handle.step, self._compute(handle.step))
        return handle.result

    def reset(self):
        self.cache.clear()
        self._unsampled = None

    def _compute(self, step):
        """The prefix that ends with each token."""
        width = step.layout.size.blocks
        ids = []
        for index in range(step.num_tokens):
            source = step.sources[index]
            known = source >= self.max_rows
            ids.append(step.token_ids[source - self.max_rows] if known else self.last[source])
        prefixes = [()] * step.num_tokens
        for sequence in range(step.num_sequences):
            blocks = step.block_tables[sequence * width : (sequence + 1) * width]
            for index in range(step.query_starts[sequence], step.query_starts[sequence + 1]):
                position = step.positions[index]
                before = ()
                if position:
                    before = self.cache[self._slot(blocks, position - 1)]
                assert len(before) == position
                assert step.slots[index] == self._slot(blocks, position)
                prefixes[index] = self.cache[self._slot(blocks, position)] = (*before, ids[index])
            assert step.context_lens[sequence] == position + 1
        return prefixes

    def _draw(self, step, prefixes):
        result = StepResult()
        self._begin_counters(step)
        masks = {} if step.masks is None else tokens_allowed(step.masks)
        sampled = []
        for row in range(step.num_rows):
            prefix = prefixes[step.rows[row]]
            scores = self._scores(step, row, prefix)
            if row in masks:
                self.masked.append((prefix, masks[row]))
                for token in set(range(VOCAB)) - masks[row]:
                    scores[token] = -math.inf
            sampled.append(scores.index(max(scores)))
        self.last[: step.num_rows] = result.token_ids = sampled
        for row, _ in step.logprobs:
            result.logprobs[row] = {self.last[row]: Logprob(-float(self.last[row]), 1)}
        for sequence, first, targets, _ in step.prompt_logprobs:
            result.prompt_logprobs[sequence] = [
                {target: Logprob(-float(len(prefixes[first + i])), 1)}
                for i, target in enumerate(targets)
            ]
        return result

    def _slot(self, blocks, position):
        return blocks[position // self.block_size] * self.block_size + position % self.block_size

    def _scores(self, step, row, prefix):
        """Of each token: they follow from prefix, parameters and changes. The highest is drawn."""
        salt = ()
        if step.uses_temperatures and step.temperatures[row]:
            salt = (step.seeds[row], step.draws[row], step.top_k[row])
        scores = random.Random(repr((prefix, salt))).sample(range(10, 10 + VOCAB), VOCAB)
        if step.uses_penalties and step.counters[row] >= 0:
            uses = self.uses[step.counters[row]]
            uses[prefix[-1]] = uses.get(prefix[-1], 0) + step.counts[row]
            assert uses == self._uses_of(prefix, sum(uses.values()))
            for token, count in uses.items():
                scores[token] /= step.repetition[row]
                scores[token] -= bool(count) * step.presence[row] + count * step.frequency[row]
        for index in range(step.num_changes):
            if step.change_rows[index] == row and step.change_after[index] in (-1, prefix[-1]):
                scores[step.change_tokens[index]] += step.change_amounts[index]
        return scores

    def _begin_counters(self, step):
        for index in range(step.num_fresh):
            start, end = step.fresh_starts[index : index + 2]
            self.uses[step.fresh_counters[index]] = dict(
                zip(step.fresh_tokens[start:end], step.fresh_counts[start:end])
            )

    @staticmethod
    def _uses_of(prefix, num_output):
        """Whatever was preempted, shared or computed in vain: what a sequence has is its prefix."""
        uses = dict.fromkeys(prefix, 0)
        for token in prefix[len(prefix) - num_output :]:
            uses[token] += 1
        return uses


class StreamExecutor(PrefixExecutor):
    """A device with a thread of its own, which really waits for the masks of steps that were
    launched ahead.

    ahead: the number of those. ready: the newest masks that are there, by number.
    """

    def __init__(self, num_blocks, block_size):
        super().__init__(num_blocks, block_size, late=False)
        self.ahead = 0
        self.ready = 0
        self._waited_for = 0
        self._told = threading.Condition()
        self._stream = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            self._stream.get()()

    def _put(self, work, *args):
        """Behind all that has been put."""
        done = Future()

        def run():
            try:
                done.set_result(work(*args))
            except BaseException as error:  # noqa: BLE001 (`collect` raises it)
                done.set_exception(error)

        self._stream.put(run)
        return done

    def submit(self, step):
        assert self._unsampled is None, "the step before waits for its masks"
        return self._begin(step)

    def _begin(self, step):
        self.steps += 1
        handle = SimpleNamespace(step=step, prefixes=self._put(self._compute, step), result=None)
        if step.masks is None:
            self._sample(handle)
        else:
            self._unsampled = handle
        return handle

    def _sample(self, handle):
        handle.result = self._put(lambda: self._draw(handle.step, handle.prefixes.result()))

    def sample(self, handle):
        assert handle is self._unsampled
        assert handle.step.due[0] == handle.step.masks.number <= self.ready
        self._unsampled = None
        self._sample(handle)

    def launch_ahead(self, handle, step):
        assert handle is self._unsampled
        self._unsampled = None
        self.ahead += 1
        self._waited_for = handle.step.masks.number
        self._put(self._wait, handle.step.due)
        self._sample(handle)
        return self._begin(step)

    def _wait(self, due):
        with self._told:
            assert self._told.wait_for(lambda: self.ready >= due[0], 60), "nobody tells the device"

    def masks_are_ready(self, handle):
        self._tell(handle.step.masks.number)

    def _tell(self, number):
        with self._told:
            self.ready = number
            self._told.notify_all()

    def collect(self, handle):
        return handle.result.result(60)

    def reset(self):
        self._tell(max(self.ready, self._waited_for))
        self._put(lambda: None).result(60)
        super().reset()


def tokens_allowed(masks):
    """By row, as the device sees it."""
    rows = masks.memory[: 8 * len(masks.rows)].cast("q").tolist()
    words = masks.memory[masks.bits_offset : masks.nbytes].cast("I").tolist()
    assert masks.num_words == 1
    return {
        row: {token for token in range(VOCAB) if word >> token & 1}
        for row, word in zip(rows, words)
        if row >= 0
    }


def make_engine(
    num_blocks=12,
    block_size=4,
    *,
    overlap,
    late=False,
    stream=False,
    max_len=MAX_LEN,
    **kwargs,
):
    """late, stream: the kind of executor."""
    args = EngineArgs("none", async_scheduling=overlap, **kwargs)
    if stream:
        executor = StreamExecutor(num_blocks, block_size)
    else:
        executor = PrefixExecutor(num_blocks, block_size, late=late)
    defaults = GenerationDefaults(eos_token_ids=frozenset({EOS}))
    max_len = min(max_len, num_blocks * block_size)
    return LLMEngine(args, EngineParts(executor, CONFIG, defaults, LETTERS, max_len))


KINDS = list(RequestOutputKind)
# Those that end, those that need not, and those that a bad word or a bias may contradict.
GRAMMARS = [None, None, {"regex": "[ab]c?d*"}, {"regex": "(ab|[cd]e)*"}, {"choice": ["abc", "ad"]}]
if importlib.util.find_spec("llguidance") is None:  # Python 3.8 has none
    GRAMMARS = [None]


@st.composite
def any_params(draw):
    tokens, sampled = draw(st.integers(1, 12)), draw(st.integers(0, 1))
    penalties = [(1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.5, 0.0, 0.0), (1.25, 0.5, 1.75)]
    repetition, presence, frequency = draw(st.sampled_from(penalties))
    grammar = draw(st.sampled_from(GRAMMARS))
    return SamplingParams(
        stop=draw(st.sampled_from([None, None, "ab", ["c", "dd"]])),
        max_tokens=tokens,
        min_tokens=0 if grammar else min(draw(st.sampled_from([0, 0, 3])), tokens),
        structured_outputs=grammar,
        allowed_token_ids=draw(st.sampled_from([None, None, [0, 1, 3]])),
        ignore_eos=draw(st.booleans()),
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        bad_words=draw(st.sampled_from([None, None, ["a", "bc"], ["abc", "cc"]])),
        logit_bias=draw(st.sampled_from([None, None, {3: 2.5}])),
        temperature=float(sampled),
        seed=7,
        n=1 + sampled,
        logprobs=draw(st.sampled_from([None, None, 0])),
        prompt_logprobs=draw(st.sampled_from([None, None, 0])),
        output_kind=draw(st.sampled_from(KINDS)),
    )


def alone(prompt, params, max_len=MAX_LEN):
    """What a request gives by itself, without overlap, in a cache that holds everything."""
    engine = make_engine(60, overlap=False, max_len=max_len)
    engine.add_request("r", prompt, params)
    outputs = []
    while engine.has_unfinished_requests:
        outputs += engine.step()
    return told(outputs, params)


def told(outputs, params):
    """All that the outputs of one request say in the end: of each continuation, and its prompt."""
    said = {}
    for output in outputs:
        for part in output.outputs:
            text, ids, logprobs, *_ = said.get(part.index, ("", [], []))
            if params.output_kind is not RequestOutputKind.DELTA:
                text, ids, logprobs = "", [], []
            said[part.index] = (
                text + part.text,
                ids + part.token_ids,
                logprobs + (part.logprobs or []),
                part.finish_reason,
                part.stop_reason,
            )
    return said, outputs[-1].prompt_logprobs


class OverlapMachine(RuleBasedStateMachine):
    """Requests of every kind come, are aborted and stepped in any order, in too small a cache."""

    @initialize(
        num_blocks=st.integers(3, 12),
        block_size=st.integers(1, 5),
        max_num_seqs=st.integers(1, 5),
        extra_budget=st.integers(0, 12),
        prefix=st.booleans(),
        kind=st.sampled_from(["at once", "late", "stream"]),
    )
    def start(self, num_blocks, block_size, max_num_seqs, extra_budget, prefix, kind):
        self.engine = make_engine(
            num_blocks,
            block_size,
            overlap=True,
            late=kind == "late",
            stream=kind == "stream",
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_seqs + extra_budget,
            enable_prefix_caching=prefix,
        )
        self.live = {}
        self.count = 0

    @rule(params=any_params(), data=st.data())
    def add(self, params, data):
        longest = self.engine.max_model_len - 1
        prompt = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=longest))
        name = str(self.count)
        self.count += 1
        self.engine.add_request(name, prompt, params)
        self.live[name] = (prompt, params, [])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def abort(self, data):
        name = data.draw(st.sampled_from(sorted(self.live)))
        prompt, params, outputs = self.live.pop(name)
        outputs.append(self.engine.abort_request(name))
        said, _ = told([output for output in outputs if output], params)
        expected, _ = alone(prompt, params, self.engine.max_model_len)
        for index, (_, ids, _, reason, _) in said.items():
            assert ids == expected[index][1][: len(ids)]
            assert reason in ("abort", expected[index][3])

    @rule(times=st.integers(1, 6))
    def step(self, times):
        for _ in range(times):
            for output in self.engine.step():
                self.live[output.request_id][-1].append(output)
                if output.finished:
                    self.check(output.request_id)
        assert set(self.live) == set(self.engine._requests)

    def check(self, name):
        prompt, params, outputs = self.live.pop(name)
        assert told(outputs, params) == alone(prompt, params, self.engine.max_model_len)

    @invariant()
    def blocks_are_neither_lost_nor_doubly_owned(self):
        if hasattr(self, "engine"):
            manager = self.engine.scheduler.block_manager
            held = {b for seq in self.engine.scheduler.running for b in seq.block_table}
            assert manager.num_free_blocks == manager.num_blocks - len(held)

    def teardown(self):
        if not hasattr(self, "engine"):
            return
        steps = 0
        while self.live:
            self.step(1)
            steps += 1
            assert steps < 5000
        assert_sound_and_empty(self.engine)


OverlapMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestOverlap = OverlapMachine.TestCase


def run(engine):
    outputs = {}
    while engine.has_unfinished_requests:
        for output in engine.step():
            outputs[output.request_id] = output
    return outputs


def test_the_next_step_is_submitted_before_one_is_collected():
    engine = make_engine(overlap=True)
    engine.add_request("r", [0, 1], SamplingParams(temperature=0, max_tokens=4, ignore_eos=True))
    for steps in (2, 3, 4, 4):
        engine.step()
        assert engine.executor.steps == steps
    assert not engine.has_unfinished_requests


def test_an_end_that_was_not_foreseen_costs_one_step():
    params = SamplingParams(temperature=0, max_tokens=30)
    engine = make_engine(overlap=True)
    counts = []
    for last in range(VOCAB):
        before = engine.executor.steps
        engine.add_request("r", [last], params)
        output = run(engine)["r"].outputs[0]
        if output.finish_reason == "stop":
            counts.append(engine.executor.steps - before - len(output.token_ids))
    assert set(counts) == {1}


@pytest.fixture
def llguidance():
    return pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"repetition_penalty": 1.5},
        {"frequency_penalty": 0.5},
        {"bad_words": ["ab", "c"]},
        {"logit_bias": {2: 1.0}},
        {"allowed_token_ids": [1, 2, 3]},
        {"structured_outputs": {"regex": "[ab]{8}c*"}},
    ],
    ids=lambda how: next(iter(how), "plain"),
)
def test_nobody_waits_for_a_token(how, llguidance):
    """Not even who has a grammar: both sequences are in each step."""
    engine = make_engine(20, overlap=True)
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    engine.add_request("one", [0, 1], dataclasses.replace(params, **how))
    engine.add_request("other", [2, 3], params)
    for tokens in range(1, 7):
        outputs = engine.step()
        assert [len(output.outputs[0].token_ids) for output in outputs] == [tokens] * 2
    assert engine.executor.steps == 6


class LateMasks:
    """Makes masks as llguidance's executor does, once the next step has been scheduled."""

    def __init__(self, executor, calls):
        self._executor = executor
        self._calls = calls
        self.scheduled = threading.Event()

    def unsafe_compute_mask_ptr(self, *args):
        assert self.scheduled.wait(60), "nobody has scheduled a step meanwhile"
        self._executor.unsafe_compute_mask_ptr(*args)
        self._calls.append("masks")


def test_the_next_step_is_planned_while_masks_are_made(llguidance, monkeypatch):
    """And launched behind the sampler: a device sees the order that it saw without."""
    calls = []
    masks = LateMasks(llguidance.LLExecutor(1), calls)
    monkeypatch.setattr(grammars, "_executor", lambda: masks)
    engine = make_engine(20, overlap=True)
    for name in ("sample", "collect"):
        watch(monkeypatch, engine.executor, name, calls)
    watch(monkeypatch, engine.executor, "submit", calls, masks.scheduled.clear)
    watch(monkeypatch, engine.scheduler, "schedule", calls, masks.scheduled.set)
    params = SamplingParams(temperature=0, max_tokens=4, structured_outputs={"regex": "[ab]{9}"})
    engine.add_request("held", [0, 1], params)
    engine.add_request("free", [2, 3], SamplingParams(temperature=0, max_tokens=4, ignore_eos=True))
    run(engine)
    first, step = "schedule submit", "schedule masks sample submit collect"
    # None is left to be scheduled behind the fourth: asked for twice.
    last = "schedule masks sample schedule collect"
    assert calls == f"{first} {step} {step} {step} {last}".split()


def watch(monkeypatch, owner, name, calls, then=lambda: None):
    function = getattr(owner, name)

    def watched(*args):
        result = function(*args)
        calls.append(name)
        then()
        return result

    monkeypatch.setattr(owner, name, watched)


def test_masks_are_waited_for_before_their_memory_is_used_again(llguidance, monkeypatch):
    """Where Ctrl-C has ended the waiting for them, and then the waiting of `drop_all`."""
    calls, going_on = [], threading.Event()

    class Slow:
        def unsafe_compute_mask_ptr(self, *args):
            assert going_on.wait(60)
            calls.append("masks")

    engine = make_engine(20, overlap=True)
    params = SamplingParams(temperature=0, max_tokens=4, structured_outputs={"regex": "[ab]{9}"})
    engine.add_request("held", [0, 1], params)
    with monkeypatch.context() as patch:
        patch.setattr(grammars, "_executor", Slow)
        patch.setattr(Future, "result", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.step()
    threading.Timer(0.05, going_on.set).start()
    watch(monkeypatch, engine.scheduler, "reset", calls)
    engine.add_request("other", [0, 1], params)
    assert calls == ["masks", "reset"]
    assert run(engine)["other"].outputs[0].token_ids == alone([0, 1], params)[0][0][1]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_mask_is_that_of_the_tokens_before(llguidance, overlap, late):
    """For each row that had one: what llguidance itself allows, asked afresh, behind its prefix."""
    engine = make_engine(60, overlap=overlap, late=late)
    grammars = {
        0: {"regex": "([abc]d|e)*"},
        1: {"regex": "[ab]*c[de]{3}a"},
        2: {"choice": ["abcd", "dcba"]},
        3: {"regex": "(a|bc|d)*"},
    }
    params = SamplingParams(temperature=1, seed=3, max_tokens=9)
    for first, grammar in grammars.items():
        own = dataclasses.replace(params, structured_outputs=grammar)
        engine.add_request(str(first), [first, 4, 4], own)
    engine.add_request("free", [4, 4, 4], params)
    outputs = run(engine)
    tokenizer = llguidance.LLTokenizer((LETTERS.folder / "tokenizer.json").read_text(), VOCAB, EOS)
    seen = {}
    for prefix, allowed in engine.executor.masked:
        (kind, text), said = own_grammar(grammars[prefix[0]]), prefix[3:]
        matcher = llguidance.LLMatcher(tokenizer, llguidance.grammar_from(kind, text), log_level=0)
        assert all(map(matcher.consume_token, said))
        (word,) = memoryview(matcher.compute_bitmask()).cast("I")
        assert allowed == {token for token in range(VOCAB) if word >> token & 1}
        seen.setdefault(str(prefix[0]), []).append(len(said))
    for name, lengths in seen.items():
        assert lengths == list(range(len(outputs[name].outputs[0].token_ids)))
    assert len(seen) == len(grammars)


def own_grammar(wanted):
    return StructuredOutputsParams(**wanted).kind_and_text()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_grammar_that_fails_ends_its_request_alone(llguidance, overlap):
    """Nothing may come that the grammar allows; and llguidance gives up by itself."""
    engine = make_engine(60, overlap=overlap)
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    held = dataclasses.replace(params, structured_outputs={"regex": "[ab]cd{6}"})
    engine.add_request("free", [0, 1], params)
    engine.add_request("held", [4, 2], held)
    engine.add_request("contradicted", [3], dataclasses.replace(held, bad_words=["c"]))
    add_broken(engine, "broken", held)
    outputs = engine.step()
    add_broken(engine, "broken later", held)
    going = engine.make_request("going", [1, 1], held)
    engine.add(going)
    while engine.has_unfinished_requests():
        outputs += engine.step()
        if len(going.seqs[0].token_ids) == 5:
            going.seqs[0].constraints.grammar.matcher.consume_token(0)
    assert_sound_and_empty(engine)
    last = {output.request_id: output.outputs[0] for output in outputs}
    assert last["free"].token_ids == alone([0, 1], params)[0][0][1]
    assert last["held"].token_ids == alone([4, 2], held)[0][0][1]
    assert last["held"].text[1:] == "cdddddd"
    # With overlap the mask of the next token has been made, and the token is not taken in.
    counts = {"contradicted": 2, "broken": 0, "broken later": 0, "going": 4 if overlap else 3}
    for name, count in counts.items():
        assert last[name].finish_reason == "error", name
        assert last[name].stop_reason.startswith("structured_outputs: the grammar gave up: Parser")
        assert "\n" not in last[name].stop_reason
        assert len(last[name].token_ids) == count
    assert last["contradicted"].text in ("a", "b")  # without the token that is not allowed


def add_broken(engine, name, params):
    """A request whose grammar has failed before its first mask is made."""
    request = engine.make_request(name, [2, 2], params)
    request.seqs[0].constraints.grammar.matcher.consume_token(EOS)
    engine.add(request)


def assert_sound_and_empty(engine):
    manager = engine.scheduler.block_manager
    assert not engine.scheduler.has_unfinished
    assert manager.num_free_blocks == manager.num_blocks


@pytest.mark.parametrize("late", [False, True])
def test_an_abort_while_a_step_is_under_way(late):
    engine = make_engine(20, overlap=True, late=late)
    params = SamplingParams(temperature=0, max_tokens=9, ignore_eos=True)
    engine.add_request("first", [0, 1], params)
    engine.add_request("second", [2], params)
    engine.step()
    assert engine.abort_request("first").outputs[0].finish_reason == "abort"
    engine.add_request("third", [4, 4, 4, 4, 4], params)  # takes the blocks of the first
    outputs = run(engine)
    for name, prompt in (("second", [2]), ("third", [4, 4, 4, 4, 4])):
        assert outputs[name].outputs[0].token_ids == alone(prompt, params)[0][0][1]


@pytest.mark.parametrize("tokens", range(5, 14))
def test_all_that_was_computed_is_shared(tokens):
    """Blocks get their names although their last token is not known when they are scheduled."""
    engine = make_engine(40, overlap=True)
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    engine.add_request("first", [0, 1, 2], params)
    said = run(engine)["first"].outputs[0].token_ids
    engine.add_request("again", [0, 1, 2, *said], dataclasses.replace(params, max_tokens=1))
    assert run(engine)["again"].num_cached_tokens == (3 + tokens - 1) // 4 * 4
