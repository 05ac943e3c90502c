"""What all clients of the same engines know of each engine's load."""

from __future__ import annotations

from vllm.engine.llm_engine import EngineLoad
from vllm.engine_process.board import SharedMemory

# For each engine: the sequences that this client has there, and the load that it last heard of,
# with the time of it.
_SEQUENCES, _TIME, _LOAD = 0, 1, 2
_WIDTH = 2 + len(EngineLoad._fields)


class Loads:
    """Each client writes what it knows, and reads what all know."""

    def __init__(self, memory: SharedMemory, num_engines: int) -> None:
        self._board = memory.board("engines", _WIDTH * num_engines)

    def has(self, engine: int, num_sequences: int) -> None:
        """This client has so many sequences there."""
        self._board.mine[_WIDTH * engine + _SEQUENCES] = num_sequences

    def num_sequences(self, engine: int) -> int:
        """Those of all clients."""
        return int(self._board.total(_WIDTH * engine + _SEQUENCES))

    def heard(self, engine: int, time: float, load: EngineLoad) -> None:
        """The engine has reported its load."""
        at, mine = _WIDTH * engine, self._board.mine
        mine[at + _LOAD], mine[at + _LOAD + 1], mine[at + _LOAD + 2] = load
        mine[at + _TIME] = time

    def latest(self, engine: int) -> EngineLoad:
        """The load that any client heard of last."""
        rows = [self._board.row(client) for client in range(self._board.num_rows)]
        at = _WIDTH * engine
        row = max(rows, key=lambda row: row[at + _TIME])
        running, waiting, cache_usage = row[at + _LOAD : at + _WIDTH]
        return EngineLoad(int(running), int(waiting), cache_usage)

    def forget(self, engine: int) -> None:
        """The engine has ended, and its sequences with it."""
        for column in range(_WIDTH * engine, _WIDTH * (engine + 1)):
            self._board.mine[column] = 0
