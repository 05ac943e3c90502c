"""The front processes of a server, as its main process sees them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from vllm.engine_args import EngineArgs
from vllm.engine_process.board import SharedMemory
from vllm.engine_process.connection import as_error
from vllm.engine_process.engines import Watcher
from vllm.engine_process.process import END_SECONDS, how_ended, watched
from vllm.entrypoints.openai.front_channel import (
    Channel,
    Connection,
    EngineEnded,
    EngineStarted,
    Failed,
    Finish,
    ToFront,
)
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.startup import ServerDiedError
from vllm.processes import import_paths

_MODULE = "vllm.entrypoints.openai.front"


class FrontProcess:
    """One of the processes, as the main process sees it. Create it inside the event loop.

    config: see `vllm.entrypoints.openai.front`.
    name: for messages.
    num_handed: how many connections it has got.
    ended: done when the process has ended, with how it ended.
    """

    def __init__(self, name: str, config: Dict[str, Any], memory_fd: int) -> None:
        ours, theirs = Channel.pair()
        self.name = name
        self.num_handed = 0
        self.channel = Channel(ours)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,  # the front ends when this end of the pipe is closed
                pass_fds=[theirs.fileno(), memory_fd],
                env={**os.environ, **import_paths()},
            )
            fds = {"channel_fd": theirs.fileno(), "memory_fd": memory_fd}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({**config, **fds}).encode() + b"\n")
            self._process.stdin.flush()
        self.ended = watched(functools.partial(how_ended, self._process))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_failed(self) -> bool:
        """Whether it has ended otherwise than it should."""
        return self._process.poll() not in (None, 0)

    def send(self, message: ToFront) -> None:
        """If the front has ended, the message is lost; see `ended`."""
        with contextlib.suppress(OSError):
            self.channel.send(message)

    async def serving(self) -> None:
        """Waits until it takes connections. Raises the error of a front that fails to start."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.channel.fileno(), told.set)
        try:
            waiting: asyncio.Future[Any] = asyncio.ensure_future(told.wait())
            either: List[asyncio.Future[Any]] = [waiting, self.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        finally:
            loop.remove_reader(self.channel.fileno())
        try:
            message, _ = self.channel.receive()
        except (EOFError, OSError):
            raise ServerDiedError(f"{self.name} has ended: {await self.ended}") from None
        if isinstance(message, Failed):
            raise as_error(message.kind, message.text)

    def kill(self) -> None:
        """Ends the process, and waits for it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.channel.close()


class Fronts(Watcher):
    """All front processes of a server. Use it as ``async with``, or `close` it at the end."""

    def __init__(self, args: EngineArgs, folder: Path, options: ServerOptions) -> None:
        self._memory_fd = SharedMemory.create_file()
        self._folder = Path(tempfile.mkdtemp(prefix="vllm-"))  # of mode 0700
        count = options.api_server_count
        assert count is not None  # the server has chosen
        self.memory = SharedMemory(0, count + 1, self._memory_fd)
        self._connections = self.memory.board("connections", 1)
        self._is_finishing = False
        self.fronts: List[FrontProcess] = []
        config = {
            "args": dataclasses.asdict(args),
            "model_folder": str(folder),
            "options": dataclasses.asdict(options),
            "count": count,
            "socket_folder": str(self._folder),
            "created": int(time.time()),
            "log_levels": {
                name: logging.getLogger(name).getEffectiveLevel()
                for name in ("vllm", "uvicorn.access")
            },
        }
        try:
            for number in range(1, count + 1):
                name = f"front process {number} of {count}"
                started = FrontProcess(name, {**config, "number": number}, self._memory_fd)
                self.fronts.append(started)
        except BaseException:
            self.close()
            raise

    async def serving(self) -> None:
        """Waits until all take connections. Raises the error of one that fails to start."""
        await asyncio.gather(*[front.serving() for front in self.fronts])

    def engine_started(self, index: int, folder: Path) -> None:
        for front in self.fronts:
            front.send(EngineStarted(index, str(folder)))

    def engine_ended(self, index: int, how: str) -> None:
        for front in self.fronts:
            front.send(EngineEnded(index, how))

    async def wait_until_one_has_ended(self) -> None:
        ended = [front.ended for front in self.fronts]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)

    def failure(self) -> Optional[str]:
        """How the first has ended that should not have ended like that."""
        for front in self.fronts:
            if front.ended.done() and (front.has_failed or not self._is_finishing):
                return f"{front.name} has ended: {front.ended.result()}"
        return None

    def hand_over(self, connection: socket.socket) -> bool:
        """Hands a connection to the front with the fewest; False if none takes any now."""
        for front in sorted(self.fronts, key=self._num_open):
            with contextlib.suppress(OSError):  # it reads slowly, or has ended
                front.channel.send(Connection(), connection.fileno())
                front.num_handed += 1
                return True
        return False

    def _num_open(self, front: FrontProcess) -> Tuple[int, int]:
        """Its connections; of fronts with as many, those come first that had the fewest so far."""
        closed = self._connections.row(1 + self.fronts.index(front))[0]
        return front.num_handed - int(closed), front.num_handed

    def finish(self) -> None:
        """Lets them finish running requests, and then end; the second time, they end at once."""
        for front in self.fronts:
            front.send(Finish())
        if self._is_finishing:
            asyncio.get_running_loop().call_later(END_SECONDS, self._kill)
        self._is_finishing = True

    async def wait_until_all_have_ended(self) -> None:
        await asyncio.wait([front.ended for front in self.fronts])

    def close(self) -> None:
        """Ends those that are still there, and frees what they share."""
        self._kill()
        os.close(self._memory_fd)
        shutil.rmtree(self._folder, ignore_errors=True)  # the first error is the one to tell

    def _kill(self) -> None:
        for front in self.fronts:
            front.kill()
