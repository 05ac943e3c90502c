"""The executor of a model that is divided among several processes: this one, rank 0, and others.

Rank 0 is the engine's process, so results are not sent between processes, and no extra process is
needed. It computes in a thread: Ctrl-C interrupts only the main thread, and a step that only some
ranks had begun would leave them waiting for each other.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import queue
import threading
import time
import weakref
from concurrent.futures import Future, InvalidStateError, wait
from typing import Dict, List, Optional, Set, Tuple, Union

from vllm.engine.executor import Executor, StepResult
from vllm.engine.step_input import SizeClass, StepInput
from vllm.engine.step_message import pack_step
from vllm.engine_args import EngineArgs
from vllm.errors import RankError
from vllm.parallel.torch_group import LostPeerError
from vllm.worker.load import LoadPlan
from vllm.worker.ranks.join import Rank, join
from vllm.worker.ranks.meeting import is_launched, open_meeting, port_of, torchrun_meeting
from vllm.worker.ranks.on_ray import RayRanks
from vllm.worker.ranks.processes import Processes
from vllm.worker.ranks.serve import serve
from vllm.worker.ranks.watch import Watch
from vllm.worker.results import PendingResult

# How long `close` waits for the step in flight before it kills the ranks.
_END_SECONDS = 2.0
# How often `collect` polls the device. The next step is already launched, so polling delays only
# the handling of the tokens.
_POLL_SECONDS = 50e-6


def start_ranks(args: EngineArgs, plan: LoadPlan) -> RanksExecutor:
    """Starts the other ranks, itself or by Ray, or connects to those that torchrun has started.

    In a process that torchrun has started as another rank than 0, this serves steps until rank 0
    ends, and then raises SystemExit.
    """
    size, by_ray = args.tensor_parallel_size, args.distributed_executor_backend == "ray"
    if by_ray and is_launched():
        raise ValueError(
            "distributed_executor_backend is 'ray', and torchrun has started this process: ranks "
            "are started by one of the two"
        )
    arranged = torchrun_meeting(size)
    if arranged is not None and arranged.rank:
        serve(args, arranged)
        raise SystemExit(0)
    first = FirstRank()
    try:
        if arranged is not None:
            meeting = arranged
        elif by_ray:
            first.processes = ranks = RayRanks(size, plan.device)
            # Runs before Ray's own function, which was registered earlier.
            atexit.register(first.close)
            meeting = open_meeting(size, ranks.address)
            ranks.start(args, port_of(meeting))
            plan = dataclasses.replace(plan, device=ranks.device)
        else:
            meeting = open_meeting(size)
            # Already downloaded: the other ranks read the folder.
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
    """Rank 0, its thread, and the processes of the other ranks if it has started them."""

    def __init__(self) -> None:
        self.processes: Optional[Union[Processes, RayRanks]] = None
        self.watch: Optional[Watch] = None
        self.failure: Optional[str] = None
        self.cause: Optional[BaseException] = None  # the error, if this rank failed
        self.unfinished: Set[Future[PendingResult]] = set()
        # Steps to start, steps (of which only the future is needed) to sample, and None: the end.
        self._jobs: queue.SimpleQueue[Optional[Tuple[Optional[StepInput], Future[PendingResult]]]]
        self._jobs = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None
        self._rank: Optional[Rank] = None
        self._ending = threading.RLock()  # re-entrant: the holding thread may run the finalizer

    def start(self, rank: Rank) -> None:
        self._rank = rank
        self._thread = threading.Thread(
            target=self._run, args=(rank,), name="vllm-rank-0", daemon=True
        )
        self._thread.start()

    def submit(self, step: StepInput) -> Future[PendingResult]:
        """Starts a step; the future is done when all of it has been launched, the part behind
        its masks too.

        After a failure its future has one as well.
        """
        future: Future[PendingResult] = Future()
        self.unfinished.add(future)
        future.add_done_callback(self.unfinished.discard)
        self._jobs.put((step, future))
        if self.failure is not None:  # it may have failed before the future was added
            self.fail(self.failure)
        return future

    def sample(self, future: Future[PendingResult]) -> None:
        """Goes on with a step, if it waits for its masks."""
        self._jobs.put((None, future))

    def fail(self, text: str) -> None:
        """Ends all ranks; pending futures get a RankError."""
        self.failure = text
        if self.processes is not None:
            self.processes.kill()
        for future in list(self.unfinished):
            with contextlib.suppress(InvalidStateError):
                future.set_exception(self._error(text))
        self._jobs.put(None)
        with self._ending:  # every caller returns after the end, so Python may exit then
            rank, self._rank = self._rank, None
            if rank is not None and rank.cuda_group is not None:
                rank.cuda_group.abort()  # ends kernels that wait for other ranks
                self._join()
                rank.executor.close()
                rank.cuda_group.close()

    def check(self) -> None:
        """Raises RankError after a failure."""
        if self.failure is not None:
            raise self._error(self.failure)

    def _error(self, text: str) -> RankError:
        error = RankError(text)
        error.__cause__ = self.cause
        return error

    def close(self) -> None:
        """Ends the other ranks: those of torchrun by a message, its own by a signal."""
        atexit.unregister(self.close)
        if self.watch is not None:
            self.watch.stop()
        if self._thread is not None:
            self._jobs.put(None)
            self._join()
        self.fail(self.failure or "the engine has been shut down")

    def _join(self) -> None:
        if self._thread not in (None, threading.current_thread()):  # the finalizer may run in it
            self._thread.join(_END_SECONDS)

    def _run(self, rank: Rank) -> None:
        executor, channel, progress, _ = rank
        watch = self.watch
        assert watch is not None
        unsampled: Dict[Future[PendingResult], PendingResult] = {}
        try:
            while self.failure is None:
                job = self._jobs.get()
                if job is None:
                    if self.failure is None:
                        channel.send(b"")
                    return
                step, future = job
                if step is not None:
                    progress.entered += 1
                    with progress.wait():
                        channel.send(pack_step(step))
                    pending = unsampled[future] = executor.submit(step)
                    if step.masks is not None:
                        continue
                elif future in unsampled:
                    pending = unsampled[future]
                    executor.sample(pending)
                else:
                    continue
                del unsampled[future]
                with contextlib.suppress(InvalidStateError):  # `fail` has set an error
                    future.set_result(pending)
        except BaseException as error:  # noqa: BLE001 (`collect` raises it)
            self.cause = None if isinstance(error, LostPeerError) else error
            watch.report(error)


class RanksExecutor(Executor):
    """Runs steps in several processes at once. A failure of one rank ends all of them."""

    def __init__(self, first: FirstRank, rank: Rank) -> None:
        self.num_blocks = rank.executor.num_blocks
        self.block_size = rank.executor.block_size
        self.max_rows = rank.executor.max_rows
        self.overlaps = rank.executor.overlaps
        self._first = first
        self._local = rank.executor
        self._progress = rank.progress
        # Also runs when this executor is garbage, and when Python exits.
        self._close = weakref.finalize(self, first.close)

    @property
    def pids(self) -> List[int]:
        """The processes of the other ranks that this one, or Ray, has started."""
        return [] if self._first.processes is None else self._first.processes.pids

    def allocate(self, nbytes: int) -> memoryview:
        return self._local.allocate(nbytes)

    def room(self, size: SizeClass) -> int:
        return self._local.room(size)

    def submit(self, step: StepInput) -> Future[PendingResult]:
        return self._first.submit(step)

    def sample(self, handle: Future[PendingResult]) -> None:
        self._first.sample(handle)

    def collect(self, handle: Future[PendingResult]) -> StepResult:
        """Raises RankError if a rank has failed."""
        pending = handle.result()
        with self._progress.wait():
            while not pending.is_done():  # polls: a kernel that waits for a dead rank never ends
                self._first.check()
                time.sleep(_POLL_SECONDS)
        self._first.check()  # the results of an aborted step are invalid
        return self._local.collect(pending)

    def reset(self) -> None:
        unfinished = list(self._first.unfinished)
        for future in unfinished:  # the other ranks wait for what this one samples
            self._first.sample(future)
        wait(unfinished)
        if self._first.failure is None:
            self._local.reset()

    def close(self) -> None:
        self._close()
