"""Where a client's engines come from: it starts their processes, or another process does."""

from __future__ import annotations

import abc
import asyncio
from pathlib import Path
from typing import Dict, List, Mapping
from typing import Sequence as SequenceOf

from vllm.engine_args import EngineArgs
from vllm.engine_process.connection import EngineConnection
from vllm.engine_process.messages import Close
from vllm.engine_process.process import END_SECONDS, EngineProcess, watched

# How long after its end a replica is started again: by then the ranks of a divided model have ended
# too (`vllm.worker.ranks.watch`), and their GPUs' memory is free.
RESTART_SECONDS = 5.0


class Engines(abc.ABC):
    """The engines (replicas) of a client, by index. count: how many there are."""

    count: int

    @abc.abstractmethod
    async def first(self) -> List[EngineConnection]:
        """Connections to all, which may still be loading the model."""

    @abc.abstractmethod
    async def again(self, index: int) -> EngineConnection:
        """A connection to the process that follows one that has ended."""

    @abc.abstractmethod
    async def end(self, engine: EngineConnection, seconds: float = END_SECONDS) -> None:
        """Ends an engine's process, if this is who has started it; kills it after `seconds`."""


class Watcher:
    """Is told of the processes that `StartedEngines` starts, by those that do not start any."""

    def engine_started(self, index: int, folder: Path) -> None:
        """A process has been started. folder: of its sockets."""

    def engine_ended(self, index: int, how: str) -> None:
        """A process has ended."""


class StartedEngines(Engines):
    """Engines that this process starts and ends.

    variables: of the environment of each one's process; see `EngineProcess`.
    num_clients: how many processes send them requests; this one is client 0.
    """

    def __init__(
        self,
        args: EngineArgs,
        variables: SequenceOf[Mapping[str, str]],
        num_clients: int = 1,
        watcher: Watcher = Watcher(),  # noqa: B008 (it has no state)
    ) -> None:
        self.count = len(variables)
        self._args = args
        self._variables = variables
        self._num_clients = num_clients
        self._watcher = watcher
        self._processes: Dict[EngineConnection, EngineProcess] = {}

    async def first(self) -> List[EngineConnection]:
        started: List[EngineConnection] = []
        try:
            for index in range(self.count):
                started.append(self._start(index))
        except BaseException:
            await asyncio.gather(*[self.end(engine, 0) for engine in started])
            for engine in started:
                engine.close()
            raise
        return started

    async def again(self, index: int) -> EngineConnection:
        await asyncio.sleep(RESTART_SECONDS)
        return self._start(index)

    async def end(self, engine: EngineConnection, seconds: float = END_SECONDS) -> None:
        engine.send(Close())
        process = self._processes.pop(engine)
        await asyncio.get_running_loop().run_in_executor(None, process.end, seconds)

    def pid(self, engine: EngineConnection) -> int:
        return self._processes[engine].pid

    def _start(self, index: int) -> EngineConnection:
        process = EngineProcess(self._args, self._variables[index], self._num_clients)
        engine = EngineConnection(process.folder, watched(process.wait))
        self._processes[engine] = process
        self._watcher.engine_started(index, process.folder)
        engine.ended.add_done_callback(
            lambda ended: self._watcher.engine_ended(index, ended.result())
        )
        return engine


class ToldEngines(Engines):
    """Engines that another process starts and ends; it says so by `started` and `ended`.

    client: the number of this client.
    """

    def __init__(self, count: int, client: int) -> None:
        self.count = count
        self._client = client
        self._started: List[asyncio.Queue[EngineConnection]] = [
            asyncio.Queue() for _ in range(count)
        ]
        self._last: Dict[int, EngineConnection] = {}

    def started(self, index: int, folder: Path) -> None:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last[index] = EngineConnection(folder, ended, self._client)
        self._started[index].put_nowait(self._last[index])

    def ended(self, index: int, how: str) -> None:
        if not self._last[index].ended.done():
            self._last[index].ended.set_result(how)

    async def first(self) -> List[EngineConnection]:
        return [await self.again(index) for index in range(self.count)]

    async def again(self, index: int) -> EngineConnection:
        return await self._started[index].get()

    async def end(self, engine: EngineConnection, seconds: float = END_SECONDS) -> None:
        """The process goes on, but this client no longer listens."""
        if not engine.ended.done():
            engine.ended.set_result("this client has left it")
