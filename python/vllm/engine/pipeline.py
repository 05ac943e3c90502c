"""Steps one behind another: planned, launched, sampled and collected.

With overlap, a step is planned and launched while the one before it is computed.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Deque, List, NamedTuple, Optional

from vllm.engine.describe import StepWriter
from vllm.engine.executor import Executor, StepResult
from vllm.engine.masks import StepMasks
from vllm.engine.scheduler import Chunk, Scheduler
from vllm.engine.sequence import FinishReason, Sequence, SequenceStatus
from vllm.engine.step_input import StepInput
from vllm.text.grammars import wait_for_masks


class DoneStep(NamedTuple):
    """A step whose tokens the sequences have.

    started: when it was scheduled, by `time.monotonic`.
    wanted: whether anybody wants to know of each of its sequences.
    failed: sequences that have ended without a token, since their grammars failed.
    """

    chunks: List[Chunk]
    started: float
    result: StepResult
    wanted: List[bool]
    failed: List[Sequence]


class _Step(NamedTuple):
    """A submitted step. started: when it was scheduled, by `time.monotonic`."""

    chunks: List[Chunk]
    handle: Any
    masks: Optional[StepMasks]
    started: float


class _Plan(NamedTuple):
    """A step that has not been submitted. started: when it was scheduled, by `time.monotonic`."""

    chunks: List[Chunk]
    step: StepInput
    started: float


class Pipeline:
    """Runs what the scheduler chooses. overlaps: whether a step is launched before the one before
    it has been collected."""

    def __init__(
        self, scheduler: Scheduler, writer: StepWriter, executor: Executor, *, overlaps: bool
    ) -> None:
        self._scheduler = scheduler
        self.writer = writer
        self._executor = executor
        self._overlaps = overlaps
        self._in_flight: Deque[_Step] = deque()  # submitted, not collected
        self._planned: Optional[_Plan] = None  # the step after them

    def advance(self) -> Optional[DoneStep]:
        """Waits for one step, whose tokens the sequences get; None if no sequence can be
        scheduled."""
        failed: List[Sequence] = []
        if not self._in_flight:
            self._plan()
            self._launch()
            if not self._in_flight:
                return None
            failed += self._sample(self._in_flight[0])
        step = self._in_flight.popleft()
        if self._overlaps and not self._in_flight:
            self._plan()
            self._launch()  # the device has something to do while this one's tokens are looked at
        result = self._executor.collect(step.handle)
        # Sequences that the previous step or an abort has ended give no further output.
        wanted = [chunk.seq.status is not SequenceStatus.FINISHED for chunk in step.chunks]
        self._scheduler.update(step.chunks, result.token_ids)
        if self._in_flight:  # the tokens that its masks follow from are known now
            failed += self._sample(self._in_flight[0])
        return DoneStep(step.chunks, step.started, result, wanted, failed)

    def clear(self) -> None:
        """Forgets all steps; the executor must be reset."""
        if any(step.masks is not None for step in self._in_flight):
            wait_for_masks()  # their memory is used again
        self._in_flight.clear()
        self._planned = None

    def _plan(self) -> None:
        """Schedules and describes the next step, if any sequence can be scheduled."""
        started = time.monotonic()
        chunks = self._scheduler.schedule()
        if chunks:
            self._planned = _Plan(chunks, self.writer.write(chunks), started)

    def _launch(self) -> None:
        """Starts the step that has been planned, if any."""
        if self._planned is not None:
            self._launched(self._executor.submit(self._planned.step))

    def _launched(self, handle: Any) -> None:
        """Notes that the planned step has been."""
        plan, self._planned = self._planned, None
        assert plan is not None
        self._scheduler.block_manager.hash_published()
        self._in_flight.append(_Step(plan.chunks, handle, plan.step.masks, plan.started))

    def _sample(self, step: _Step) -> List[Sequence]:
        """Goes on with the last step, if it has masks; returns sequences that ended since theirs
        failed.

        With overlap, the step after it is planned while the masks are made. It is launched then, if
        the device can wait for the masks; else when they are there.
        """
        if step.masks is None:
            return []
        failed = step.masks.fill(
            (lambda: self._go_ahead(step)) if self._overlaps else None,
            lambda: self._executor.masks_are_ready(step.handle),
        )
        for seq, error in failed:
            seq.stop_reason = str(error)
            self._scheduler.finish(seq, FinishReason.ERROR)
        if self._in_flight[-1] is step:
            self._executor.sample(step.handle)
            self._launch()
        return [seq for seq, _ in failed]

    def _go_ahead(self, step: _Step) -> None:
        """Plans the next step, and launches it if the device can wait for the masks of this one."""
        self._plan()
        if self._planned is not None:
            handle = self._executor.launch_ahead(step.handle, self._planned.step)
            if handle is not None:
                self._launched(handle)
