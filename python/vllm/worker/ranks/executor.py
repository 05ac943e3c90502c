"""The executor of a model that several processes hold together: this one, rank 0, and others.

Rank 0 is the process of the engine. So results need not cross anything, and there are as many
processes as ranks. It computes in a thread: Ctrl-C interrupts only the main one, and a step that
some ranks had begun and others not would leave them waiting for each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import weakref
from concurrent.futures import Future, InvalidStateError, wait
from typing import List, Optional, Set, Tuple

from vllm.engine.executor import Executor, StepResult
from vllm.engine.step_input import SizeClass, StepInput
from vllm.engine.step_message import pack_step
from vllm.engine_args import EngineArgs
from vllm.errors import RankError
from vllm.parallel.torch_group import LostPeerError
from vllm.worker.load import Plan
from vllm.worker.ranks.join import Rank, join
from vllm.worker.ranks.meeting import open_meeting, port_of, torchrun_meeting
from vllm.worker.ranks.processes import Processes
from vllm.worker.ranks.serve import serve
from vllm.worker.ranks.watch import Watch

# How long a step that nobody waits for may take until its ranks are ended.
_END_SECONDS = 2.0


def start_ranks(args: EngineArgs, plan: Plan) -> RanksExecutor:
    """Starts the other ranks, or meets those that torchrun has started.

    A process that torchrun has started as another rank than the first serves in here until rank 0
    ends, and then ends as well, by SystemExit.
    """
    size = args.tensor_parallel_size
    if plan.device.type != "cpu":
        raise ValueError(
            f"tensor_parallel_size is {size}, which has been run on CPUs alone so far: it must be "
            f"1 on {plan.device.type}"
        )
    arranged = torchrun_meeting(size)
    if arranged is not None and arranged.rank:
        serve(args, arranged)
        raise SystemExit(0)
    meeting = arranged or open_meeting(size)
    first = FirstRank()
    try:
        if arranged is None:
            # The hub has been asked already.
            found = dataclasses.replace(args, model=str(plan.folder), revision=None)
            first.processes = Processes(found, size, port_of(meeting))
        find_dead = first.processes.find_dead if first.processes else lambda: None
        watch = first.watch = Watch(meeting, first.fail, find_dead)
        rank = join(args, plan, meeting, watch)
        first.start(rank)
    except BaseException as error:
        if first.watch is not None:
            first.watch.report(error)
        first.close()
        raise
    return RanksExecutor(first, rank)


class FirstRank:
    """Rank 0 and its thread, and the processes of the others, where it has started them."""

    def __init__(self) -> None:
        self.processes: Optional[Processes] = None
        self.watch: Optional[Watch] = None
        self.failure: Optional[str] = None
        self.cause: Optional[BaseException] = None  # in this rank, if it was this one
        self.unfinished: Set[Future[StepResult]] = set()
        self._steps: queue.SimpleQueue[Optional[Tuple[StepInput, Future[StepResult]]]]
        self._steps = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None

    def start(self, rank: Rank) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(rank,), name="vllm-rank-0", daemon=True
        )
        self._thread.start()

    def submit(self, step: StepInput) -> Future[StepResult]:
        """Starts a step. After a failure its future has one as well."""
        future: Future[StepResult] = Future()
        self.unfinished.add(future)
        future.add_done_callback(self.unfinished.discard)
        self._steps.put((step, future))
        if self.failure is not None:  # maybe since before the future was among the unfinished
            self.fail(self.failure)
        return future

    def fail(self, text: str) -> None:
        """Ends everything; whoever waits gets a RankError."""
        self.failure = text
        if self.processes is not None:
            self.processes.kill()
        for future in list(self.unfinished):
            error = RankError(text)
            error.__cause__ = self.cause
            with contextlib.suppress(InvalidStateError):
                future.set_exception(error)

    def close(self) -> None:
        """Ends the other ranks: those of torchrun by a message, the others at once."""
        if self.watch is not None:
            self.watch.stop()
        if self._thread is not None:
            self._steps.put(None)
            if self._thread is not threading.current_thread():  # in which garbage may be collected
                self._thread.join(_END_SECONDS)
        self.fail(self.failure or "the engine has been shut down")

    def _run(self, rank: Rank) -> None:
        executor, channel = rank
        watch = self.watch
        assert watch is not None
        try:
            while self.failure is None:
                item = self._steps.get()
                if item is None:
                    if self.failure is None:
                        channel.send(b"")
                    return
                step, future = item
                channel.send(pack_step(step))
                result = executor.collect(executor.submit(step))
                with contextlib.suppress(InvalidStateError):  # it has failed meanwhile
                    future.set_result(result)
        except BaseException as error:  # noqa: BLE001 (it is raised where the step is collected)
            self.cause = None if isinstance(error, LostPeerError) else error
            watch.report(error)


class RanksExecutor(Executor):
    """Runs steps in several processes at once. A failure of one ends all of them, for good."""

    def __init__(self, first: FirstRank, rank: Rank) -> None:
        self.num_blocks = rank.executor.num_blocks
        self.block_size = rank.executor.block_size
        self.max_rows = rank.executor.max_rows
        self.overlaps = False  # what the step before has sampled, rank 0 alone has
        self._first = first
        self._local = rank.executor
        # Also when nobody has this executor any more, and when Python exits.
        self._close = weakref.finalize(self, first.close)

    @property
    def pids(self) -> List[int]:
        """The processes of the other ranks that this one has started."""
        return [] if self._first.processes is None else self._first.processes.pids

    def allocate(self, nbytes: int) -> memoryview:
        return self._local.allocate(nbytes)

    def room(self, size: SizeClass) -> int:
        return self._local.room(size)

    def submit(self, step: StepInput) -> Future[StepResult]:
        return self._first.submit(step)

    def collect(self, handle: Future[StepResult]) -> StepResult:
        """Raises RankError if a rank has failed."""
        return handle.result()

    def reset(self) -> None:
        wait(list(self._first.unfinished))

    def close(self) -> None:
        self._close()
