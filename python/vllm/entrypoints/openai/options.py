"""Options of the server itself. This module imports no web framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from vllm.entrypoints.openai.option_checks import (
    check_certificate,
    check_range,
    check_socket,
    check_texts,
)

# Field -> its least and its greatest value.
_RANGES: Dict[str, Tuple[int, Optional[int]]] = {
    "port": (0, 65535),
    "api_server_count": (1, 255),  # of which a stored response's id names one in two hex digits
    "max_logprobs": (0, None),
    "max_n": (1, None),
    "max_request_bytes": (1, None),
    "max_queued_sequences": (1, None),
    "max_stored_responses": (0, None),
    "max_stored_response_bytes": (0, None),
    "max_stored_response_age": (0, None),
    "max_log_len": (0, None),
    "shutdown_timeout": (0, None),
}
_OPTIONAL = ("api_server_count", "max_log_len", "shutdown_timeout")
_TEXTS = ("names", "api_keys", "allowed_origins", "allowed_methods", "allowed_headers")


@dataclass(frozen=True)
class ServerOptions:
    """Options of `vllm serve` beside those of the engine.

    names: names of the model that requests may use; the first is the default in responses.
    api_keys: accepted API keys; if empty, no key is needed.
    data_parallel_size: replicas of the model, each in a process of its own.
    api_server_count: processes that handle HTTP; None chooses by the machine.
    max_logprobs, max_n, max_request_bytes: limits of one request.
    max_queued_sequences: limit of running and waiting sequences over all requests; beyond it,
        requests get a 429.
    max_stored_responses, max_stored_response_bytes: limits of what /v1/responses stores; the
        oldest responses are deleted first.
    max_stored_response_age: seconds after which a response is deleted.
    chat_template: Jinja source instead of the model's own.
    tool_call_parser, reasoning_parser: how the model writes calls and reasoning, by the names in
        `vllm.text.parsing`; None leaves them in the text.
    trust_request_chat_template: whether a request may contain a chat template.
    generation_config: defaults of sampling: "auto" uses the model's `generation_config.json`,
        "vllm" the library's own.
    otlp_traces_endpoint: the URL of an OpenTelemetry collector.
    log_requests: write prompts and parameters to the log.

    Raises ValueError naming the option.
    """

    names: List[str]
    host: str = "127.0.0.1"
    port: int = 8000
    uds: Optional[str] = None
    root_path: str = ""
    data_parallel_size: int = 1
    api_server_count: Optional[int] = None
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

    def __post_init__(self) -> None:
        for name, (least, greatest) in _RANGES.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                check_range(name, value, least, greatest)
        for name in _TEXTS:
            check_texts(name, getattr(self, name))
        if not self.names:
            raise ValueError("names must be at least one name of the model, got none")
        check_socket(self.uds)
        check_certificate(self.ssl_certfile, self.ssl_keyfile)
