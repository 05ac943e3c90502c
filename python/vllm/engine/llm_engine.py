"""The engine: it takes requests, computes step by step, and returns outputs."""

from __future__ import annotations

import logging
from typing import AbstractSet, Any, Callable, Dict, List, NamedTuple, Optional, Tuple, TypeVar

from vllm.config import GenerationDefaults, ModelConfig
from vllm.engine.block_manager import BlockManager
from vllm.engine.describe import StepWriter
from vllm.engine.executor import Executor
from vllm.engine.pipeline import DoneStep, Pipeline
from vllm.engine.request import Continuation, Request
from vllm.engine.request_maker import RequestMaker
from vllm.engine.scheduler import Scheduler
from vllm.engine.sequence import FinishReason, SequenceStatus
from vllm.engine_args import EngineArgs
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.text.prompts import Prompt
from vllm.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

T = TypeVar("T")


class CallableBool(int):
    """A boolean that can also be called.

    vLLM has a method where this engine has a property. Without this, code written for one form
    would fail or loop for ever with the other.
    """

    def __call__(self) -> bool:
        return bool(self)


class EngineParts(NamedTuple):
    """The parts of an engine; `vllm.worker.assemble` creates them from the arguments.

    executor: holds the model and its KV cache.
    tokenizer: None if prompts and outputs are only token ids.
    max_model_len: the most tokens of a sequence, prompt and output together.
    advised_tokens: the recommended token budget of a step, for this model on its device.
    advised_prompt_tokens: the same for a step in which no sequence decodes.
    """

    executor: Executor
    model_config: ModelConfig
    generation_defaults: GenerationDefaults
    tokenizer: Optional[Tokenizer]
    max_model_len: int
    advised_tokens: int = 2048
    advised_prompt_tokens: int = 2048


class EngineLoad(NamedTuple):
    """How busy an engine is.

    running, waiting: numbers of sequences.
    cache_usage: the fraction of KV blocks in use, 0 to 1.
    """

    running: int
    waiting: int
    cache_usage: float


