"""The main loop of ranks other than 0: compute the steps that rank 0 sends."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections import deque
from typing import Callable, Deque, Optional

from vllm.engine.step_input import StepBuffers
from vllm.engine.step_message import unpack_step
from vllm.engine_args import EngineArgs
from vllm.errors import RankError
from vllm.parallel.torch_group import LostPeerError
from vllm.worker.load import make_plan
from vllm.worker.ranks.join import join
from vllm.worker.ranks.meeting import Meeting, join_meeting
from vllm.worker.ranks.watch import Watch
from vllm.worker.results import PendingResult

logger = logging.getLogger(__name__)

_STDERR = 2


def serve(
    args: EngineArgs,
    meeting: Meeting,
    on_failure: Optional[Callable[[str], None]] = None,
) -> None:
    """Computes steps until rank 0 ends.

    on_failure: called in another thread after a failure of any rank. The default ends the process
        at once, whatever it waits for.
    """

    def end(text: str) -> None:
        os.write(_STDERR, f"rank {meeting.rank} ends: {text}\n".encode())
        os._exit(1)

    watch = Watch(meeting, on_failure or end)
    try:
        plan = make_plan(args, meeting.local_rank)
        executor, channel, progress, cuda = join(args, plan, meeting, watch)
        buffers = StepBuffers(executor.allocate, executor.room)
        in_flight: Deque[PendingResult] = deque()
        while True:
            message = channel.receive()
            if not message:  # rank 0 has no more steps
                break
            in_flight.append(executor.submit(unpack_step(message, buffers.take)))
            progress.entered += 1
            if len(in_flight) > 1:  # the next step reuses its buffer
                with progress.wait():
                    executor.collect(in_flight.popleft())
        if cuda is not None:
            cuda.abort()  # unfinished steps are not needed
            executor.close()
            cuda.close()
    except BaseException as error:
        if not isinstance(error, (LostPeerError, RankError)):
            logger.exception("rank %d failed", meeting.rank)
        watch.report(error)
        raise
    watch.stop()


def main() -> None:
    """The process that `RankProcess` starts."""
    # Ctrl-C at a terminal signals all processes; rank 0 decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    what = json.loads(sys.argv[1])
    args = EngineArgs(**what["args"])
    size, where = args.tensor_parallel_size, (what["address"], what["local_rank"])
    serve(args, join_meeting(what["port"], what["rank"], size, *where))


if __name__ == "__main__":
    main()
