"""The client's side of the engine: it tokenizes and detokenizes; engine processes compute."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any, Coroutine, Dict, List, Optional, Set

from vllm.config import GenerationDefaults, ModelConfig
from vllm.engine.async_engine import AsyncEngine, OutputReader
from vllm.engine.engine_thread import EngineClosedError, closed_error
from vllm.engine.llm_engine import EngineLoad
from vllm.engine.request import Request
from vllm.engine.request_maker import RequestMaker
from vllm.engine.router import Router
from vllm.engine_args import EngineArgs
from vllm.engine_process.board import SharedMemory
from vllm.engine_process.connection import EngineConnection, as_error
from vllm.engine_process.engines import Engines, StartedEngines
from vllm.engine_process.loads import Loads
from vllm.engine_process.messages import (
    Abort,
    Add,
    Died,
    FromEngine,
    StepNews,
    pack_params,
    pack_tokens,
)
from vllm.engine_process.reader import RequestReader
from vllm.engine_process.replicas import environments
from vllm.errors import EngineError, ReplicaError, kind_of
from vllm.models.hub import find_folder
from vllm.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class AsyncEngineClient(AsyncEngine):
    """Serves the requests of one event loop with engines (replicas) in separate processes.

    All have the same model. A request is sent to the engine that has its prompt's prefix cached,
    or to the one with the fewest sequences (`Router`). Several processes may have a client each to
    the same engines; they share `memory`.

    If one of several engines ends, its requests raise ReplicaError, the others go on, and it is
    started again; if it cannot be, it stays out. Without any engine that serves, the client is
    dead.

    connections: to each of `engines`.
    """

    def __init__(
        self,
        args: EngineArgs,
        request_maker: RequestMaker,
        engines: Engines,
        connections: List[EngineConnection],
        memory: SharedMemory,
        max_requests: Optional[int] = None,
    ) -> None:
        super().__init__(args, request_maker, max_requests)
        self._source = engines
        self._engines: Dict[int, EngineConnection] = {}  # those that serve, by index
        self._loads = Loads(memory, engines.count)
        self._router = Router(memory.integers("prefixes"))
        self._cause: Optional[BaseException] = None
        self._dead = asyncio.Event()
        self._watching: Set[asyncio.Future[None]] = set()
        self._starting: Set[asyncio.Future[None]] = set()  # again
        for index, engine in enumerate(connections):
            self._serve_with(index, engine)

    @classmethod
    async def start(
        cls, args: EngineArgs, *, num_engines: int = 1, max_requests: Optional[int] = None
    ) -> AsyncEngineClient:
        """Starts the processes and waits until they have loaded the model.

        Raises what `vllm.engines.LLMEngine` raises, ValueError if the machine has too few GPUs for
        all replicas, EngineError if a process ends before it is ready.
        """
        variables = environments(args, num_engines)
        if max_requests is None:
            max_requests = 4 * args.max_num_seqs * num_engines
        folder = find_folder(args.model, args.revision)
        engines = StartedEngines(with_folder(args, folder), variables)
        return await cls.join(args, folder, engines, SharedMemory(), max_requests)

    @classmethod
    async def join(
        cls,
        args: EngineArgs,
        folder: Path,
        engines: Engines,
        memory: SharedMemory,
        max_requests: int,
    ) -> AsyncEngineClient:
        """Waits until the engines have loaded the model in `folder`. Raises as `start` does."""
        found = with_folder(args, folder)
        connections = await engines.first()
        starting = [asyncio.ensure_future(engine.ready()) for engine in connections]
        loading = asyncio.get_running_loop().run_in_executor(None, _tokenizer, found)
        try:
            ready = await asyncio.gather(*starting)  # first: an engine's error is more precise
            maker = RequestMaker(
                ModelConfig.read(folder),
                GenerationDefaults.read(folder),
                await loading,
                min(engine.max_model_len for engine in ready),
                seed=args.seed,
                scheduling_policy=args.scheduling_policy,
                share=(memory.writer, memory.num_writers),
            )
        except BaseException:
            await asyncio.gather(*[engines.end(engine, 0) for engine in connections])
            await asyncio.gather(*starting, loading, return_exceptions=True)
            for engine in connections:
                engine.close()
            raise
        return cls(args, maker, engines, connections, memory, max_requests)

    @property
    def pids(self) -> List[int]:
        """The processes of the engines that serve, if this process has started them."""
        assert isinstance(self._source, StartedEngines)
        return [self._source.pid(engine) for engine in self._engines.values()]

    @property
    def load(self) -> EngineLoad:
        loads = [self._loads.latest(index) for index in self._engines]
        usage = sum(load.cache_usage for load in loads) / max(1, len(loads))
        running, waiting = sum(load.running for load in loads), sum(load.waiting for load in loads)
        return EngineLoad(running, waiting, usage)

    @property
    def dead_error(self) -> Optional[BaseException]:
        return self._cause

    async def wait_until_dead(self) -> None:
        await self._dead.wait()

    async def shutdown(self) -> None:
        """Ends the processes; kills one that does not end in time."""
        self._end(None)
        engines, self._engines = list(self._engines.values()), {}
        for starting in self._starting:
            starting.cancel()
        await asyncio.gather(*[self._source.end(engine) for engine in engines])
        await asyncio.gather(*self._watching, *self._starting, return_exceptions=True)
        for engine in engines:
            engine.close()

    def _add(self, request: Request) -> OutputReader:
        if self._dead.is_set():
            raise closed_error(self._cause)
        loads = {index: self._loads.num_sequences(index) for index in self._engines}
        tokens = request.prompt_token_ids
        index = self._router.choose(tokens, len(request.seqs), loads)
        engine = self._engines[index]
        reader = RequestReader(request, functools.partial(self._leave, index, engine))
        ids = reader.unfinished_ids
        engine.readers.update(dict.fromkeys(ids, reader))
        self._loads.has(index, len(engine.readers))
        params = request.params
        engine.add(
            Add(
                ids,
                pack_tokens(tokens),
                pack_params(params),
                [seq.seed for seq in request.seqs],
                final_only=all(each.final_only for each in request.continuations),
                cache_salt=request.seqs[0].cache_salt,
                priority=request.seqs[0].priority,
            )
        )
        return reader

    def _abort(self, request_id: str) -> None:
        reader = self._readers[request_id]
        assert isinstance(reader, RequestReader)
        reader.abort()

    def _leave(self, index: int, engine: EngineConnection, ids: List[int]) -> None:
        """Cancels sequences in an engine, and drops what it still sends about them."""
        left = [seq_id for seq_id in ids if engine.readers.pop(seq_id, None) is not None]
        if self._engines.get(index) is engine:
            self._loads.has(index, len(engine.readers))
        if left and not self._dead.is_set():
            engine.send(Abort(left))

    def _serve_with(self, index: int, engine: EngineConnection) -> None:
        self._engines[index] = engine
        _keep(self._watching, self._watch(index, engine))

    async def _watch(self, index: int, engine: EngineConnection) -> None:
        await engine.listen(functools.partial(self._take, index, engine))
        if self._dead.is_set():
            return
        cause = engine.cause or EngineError("EngineEnded", await engine.ended)
        if len(self._engines) == 1:
            self._end(cause)
            return
        del self._engines[index]
        self._router.forget(index)
        self._loads.forget(index)
        replica = f"replica {index + 1} of {self._source.count}"
        error = ReplicaError(
            f"{replica} has ended while it computed this request ({kind_of(cause)}: {cause}); "
            f"others serve: send the request again"
        )
        for reader in engine.readers.values():
            reader.fail(error)
        engine.readers.clear()
        logger.error("%s has ended, and is started again: %s: %s", replica, kind_of(cause), cause)
        await self._source.end(engine)
        engine.close()
        if not self._dead.is_set():
            _keep(self._starting, self._start_again(index, replica))

    async def _start_again(self, index: int, replica: str) -> None:
        engine = await self._source.again(index)
        ready = asyncio.ensure_future(engine.ready())
        try:
            await ready
        except BaseException as error:
            await asyncio.gather(self._source.end(engine, 0), ready, return_exceptions=True)
            engine.close()
            if not isinstance(error, Exception):  # `shutdown` cancels this
                raise
            logger.error("%s cannot be started again, and stays out: %s", replica, error)
            return
        logger.warning("%s serves again", replica)
        self._serve_with(index, engine)

    def _take(self, index: int, engine: EngineConnection, message: FromEngine) -> bool:
        if isinstance(message, Died):
            engine.cause = as_error(message.kind, message.text)
            return False
        assert isinstance(message, StepNews)
        self._loads.heard(index, message.time, EngineLoad(*message.load))
        readers = engine.readers
        for seq_id, token in zip(message.ids, message.tokens):
            reader = readers.get(seq_id)
            if reader is not None:
                reader.take(seq_id, token)
        for news in message.others:
            reader = readers.get(news.id)
            if reader is not None:
                reader.take_news(news)
            if news.finish_reason is not None:
                readers.pop(news.id, None)
        for failure in message.failures:
            if failure.kind == EngineClosedError.__name__:
                continue  # `Died` follows, with the cause
            for seq_id in failure.ids:
                reader = readers.pop(seq_id, None)
                if reader is not None:
                    reader.fail(as_error(failure.kind, failure.text))
        self._loads.has(index, len(readers))
        return True

    def _end(self, cause: Optional[BaseException]) -> None:
        """Ends all engines and fails all requests. cause: the last engine's; None at shutdown."""
        if self._dead.is_set():
            return
        self._cause = cause
        self._dead.set()
        for engine in self._engines.values():
            for reader in engine.readers.values():
                reader.fail(closed_error(cause))
            engine.readers.clear()


def _keep(tasks: Set[asyncio.Future[None]], job: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine as one of these tasks until it ends."""
    task = asyncio.ensure_future(job)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def with_folder(args: EngineArgs, folder: Path) -> EngineArgs:
    """The same with the folder of the model, which nobody has to download again."""
    return dataclasses.replace(args, model=str(folder), revision=None)


def _tokenizer(args: EngineArgs) -> Optional[Tokenizer]:
    if args.skip_tokenizer_init:
        return None
    return Tokenizer(find_folder(args.tokenizer or args.model))
