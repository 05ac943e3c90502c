"""How ranks detect that one of them has died, stalls or has raised, and all end with the reason.

In each rank a thread writes a heartbeat every quarter of a second, with the number of exchanges
(collectives) that the rank has begun. Rank 0 reads them all. The first failure that a rank claims
becomes the failure of all ranks.

Timeouts count polls, not seconds: a process that was itself stopped (Ctrl-Z, a closed laptop) has
not polled meanwhile, and does not report the others as stalled.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Iterator, List, Optional, Set, Tuple, Union

from vllm.errors import RankError
from vllm.parallel.torch_group import LostPeerError, TorchGroup
from vllm.worker.ranks.meeting import Meeting

_LOOK_SECONDS = 0.25
# A rank stalls if for this many polls there is no heartbeat, or not the exchange that others wait
# for. All ranks end within 5 s of a stall.
_PATIENCE = 14
# Reading weights may hold the GIL for long, and no rank waits in an exchange yet.
_PATIENCE_WHILE_LOADING = 480
# How long a rank whose exchange has failed waits for the reason from another rank.
_REASON_SECONDS = 4.5

_FAILURE = "failure"


class Progress:
    """The progress of a rank with a GPU; counts steps as `TorchGroup` counts exchanges.

    entered: steps that it has launched; in rank 0, steps that it has begun to launch.
    waiting: whether it now waits, for the device or for other ranks to receive a step.
    """

    def __init__(self) -> None:
        self.entered = 0
        self._waiting: Set[int] = set()  # ids of threads

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Marks this thread as waiting."""
        self._waiting.add(threading.get_ident())
        try:
            yield
        finally:
            self._waiting.remove(threading.get_ident())


class Watch:
    """The watching thread of one rank.

    on_failure: called once, in that thread, with the reason.
    find_dead: in rank 0, returns a message about a process that has ended, or None.
    """

    def __init__(
        self,
        meeting: Meeting,
        on_failure: Callable[[str], None],
        find_dead: Callable[[], Optional[str]] = lambda: None,
    ) -> None:
        self.failure: Optional[str] = None
        self._failed = threading.Event()
        self._meeting = meeting
        self._on_failure = on_failure
        self._find_dead = find_dead
        self._progress: Optional[Union[TorchGroup, Progress]] = None
        self._stop = threading.Event()
        self._looks = 0
        self._patience = _PATIENCE_WHILE_LOADING
        size = meeting.size
        self._last: List[Any] = [None] * size  # of each rank: its last heartbeat,
        self._silent = [0] * size  # polls since that heartbeat,
        self._behind = [0] * size  # and polls in which others have waited for this rank
        self._thread = threading.Thread(target=self._run, name="vllm-watch", daemon=True)
        self._thread.start()
        if meeting.rank:
            threading.Thread(target=self._guard, name="vllm-guard", daemon=True).start()

    def follow(self, progress: Union[TorchGroup, Progress]) -> None:
        """From now on ranks compute steps, and one that falls behind the others stalls."""
        self._progress = progress

    def report(self, error: BaseException) -> None:
        """Ends all ranks because of an error of this one, and returns when it is published.

        If an exchange has failed, first waits for the reason from the rank that caused it.
        """
        if isinstance(error, LostPeerError) and self._failed.wait(_REASON_SECONDS):
            return
        text = f"rank {self._meeting.rank} raised {type(error).__name__}: {error}"
        self._fail(self._claim(text))

    def check(self) -> None:
        """Raises RankError after a failure."""
        if self.failure is not None:
            raise RankError(self.failure)

    def stop(self) -> None:
        """Ends the watch: nothing is reported as a failure from now on."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2 * _LOOK_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                text = self._look()
            except RuntimeError as error:  # the store is in rank 0 or the launcher
                text = f"rank 0 is gone: {error}"
            if text is not None and not self._stop.is_set():
                self._fail(text)
                return

    def _look(self) -> Optional[str]:
        """Polls the other ranks once; returns the failure, if there is one."""
        meeting, progress = self._meeting, self._progress
        dead = self._find_dead()  # first: a rank claims its own error before it dies
        entered = (0, False) if progress is None else (progress.entered, progress.waiting)
        meeting.tell("life", [self._looks, *entered])
        self._looks += 1
        found = meeting.claimed(_FAILURE)
        if found is None and dead is not None:
            found = self._claim(dead)
        if found is None and meeting.rank == 0:
            stalls = self._find_stall()
            found = None if stalls is None else self._claim(stalls)
        return found

    def _find_stall(self) -> Optional[str]:
        ranks = range(self._meeting.size)
        signs = [self._meeting.heard("life", rank) for rank in ranks]
        entered: List[Tuple[int, bool]] = [(s[1], s[2]) if s else (0, False) for s in signs]
        if self._progress is not None and self._patience != _PATIENCE:
            self._patience = _PATIENCE
            self._silent = [0] * len(signs)
        for rank, sign in enumerate(signs):
            self._silent[rank] = self._silent[rank] + 1 if sign == self._last[rank] else 0
            seconds = self._silent[rank] * _LOOK_SECONDS
            if self._silent[rank] > self._patience:
                return f"rank {rank} stalls: there has been no sign of life for {seconds} s"
        for rank in ranks:
            late = any(waits and count > entered[rank][0] for count, waits in entered)
            moved = self._last[rank] is None or entered[rank][0] != self._last[rank][1]
            self._behind[rank] = self._behind[rank] + 1 if late and not moved else 0
            if self._behind[rank] > _PATIENCE:
                return (
                    f"rank {rank} stalls: others have waited {_PATIENCE * _LOOK_SECONDS} s for its "
                    f"exchange {entered[rank][0] + 1}"
                )
        self._last = signs
        return None

    def _guard(self) -> None:
        """Detects that rank 0 is stopped: its store does not answer then, and `_run` hangs."""
        looks, hanging = 0, 0
        while not self._stop.wait(_LOOK_SECONDS):
            hanging = hanging + 1 if looks == self._looks else 0
            looks = self._looks
            if hanging > _PATIENCE:
                self._fail("rank 0 stalls: its store does not answer")

    def _claim(self, text: str) -> str:
        try:
            return self._meeting.claim(_FAILURE, text)
        except RuntimeError:  # the store is gone
            return text

    def _fail(self, text: str) -> None:
        if self.failure is None:
            self.failure = text
            self._failed.set()
            self._on_failure(text)
