"""What `vllm serve` may be told of the server itself. No web framework in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional


@dataclass(frozen=True)
class ServerOptions:
    """How the server answers; where it listens; whom it lets in.

    names: of the model, as clients may ask for it; the first is the one in answers.
    api_keys: without any, everybody may ask.
    data_parallel_size: replicas of the model, each in a process of its own.
    max_logprobs, max_n, max_request_bytes: what one request may ask for.
    max_queued_sequences: running or waiting, over all requests, before others get a 429.
    max_stored_responses, max_stored_response_bytes: what /v1/responses keeps for later requests;
        the oldest make room.
    max_stored_response_age: seconds after which a response is forgotten.
    chat_template: Jinja source instead of the model's own.
    tool_call_parser, reasoning_parser: how the model writes calls and reasoning, by the names in
        `vllm.text.parsing`; None is as text.
    trust_request_chat_template: a request may bring a template of its own.
    generation_config: "auto" takes the makers' advice on sampling, "vllm" the library's defaults.
    otlp_traces_endpoint: where an OpenTelemetry collector takes traces.
    log_requests: write prompts and parameters to the log.
    """

    names: List[str]
    host: str = "127.0.0.1"
    port: int = 8000
    uds: Optional[str] = None
    root_path: str = ""
    data_parallel_size: int = 1
    ssl_keyfile: Optional[str] = None
    ssl_certfile: Optional[str] = None
    api_keys: List[str] = field(default_factory=list)
    allowed_origins: List[str] = field(default_factory=list)
    allowed_methods: List[str] = field(default_factory=lambda: ["*"])
    allowed_headers: List[str] = field(default_factory=lambda: ["*"])
    allow_credentials: bool = False
    max_logprobs: int = 20
    max_n: int = 128
    max_request_bytes: int = 32 * 2**20
    max_queued_sequences: int = 2048
    max_stored_responses: int = 1000
    max_stored_response_bytes: int = 256 * 2**20
    max_stored_response_age: int = 24 * 3600
    chat_template: Optional[str] = None
    tool_call_parser: Optional[str] = None
    reasoning_parser: Optional[str] = None
    response_role: str = "assistant"
    trust_request_chat_template: bool = False
    generation_config: str = "auto"
    return_tokens_as_token_ids: bool = False
    enable_request_id_headers: bool = False
    log_requests: bool = False
    max_log_len: Optional[int] = None
    otlp_traces_endpoint: Optional[str] = None
    access_log: bool = True
    shutdown_timeout: Optional[int] = None