class LLMEngine:
    """A model, its KV cache and the requests that share them. Not thread-safe.

    If a method that changes the engine raises (a device error, Ctrl-C at any point), every request
    is dropped, because the state might be inconsistent. The engine is empty then, and accepts new
    requests.
    """

    def __init__(self, args: EngineArgs, parts: EngineParts) -> None:
        self.args = args
        self.executor = executor = parts.executor
        self.model_config = parts.model_config
        self.generation_defaults = parts.generation_defaults
        self.tokenizer = parts.tokenizer
        self.max_model_len = parts.max_model_len
        self.scheduler = Scheduler(
            BlockManager(
                executor.num_blocks,
                executor.block_size,
                enable_prefix_caching=args.enable_prefix_caching,
            ),
            max_num_seqs=args.max_num_seqs,
            max_num_batched_tokens=args.token_budget(parts.max_model_len, parts.advised_tokens),
            max_prompt_tokens=args.token_budget(parts.max_model_len, parts.advised_prompt_tokens),
            enable_chunked_prefill=args.enable_chunked_prefill,
        )
        self.request_maker = RequestMaker(
            parts.model_config,
            parts.generation_defaults,
            parts.tokenizer,
            parts.max_model_len,
            seed=args.seed,
            scheduling_policy=args.scheduling_policy,
        )
        self._pipeline = Pipeline(
            self.scheduler,
            StepWriter(executor, parts.model_config.vocab_size),
            executor,
            overlaps=executor.overlaps if args.async_scheduling is None else args.async_scheduling,
        )
        self._requests: Dict[str, Request] = {}
        self._owners: Dict[int, Tuple[Request, Continuation]] = {}  # by sequence id
        # Set while requests, scheduler and cache may be inconsistent; see `_change`.
        self._changing = False

    @property
    def has_unfinished_requests(self) -> CallableBool:
        """Whether a request is unfinished. Usable as a property and, as in vLLM, as a method."""
        return CallableBool(bool(self._requests))

    def get_num_unfinished_requests(self) -> int:
        return len(self._requests)

    def unfinished_ids(self) -> AbstractSet[str]:
        """The ids of the unfinished requests."""
        return self._requests.keys()

    def let_decoding_wait(self) -> None:
        """Gives steps in which sequences decode the budget of those in which none does, where the
        end of the last request counts, and not when a token comes."""
        self.scheduler.max_num_batched_tokens = self.scheduler.max_prompt_tokens

    @property
    def load(self) -> EngineLoad:
        """Queue lengths and cache usage. Other threads may read it."""
        scheduler, manager = self.scheduler, self.scheduler.block_manager
        usage = 1 - manager.num_free_blocks / manager.num_blocks
        return EngineLoad(len(scheduler.running), len(scheduler.waiting), usage)

    def make_request(
        self,
        request_id: str,
        prompt: Prompt,
        params: Optional[SamplingParams] = None,
        *,
        priority: int = 0,
    ) -> Request:
        """Creates a request without queueing it. Raises ValueError if it cannot be served.

        params: None uses the defaults of the model's `generation_config.json`.
        priority: lower numbers are served first; 0 unless `scheduling_policy` is "priority".
        """
        return self.request_maker.make(request_id, prompt, params, priority=priority)

    def add(self, request: Request) -> None:
        """Queues a request made by `make_request`.

        Raises ValueError, with nothing changed, if its id is in use or it does not fit the cache.
        """
        if request.request_id in self._requests:
            raise ValueError(f"request id {request.request_id!r} is in use")
        for seq in request.seqs:
            self.scheduler.check(seq)
        self._change(self._add, request)

    def add_request(
        self,
        request_id: str,
        prompt: Prompt,
        params: Optional[SamplingParams] = None,
        *,
        priority: int = 0,
    ) -> None:
        """Creates a request and queues it. Raises ValueError if it cannot be served."""
        self.add(self.make_request(request_id, prompt, params, priority=priority))

    def abort_request(self, request_id: str) -> Optional[RequestOutput]:
        """Cancels a request and frees its KV blocks; returns its last output, None if unknown."""
        if request_id not in self._requests:
            return None
        return self._change(self._abort, request_id)

    def step(self) -> List[RequestOutput]:
        """Waits for one step; returns the outputs of the requests that progressed.

        With an executor that overlaps, the next step is prepared and started while this one is
        computed.
        """
        return self._change(self._step)

    def reset_prefix_cache(self) -> bool:
        """Empties the prefix cache. Returns False, and does nothing, while requests are
        unfinished."""
        if self._requests:
            return False
        self._change(self.scheduler.block_manager.reset)
        return True

    def drop_all(self) -> None:
        """Ends every request (finish reason "abort") without an output, and empties the cache.

        Works in any state: it resets everything and frees nothing piece by piece.
        """
        self._changing = True  # if this is interrupted too, the next change drops all again
        dropped = len(self._requests)
        for request in self._requests.values():
            for seq in request.seqs:
                seq.status = SequenceStatus.FINISHED
                seq.finish_reason = seq.finish_reason or FinishReason.ABORT
        self._requests = {}
        self._owners = {}
        self._pipeline.clear()
        self.scheduler.reset()
        self.executor.reset()
        self._changing = False
        if dropped:
            logger.warning("dropped all %d requests; the engine is empty", dropped)

    def _change(self, action: Callable[..., T], *args: Any) -> T:
        """Runs an action that either completes or leaves an empty engine."""
        try:
            if self._changing:
                self.drop_all()
            self._changing = True
            result = action(*args)
            self._changing = False
            return result
        except BaseException:
            self.drop_all()
            raise

    def _add(self, request: Request) -> None:
        self._requests[request.request_id] = request
        for continuation in request.continuations:
            self._owners[continuation.seq.seq_id] = (request, continuation)
            self.scheduler.add(continuation.seq)

    def _abort(self, request_id: str) -> Optional[RequestOutput]:
        request = self._requests.get(request_id)
        if request is None:
            return None
        for seq in request.seqs:
            self.scheduler.finish(seq, FinishReason.ABORT)
        return self._next_output(request)

    def _step(self) -> List[RequestOutput]:
        done = self._pipeline.advance()
        return [] if done is None else self._outputs(done)

    def _outputs(self, step: DoneStep) -> List[RequestOutput]:
        """Of requests that have news."""
        result = step.result
        owners = [self._owners[seq.seq_id][0] for seq in step.failed]
        touched = {request.request_id: request for request in owners}
        row = 0
        for index, chunk in enumerate(step.chunks):
            seq = chunk.seq
            first, row = row, row + chunk.num_sampled
            if not step.wanted[index]:
                continue
            request, continuation = self._owners[seq.seq_id]
            if request.first_token_time is None:
                request.record_progress(step.started, has_token=chunk.num_sampled > 0)
            if seq.prompt_logprobs_wanted:
                found = result.prompt_logprobs.get(index, [])
                request.take_prompt_logprobs(chunk.start + 1, found)
                seq.prompt_logprobs_wanted = chunk.end < seq.num_prompt_tokens
            if continuation.final_only and seq.finish_reason is None:
                continue
            for sampled in range(first, row):
                if continuation.take(result.logprobs.get(sampled)):
                    self.scheduler.finish(seq, FinishReason.STOP)
                    seq.finish_reason = FinishReason.STOP  # takes precedence over LENGTH
                touched[request.request_id] = request
        outputs = [self._next_output(request) for request in touched.values()]
        return [output for output in outputs if output is not None]

    def _next_output(self, request: Request) -> Optional[RequestOutput]:
        output = request.output()
        if request.is_finished:
            del self._requests[request.request_id]
            for seq in request.seqs:
                del self._owners[seq.seq_id]
        return output
