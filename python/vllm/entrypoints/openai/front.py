"""A front process of `vllm serve --api-server-count N`: handles HTTP for the main process.

The main process accepts connections and hands each to one front. The front has sockets of its own
to the engines. It ignores signals, which a terminal sends to all processes: the main process says
when to finish. Its configuration is a line of standard input (it contains API keys, which a command
line would show to everybody). When that pipe is closed, the main process has ended; so does the
front.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Set

import uvicorn

from vllm.engine_args import EngineArgs
from vllm.engine_process.board import Board, SharedMemory
from vllm.engine_process.client import AsyncEngineClient
from vllm.engine_process.engines import ToldEngines
from vllm.engine_process.heap import freeze_heap
from vllm.entrypoints.openai.app import build_app
from vllm.entrypoints.openai.front_channel import (
    Channel,
    Connection,
    EngineEnded,
    EngineStarted,
    Failed,
    Finish,
    Serving,
)
from vllm.entrypoints.openai.front_group import FrontGroup
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.server import DrainingServer, uvicorn_config
from vllm.entrypoints.openai.warm_up import warm_up
from vllm.errors import EngineError, RankError, kind_of
from vllm.processes import end_with_parent
from vllm.text.template_sandbox import SANDBOX

# Messages that one turn of the event loop takes: of connections that come together the first gets
# to the engine while the others wait, as in `vllm.entrypoints.openai.server`.
_TAKEN_AT_ONCE = 8


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if not line:  # the main process has ended
        return
    what = json.loads(line)
    end_with_parent()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    for name, level in what["log_levels"].items():
        logging.getLogger(name).setLevel(level)
    channel = Channel(socket.socket(fileno=what["channel_fd"]))
    try:
        asyncio.run(_serve(what, channel))
    except Exception as error:  # the main process raises it
        if not isinstance(error, (ValueError, ImportError, RankError, EngineError)):
            logging.getLogger(__name__).critical("a front process has failed", exc_info=True)
        channel.send(Failed(kind_of(error), str(error)))
        sys.exit(1)


async def _serve(what: Dict[str, Any], channel: Channel) -> None:
    number, count = what["number"], what["count"]
    memory = SharedMemory(number, count + 1, what["memory_fd"])
    group = FrontGroup(number, count, memory, Path(what["socket_folder"]), what["created"])
    options = ServerOptions(**what["options"])
    engines = ToldEngines(options.data_parallel_size, number)
    front = _Front(channel, engines, memory.board("connections", 1))
    SANDBOX.start()
    # Whatever the limit on queued sequences lets through goes to the engine, which sees the
    # requests of all fronts, and so serves them in the right order.
    engine = await AsyncEngineClient.join(
        EngineArgs(**what["args"]),
        Path(what["model_folder"]),
        engines,
        memory,
        options.max_queued_sequences,
    )
    try:
        app = build_app(engine, options, group)
        await warm_up(app)
        config = uvicorn_config(app, options)
        server = _FrontServer(config, options.shutdown_timeout, front, group.socket(number))
        freeze_heap()
        await server.serve([])
    finally:
        await engine.shutdown()


class _Front:
    """Reads what the main process says.

    closed: the number of connections that have ended, for the main process.
    """

    def __init__(self, channel: Channel, engines: ToldEngines, closed: Board) -> None:
        self.channel = channel
        self._engines = engines
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._connecting: Set[asyncio.Future[None]] = set()
        self._server: Optional[_FrontServer] = None
        self._loop.add_reader(channel.fileno(), self._read)

    def serve(self, server: _FrontServer) -> None:
        self._server = server
        self.channel.send(Serving())

    def count_closed(self) -> None:
        self._closed.mine[0] += 1

    def _read(self) -> None:
        for _ in range(_TAKEN_AT_ONCE):
            try:
                message, fd = self.channel.receive()
            except BlockingIOError:
                return
            except EOFError:
                os._exit(1)  # the main process has ended
            if isinstance(message, Connection):
                assert fd is not None
                self._connect(socket.socket(fileno=fd))
            elif isinstance(message, EngineStarted):
                self._engines.started(message.index, Path(message.folder))
            elif isinstance(message, EngineEnded):
                self._engines.ended(message.index, message.how)
            elif isinstance(message, Finish):
                if self._server is None:
                    os._exit(0)
                self._server.handle_exit(signal.SIGTERM, None)

    def _connect(self, connection: socket.socket) -> None:
        assert self._server is not None
        connecting = asyncio.ensure_future(self._server.connect(connection))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)


class _FrontServer(DrainingServer):
    """Serves the connections that the main process hands over, and requests of other fronts.

    path: the socket at which the other fronts connect.
    """

    def __init__(
        self, config: uvicorn.Config, timeout: Optional[int], front: _Front, path: Path
    ) -> None:
        super().__init__(config, timeout)
        self._front = front
        self._path = path

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await super().startup(sockets)
        protocol: Any = self.config.http_protocol_class
        self._counted_class = _counting(protocol, self._front.count_closed)
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_unix_server(self._protocol_of_front, str(self._path)))
        self._front.serve(self)

    async def connect(self, connection: socket.socket) -> None:
        """Serves a connection to a client."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            await loop.connect_accepted_socket(self._counted, connection, ssl=self.config.ssl)
        except OSError:  # it has left, or does not speak TLS
            connection.close()
            self._front.count_closed()

    def _counted(self) -> Any:
        """The protocol of a connection that the main process counts."""
        return self._create(self._counted_class)

    def _protocol_of_front(self) -> Any:
        made = self._create(self.config.http_protocol_class)
        made.access_log = False  # the other front writes the line
        return made

    def _create(self, protocol: Any) -> Any:
        state = self.lifespan.state
        return protocol(config=self.config, server_state=self.server_state, app_state=state)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """The main process gets them."""
        yield


def _counting(protocol: Any, when_lost: Callable[[], None]) -> Any:
    """The class of a protocol that also calls `when_lost` at the end of its connection."""

    class Counting(protocol):  # type: ignore[misc]
        def connection_lost(self, exc: Optional[Exception]) -> None:
            super().connection_lost(exc)
            when_lost()

    return Counting


if __name__ == "__main__":
    main()
