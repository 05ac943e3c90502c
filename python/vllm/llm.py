"""Offline inference: prompts in, outputs out."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Mapping, Optional, Union
from typing import Sequence as SequenceOf

from tqdm import tqdm

from vllm.beam_search import BeamSearchOutput, BeamSearchSequence, search
from vllm.engine.request import Request
from vllm.engine_args import EngineArgs
from vllm.engines import LLMEngine
from vllm.foreign import CALLS, METHODS, without_foreign
from vllm.outputs import RequestOutput, TokenLogprobs
from vllm.sampling_params import BeamSearchParams, RequestOutputKind, SamplingParams
from vllm.text.messages import Message
from vllm.text.prompts import Prompt, as_prompts, chat_prompt

Params = Union[SamplingParams, SequenceOf[SamplingParams], None]


class LLM:
    """A model that generates text. Not thread-safe; for many users at once see `AsyncLLMEngine`.

    model: a folder, or a hub id.
    kwargs: the other arguments of `vllm.EngineArgs`.
    Raises `vllm.config.ModelError` if the model is not supported, ValueError if a field is out of
    its range.
    """

    def __init__(self, model: str, **kwargs: Any) -> None:
        self.engine = LLMEngine(EngineArgs(model=model, **kwargs))
        self.engine.let_decoding_wait()
        self._tokenizer: Any = None  # from transformers, created by get_tokenizer()
        self._ids = itertools.count()
        # Outputs per request that its generate() or stream() call has not read yet: a step that one
        # call makes may produce outputs of another call's requests.
        self._unread: Dict[str, Deque[RequestOutput]] = {}

    def generate(
        self,
        prompts: Union[Prompt, SequenceOf[Prompt], None] = None,
        sampling_params: Params = None,
        prompt_token_ids: Optional[SequenceOf[Any]] = None,
        *,
        use_tqdm: bool = False,
        priority: Optional[SequenceOf[int]] = None,
        **others: Any,
    ) -> List[RequestOutput]:
        """Continues each prompt; the outputs are in the order of the prompts.

        prompts: one or several, each text, token ids, or a mapping with "prompt" or
            "prompt_token_ids".
        sampling_params: for all prompts, or one for each; None uses the defaults of the
            model's `generation_config.json`.
        prompt_token_ids: vLLM's older argument for token ids: one prompt's, or a list per prompt.
        priority: one for each prompt, the lowest is served first; `scheduling_policy` must be
            "priority".
        others: vLLM's other arguments, with values that need no missing feature (`vllm.foreign`).
        Raises ValueError, before anything is computed, if a prompt cannot be served.
        """
        _refuse_foreign("LLM.generate", others)
        listed = _paired(prompts, prompt_token_ids)
        requests = self._make_requests(
            listed, sampling_params, RequestOutputKind.FINAL_ONLY, priority
        )
        finished = {}
        with tqdm(total=len(requests), unit="prompt", disable=not use_tqdm) as progress:
            for output in self._run(requests):
                finished[output.request_id] = output
                progress.update()
        return [finished[request.request_id] for request in requests]

    def stream(
        self,
        prompts: Union[Prompt, SequenceOf[Prompt]],
        sampling_params: Params = None,
    ) -> Iterator[RequestOutput]:
        """Yields outputs of the prompts as they are generated; by default each is cumulative.

        `SamplingParams.output_kind` selects what an output contains; DELTA: only what is new.
        Closing the iterator cancels unfinished requests.
        """
        requests = self._make_requests(as_prompts(prompts), sampling_params)
        return self._run(requests)

    def chat(
        self,
        messages: Union[SequenceOf[Message], SequenceOf[SequenceOf[Message]]],
        sampling_params: Params = None,
        *,
        use_tqdm: bool = False,
        chat_template: Optional[str] = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Optional[SequenceOf[Mapping[str, Any]]] = None,
        documents: Optional[SequenceOf[Mapping[str, Any]]] = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        **others: Any,
    ) -> List[RequestOutput]:
        """Answers a conversation, or each of several.

        messages: mappings with "role" and "content", or a list of such lists.
        chat_template: the name of one of the model's templates, or Jinja source to use instead.
        add_generation_prompt: False omits the tokens that begin an assistant's message.
        continue_final_message: the answer continues the last message.
        tools: definitions of the functions that the model may call, with JSON schemas.
        documents: documents that the template puts into the prompt.
        chat_template_kwargs: further variables of the template, such as `enable_thinking`.
        others: vLLM's other arguments, with values that need no missing feature (`vllm.foreign`).
        Raises ValueError like `generate`, and if the template rejects the messages.
        """
        _refuse_foreign("LLM.chat", others)
        several = isinstance(messages, (list, tuple)) and messages[:1] and _is_list(messages[0])
        conversations: Any = messages if several else [messages]
        prompts = [
            self.chat_prompt(
                conversation,
                chat_template=chat_template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=tools,
                documents=documents,
                **(chat_template_kwargs or {}),
            )
            for conversation in conversations
        ]
        return self.generate(prompts, sampling_params, use_tqdm=use_tqdm)

    def beam_search(
        self, prompts: Union[Prompt, SequenceOf[Prompt]], params: BeamSearchParams, **others: Any
    ) -> List[BeamSearchOutput]:
        """The continuations of each prompt with the best scores (`BeamSearchParams`).

        others: vLLM's other arguments, with values that need no missing feature (`vllm.foreign`).
        Raises ValueError like `generate`.
        """
        _refuse_foreign("LLM.beam_search", others)
        engine, num_logprobs = self.engine, 2 * params.beam_width
        one = SamplingParams(
            max_tokens=1, temperature=0.0, logprobs=num_logprobs, ignore_eos=True, detokenize=False
        )
        listed = [engine.make_request("", prompt, one) for prompt in as_prompts(prompts)]
        room = engine.max_model_len - max((len(r.prompt_token_ids) for r in listed), default=0)
        if params.max_tokens > room:
            raise ValueError(
                f"max_tokens must be at most {room} with the longest of these prompts, got "
                f"{params.max_tokens}"
            )

        def next_logprobs(beams: SequenceOf[List[int]]) -> List[TokenLogprobs]:
            outputs = self.generate(list(beams), one)
            return [(output.outputs[0].logprobs or [{}])[0] for output in outputs]

        found = search(
            [request.prompt_token_ids for request in listed],
            params,
            next_logprobs,
            eos_token_ids=engine.generation_defaults.eos_token_ids,
        )
        return [
            BeamSearchOutput([self._with_text(each, request) for each in sequences])
            for request, sequences in zip(listed, found)
        ]

    def _with_text(self, found: BeamSearchSequence, request: Request) -> BeamSearchSequence:
        if self.engine.tokenizer is None:
            return found
        detokenizer = self.engine.tokenizer.detokenizer(request.prompt_token_ids)
        text = detokenizer.append(found.tokens[len(request.prompt_token_ids) :])
        return dataclasses.replace(found, text=text + detokenizer.flush())

    def chat_prompt(
        self,
        messages: SequenceOf[Message],
        /,
        *,
        chat_template: Optional[str] = None,
        **options: Any,
    ) -> Dict[str, Any]:
        """Renders a conversation like `chat`; returns a prompt for `generate` and `stream`.

        options: further arguments of `Tokenizer.apply_chat_template`.
        """
        tokenizer = self.engine.tokenizer
        return chat_prompt(tokenizer, messages, chat_template=chat_template, **options)

    @property
    def llm_engine(self) -> LLMEngine:
        """The engine, under vLLM's name."""
        return self.engine

    def get_tokenizer(self) -> Any:
        """A Hugging Face tokenizer if transformers is installed, else this library's own.

        Both give the same tokens. Outputs are detokenized by this library's own
        (`engine.tokenizer`); docs/engine.md lists how `decode` of the other one differs. Raises
        ValueError if the engine was created with `skip_tokenizer_init`.
        """
        own = self.engine.tokenizer
        if own is None:
            raise ValueError(
                "this engine has no tokenizer: it was created with skip_tokenizer_init=True"
            )
        if self._tokenizer is None:
            try:
                from transformers import PreTrainedTokenizerFast
            except ImportError:
                return own
            self._tokenizer = PreTrainedTokenizerFast.from_pretrained(own.folder)
        return self._tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """The defaults of the model's `generation_config.json`."""
        return self.engine.generation_defaults.params()

    def reset_prefix_cache(self) -> bool:
        """Forgets the keys and values of earlier prompts and outputs. Returns False, and does
        nothing, while requests are unfinished."""
        return self.engine.reset_prefix_cache()

    def __getattr__(self, name: str) -> Any:
        """Says of methods of vLLM's LLM why there are none here. Raises AttributeError."""
        if name in METHODS:
            raise AttributeError(f"vLLM's LLM.{name} is not supported: {METHODS[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _make_requests(
        self,
        prompts: List[Prompt],
        sampling_params: Params,
        kind: Optional[RequestOutputKind] = None,
        priority: Optional[SequenceOf[int]] = None,
    ) -> List[Request]:
        if sampling_params is None:
            sampling_params = self.get_default_sampling_params()
        if isinstance(sampling_params, SamplingParams):
            params = [sampling_params] * len(prompts)
        elif _is_list(sampling_params) and all(
            isinstance(p, SamplingParams) for p in sampling_params
        ):
            params = list(sampling_params)
        else:
            raise ValueError(
                f"sampling_params must be a SamplingParams, or a list of them, "
                f"got {sampling_params!r}"
            )
        if len(params) != len(prompts):
            raise ValueError(
                f"sampling_params must be one, or one per prompt: got {len(params)} for "
                f"{len(prompts)} prompts"
            )
        if kind is not None:
            params = [dataclasses.replace(each, output_kind=kind) for each in params]
        priorities = [0] * len(prompts) if priority is None else list(priority)
        if len(priorities) != len(prompts):
            raise ValueError(
                f"priority must be one per prompt: got {len(priorities)} for {len(prompts)} prompts"
            )
        requests = []
        for index, (prompt, param, first) in enumerate(zip(prompts, params, priorities)):
            try:
                request = self.engine.make_request(
                    str(next(self._ids)), prompt, param, priority=first
                )
            except ValueError as error:
                raise ValueError(f"prompt {index}: {error}") from error
            requests.append(request)
        return requests

    def _run(self, requests: SequenceOf[Request]) -> Iterator[RequestOutput]:
        """Adds requests and yields their outputs; finally cancels unfinished ones."""
        self._refuse_others()
        unread: Deque[RequestOutput] = deque()
        num_unfinished = len(requests)
        try:
            for request in requests:
                self._unread[request.request_id] = unread
                self.engine.add(request)
            while num_unfinished:
                while not unread:
                    self._step()
                output = unread.popleft()
                num_unfinished -= output.finished
                yield output
        finally:
            for request in requests:
                self._unread.pop(request.request_id, None)
                self.engine.abort_request(request.request_id)

    def _refuse_others(self) -> None:
        """Raises RuntimeError if the engine has requests of which only the caller wants outputs."""
        others = self.engine.unfinished_ids() - self._unread.keys()
        if others:
            raise RuntimeError(
                f"the engine has {len(others)} requests that were added by engine.add_request(), "
                f"such as {min(others)!r}: their outputs would be lost here; first call "
                "engine.step() until they have finished, or engine.abort_request()"
            )

    def _step(self) -> None:
        self._refuse_others()
        if not self.engine.has_unfinished_requests():
            raise RuntimeError("the request was dropped: a step that another call made has failed")
        try:
            for output in self.engine.step():
                self._unread[output.request_id].append(output)
        except BaseException:  # outputs of the step are lost: no call may wait for them
            self.engine.drop_all()
            raise


def _refuse_foreign(owner: str, others: Mapping[str, Any]) -> None:
    unknown = without_foreign(owner, CALLS, others)
    if unknown:
        raise TypeError(f"{owner}() got an unexpected keyword argument {min(unknown)!r}")


def _paired(prompts: Any, token_ids: Optional[SequenceOf[Any]]) -> List[Prompt]:
    """Prompts as a list; token ids may be given in addition to the texts, or instead."""
    if token_ids is None:
        return as_prompts(prompts)
    listed = as_prompts(token_ids)
    if prompts is None:
        return listed
    texts = as_prompts(prompts)
    if len(texts) != len(listed):
        raise ValueError(
            f"prompt_token_ids must be one list per prompt: got {len(listed)} for "
            f"{len(texts)} prompts"
        )
    return [{"prompt": text, "prompt_token_ids": ids} for text, ids in zip(texts, listed)]


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))
