"""Grammars for structured outputs, by llguidance: which tokens may come next."""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import threading
from concurrent.futures import Future
from typing import Any, Callable, FrozenSet, List, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.structured_outputs import StructuredOutputsParams
from vllm.text.tokenizer import Tokenizer

# The most compiled grammars kept.
MOST_GRAMMARS = 64
# Threads that make the masks of a step. More make them more slowly: most masks take microseconds.
NUM_THREADS = 2


class GrammarError(RuntimeError):
    """A grammar has failed: it reached a limit of llguidance, or got a token that it forbids."""


class Grammar:
    """The state of one output in its grammar.

    matcher: an llguidance.LLMatcher. eos_token_id: ends the output where the grammar allows it.
    """

    def __init__(self, matcher: Any, eos_token_id: int) -> None:
        self.matcher = matcher
        self.eos_token_id = eos_token_id

    def copy(self) -> Grammar:
        return Grammar(self.matcher.deep_copy(), self.eos_token_id)

    def accept(self, token_id: int) -> bool:
        """Advances by a token; True if the output is complete, and nothing may follow. Raises
        GrammarError, also for every later token."""
        if not self.matcher.consume_token(token_id):
            raise self.error()
        return bool(self.matcher.is_stopped())

    @property
    def has_failed(self) -> bool:
        return bool(self.matcher.is_error())

    def error(self) -> GrammarError:
        """The error of a failed grammar. Only llguidance's first line is used: the others contain
        its state, with the tokens so far."""
        reason, *_ = self.matcher.get_error().splitlines() or ["llguidance gives no reason"]
        return GrammarError(f"structured_outputs: the grammar gave up: {reason}")


def fill_masks(
    grammars: SequenceOf[Tuple[Grammar, int]],
    nbytes: int,
    memory: memoryview,
    finish: Callable[[List[Tuple[int, GrammarError]]], None] = lambda failed: None,
    meanwhile: Optional[Callable[[], None]] = None,
) -> None:
    """Which tokens may come next: a bit for each, the lowest first. In several threads.

    grammars: each with the place of its mask in memory.
    nbytes: of a mask: 4 for 32 tokens of the vocabulary, rounded up.
    memory: room for masks at all places, written.
    finish: called in the thread that has made the masks, with places whose masks mean nothing,
        since their grammars have failed.
    meanwhile: called once, in this thread, while the masks are made. Its exception is raised when
        they are there; see `wait_for_masks`.
    """
    if not grammars:
        finish([])
        if meanwhile is not None:
            meanwhile()
        return
    executor, count = _executor(), len(memory) // nbytes
    bits = ctypes.c_char.from_buffer(memory)  # as long as it lives, so does the memory
    matchers = [(grammar.matcher, place) for grammar, place in grammars]
    begun = threading.Event()

    def make() -> None:
        begun.set()  # the caller goes on when llguidance gives up Python's lock
        executor.unsafe_compute_mask_ptr(matchers, ctypes.addressof(bits), nbytes, count)
        finish([(place, each.error()) for each, place in grammars if each.has_failed])

    if meanwhile is None:
        make()
    else:
        masks = _thread().start(make)
        try:
            begun.wait()
            meanwhile()
        finally:
            masks.result()


def wait_for_masks() -> None:
    """Returns when no `fill_masks` writes to its memory any more. That is so when it returns, and
    when it raises, unless a second exception (Ctrl-C) has ended its waiting for the first one."""
    _thread().start(lambda: None).result()


class _Thread:
    """Does one job after another. A daemon, unlike those of concurrent.futures, which would end
    before an engine's thread does when Python exits."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Tuple[Callable[[], None], Future[None]]]
        self._jobs = queue.SimpleQueue()
        threading.Thread(target=self._run, name="vllm-masks", daemon=True).start()

    def start(self, job: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        self._jobs.put((job, done))
        return done

    def _run(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                job()
            except BaseException as error:  # noqa: BLE001 (who waits for the job raises it)
                done.set_exception(error)
            else:
                done.set_result(None)


@functools.lru_cache(maxsize=None)
def _thread() -> _Thread:
    return _Thread()


@functools.lru_cache(maxsize=None)
def _executor() -> Any:
    import llguidance

    return llguidance.LLExecutor(min(NUM_THREADS, len(os.sched_getaffinity(0))))


def _reason(text: str) -> str:
    """One line of llguidance's report: the first, and what is wrong with a regex, which comes
    later."""
    lines = text.splitlines() or ["no grammar"]
    starts = "error: "
    return " ".join([lines[0], *(line[len(starts) :] for line in lines if line.startswith(starts))])


class GrammarCompiler:
    """Compiles grammars for the tokens of one model, and keeps the most recent ones: compiling
    takes about a millisecond for a small schema, and many requests have the same one.

    vocab_size: the model's, which may be more than its tokenizer knows.
    """

    def __init__(
        self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: FrozenSet[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos = min(eos_token_ids) if eos_token_ids else None
        self._made: Any = None  # takes up to a second: for the first request that asks
        self._compiled = functools.lru_cache(MOST_GRAMMARS)(self._compile)

    def compile(self, params: StructuredOutputsParams) -> Grammar:
        """A grammar at its start. Raises ValueError if it is invalid or too large, and without
        llguidance."""
        return self._compiled(*params.kind_and_text()).copy()

    def _compile(self, kind: str, text: str) -> Grammar:
        try:
            import llguidance
        except ImportError as error:
            raise ValueError(
                "structured_outputs needs llguidance, which this Python does not have: "
                "pip install llguidance"
            ) from error
        if self._made is None:
            vocabulary = (self._tokenizer.folder / "tokenizer.json").read_text(encoding="utf-8")
            self._made = llguidance.LLTokenizer(vocabulary, self._vocab_size, self._eos)
        try:
            matcher = llguidance.LLMatcher(
                self._made,
                llguidance.grammar_from(kind, text),  # type: ignore[arg-type]  # one of its names
                log_level=0,
            )
        except ValueError as error:
            raise ValueError(f"structured_outputs: {error}") from error
        if matcher.is_error():
            raise ValueError(f"structured_outputs: {_reason(matcher.get_error())}")
        return Grammar(matcher, self._made.eos_token)
