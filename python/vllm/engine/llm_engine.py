"""The engine: requests in, one step at a time, outputs out."""

from __future__ import annotations

import itertools
import logging
import random
import time
from typing import Dict, List, Optional, Tuple
from typing import Sequence as SequenceOf

import torch

from vllm.config import GenerationDefaults, ModelConfig, read_architecture
from vllm.engine import kv_cache
from vllm.engine.block_manager import BlockManager
from vllm.engine.model_runner import ModelRunner, StepResult
from vllm.engine.request import Continuation, Request
from vllm.engine.scheduler import Chunk, Scheduler
from vllm.engine.sequence import FinishReason, Sequence
from vllm.engine_args import EngineArgs
from vllm.models.hub import find_folder
from vllm.models.loader import load_model
from vllm.models.registry import find_architecture
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.text.prompts import Prompt, encode_prompt
from vllm.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class LLMEngine:
    """A model, its cache and the requests that share them. Not thread-safe.

    Reads the model, sizes the cache and allocates it. Raises `vllm.config.ModelError` for a model
    that cannot be run, ValueError for arguments that contradict each other or the machine.
    """

    def __init__(self, args: EngineArgs) -> None:
        folder = find_folder(args.model, args.revision)
        self.args = args
        # First, for families that are not supported have other fields than those that are.
        find_architecture(read_architecture(folder))
        self.model_config = ModelConfig.read(folder)
        self.generation_defaults = GenerationDefaults.read(folder)
        self.device = _device(args.device)
        dtype_name = self.model_config.dtype if args.dtype == "auto" else args.dtype
        self.dtype: torch.dtype = getattr(torch, dtype_name)
        self.tokenizer: Optional[Tokenizer] = None
        if not args.skip_tokenizer_init:
            self.tokenizer = Tokenizer(
                # The revision is the model's; another repository knows nothing of it.
                find_folder(args.tokenizer) if args.tokenizer else folder
            )
        wanted_len = args.max_model_len or self.model_config.max_model_len
        if wanted_len > self.model_config.max_model_len:
            raise ValueError(
                f"max_model_len ({wanted_len}) is more than the "
                f"{self.model_config.max_model_len} tokens that this model was made for"
            )
        args.token_budget(wanted_len)  # refuses before the weights are read
        model = load_model(
            folder,
            self.model_config,
            dtype=self.dtype,
            device=self.device,
            max_model_len=wanted_len,
        )
        model.pack()
        num_blocks = kv_cache.choose_num_blocks(
            args, self.model_config, self.dtype, self.device, wanted_len
        )
        self.max_model_len = kv_cache.fit_max_model_len(args, self.model_config, num_blocks)
        self.runner = ModelRunner(
            model,
            kv_cache.allocate(
                self.model_config, num_blocks, args.block_size, self.dtype, self.device
            ),
            block_size=args.block_size,
            device=self.device,
        )
        self.scheduler = Scheduler(
            BlockManager(
                num_blocks, args.block_size, enable_prefix_caching=args.enable_prefix_caching
            ),
            max_num_seqs=args.max_num_seqs,
            max_num_batched_tokens=args.token_budget(self.max_model_len),
            enable_chunked_prefill=args.enable_chunked_prefill,
        )
        vocab_size = self.model_config.vocab_size
        self._eos_token_ids = frozenset(
            token for token in self.generation_defaults.eos_token_ids if 0 <= token < vocab_size
        )
        self._requests: Dict[str, Request] = {}
        self._owners: Dict[int, Tuple[Request, Continuation]] = {}  # by sequence id
        self._seq_ids = itertools.count()
        self._seeds = random.Random(args.seed)
        logger.info(
            "%s in %s on %s, cache of %d blocks of %d tokens",
            self.model_config.architecture,
            dtype_name,
            self.device,
            num_blocks,
            args.block_size,
        )

    @property
    def has_unfinished_requests(self) -> bool:
        return bool(self._requests)

    @property
    def num_unfinished_requests(self) -> int:
        return len(self._requests)

    def make_request(
        self, request_id: str, prompt: Prompt, params: Optional[SamplingParams] = None
    ) -> Request:
        """A request that is not in the engine yet. Raises ValueError if it could not be served.

        params: None is what the model's makers advise.
        """
        params = self.generation_defaults.params() if params is None else params
        check_params(params)
        vocab_size = self.model_config.vocab_size
        text, token_ids = encode_prompt(
            prompt, self.tokenizer, vocab_size=vocab_size, max_model_len=self.max_model_len
        )
        outside = [token for token in params.stop_ids if token >= vocab_size]
        if outside:
            raise ValueError(f"stop_token_ids must be in [0, {vocab_size}), got {outside}")
        if params.stop_strings and self.tokenizer is None:
            raise ValueError("stop must be empty without a tokenizer: there is no text to search")
        room = self.max_model_len - len(token_ids)
        seed = self._seeds.getrandbits(63) if params.seed is None else params.seed
        seqs = [
            Sequence(
                next(self._seq_ids),
                token_ids,
                params,
                max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
                # Each continuation draws by itself, the first as if it were the only one.
                seed=random.Random(f"{seed}/{index}").getrandbits(63) if index else seed,
                eos_token_ids=self._eos_token_ids,
            )
            for index in range(params.n)
        ]
        return Request(request_id, text, params, seqs, self.tokenizer)

    def add(self, request: Request) -> None:
        """Queues a request made by `make_request`. Raises ValueError if its id is in use."""
        if request.request_id in self._requests:
            raise ValueError(f"request id {request.request_id!r} is in use")
        self._requests[request.request_id] = request
        for continuation in request.continuations:
            self._owners[continuation.seq.seq_id] = (request, continuation)
            self.scheduler.add(continuation.seq)

    def add_request(
        self, request_id: str, prompt: Prompt, params: Optional[SamplingParams] = None
    ) -> None:
        """Makes a request and queues it. Raises ValueError if it could not be served."""
        self.add(self.make_request(request_id, prompt, params))

    def abort_request(self, request_id: str) -> Optional[RequestOutput]:
        """Cancels a request and frees its cache; returns its last output, None if unknown."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        for seq in request.seqs:
            self.scheduler.finish(seq, FinishReason.ABORT)
        return self._next_output(request)

    def step(self) -> List[RequestOutput]:
        """Computes one step; returns the outputs of the requests that have news.

        If the step fails, every request is dropped, for the cache may be half written, and the
        error is raised; the engine can go on with new requests.
        """
        started = time.monotonic()
        try:
            chunks = self.scheduler.schedule()
            if not chunks:
                return []
            result = self.runner.run(chunks)
            self.scheduler.update(chunks, result.token_ids)
        except BaseException:
            for request_id in list(self._requests):
                self.abort_request(request_id)
            self.scheduler.block_manager.forget_prefixes()
            raise
        return self._collect(chunks, result, started)

    def _collect(
        self, chunks: SequenceOf[Chunk], result: StepResult, started: float
    ) -> List[RequestOutput]:
        touched: Dict[str, Request] = {}
        logprobs = iter(result.logprobs)
        for seq, _, end, samples in chunks:
            request, continuation = self._owners[seq.seq_id]
            if request.first_token_time is None:
                request.note_progress(started, has_token=samples)
            if seq.prompt_logprobs_wanted:
                request.take_prompt_logprobs(result.prompt_logprobs.get(seq.seq_id, ()))
                seq.prompt_logprobs_wanted = end < seq.num_prompt_tokens
            if samples:
                if continuation.take(next(logprobs)):
                    self.scheduler.finish(seq, FinishReason.STOP)
                    seq.finish_reason = FinishReason.STOP  # even if its length ends it as well
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


def check_params(params: object) -> None:
    if not isinstance(params, SamplingParams):
        raise ValueError(f"sampling parameters must be a SamplingParams, got {params!r}")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda[:N], got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda[:N], got {name!r}")
    if device.type == "cuda":
        num_devices = torch.cuda.device_count()
        if not num_devices:
            raise ValueError(f"device is {name!r}, but torch finds no CUDA device")
        if name == "cuda":  # the one that torch has as current, once and for all
            device = torch.device("cuda", torch.cuda.current_device())
        if device.index >= num_devices:
            raise ValueError(f"device is {name!r}, but the last one is cuda:{num_devices - 1}")
    return device
