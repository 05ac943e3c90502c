"""``vllm serve``: an OpenAI-compatible server."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from vllm.engine_args import EngineArgs
from vllm.entrypoints.config_file import add_config_option, merge_config
from vllm.entrypoints.foreign_options import add_foreign_options, check_foreign
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.options import (
    add_engine_groups,
    add_model_options,
    engine_fields,
    model_of,
    options_of,
)
from vllm.foreign import ENGINE, SERVE
from vllm.text.parsing import REASONING_FORMATS, TOOL_FORMATS

HELP = "serve a model over HTTP with OpenAI's API"


def _json_list(text: str) -> Any:
    """The type of an option, for argparse."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        message = f"must be a JSON list, such as '[\"http://127.0.0.1:3000\"]', got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


# Several after one option, or the option several times.
_SEVERAL = {"nargs": "+", "action": "extend"}
_SWITCH = {"action": "store_true"}

# Group -> field of `ServerOptions` -> (arguments of add_argument, help text).
_SERVER: Mapping[str, Mapping[str, Tuple[Dict[str, Any], str]]] = {
    "server": {
        "host": ({}, "address to listen at (127.0.0.1: this machine only)"),
        "port": ({"type": int}, "port to listen at (8000); 0 is any free port"),
        "uds": ({"metavar": "PATH"}, "a Unix socket to listen at instead"),
        "data_parallel_size": (
            {"type": int},
            "replicas of the model, each on --tensor-parallel-size GPUs of its own (1)",
        ),
        "api_server_count": (
            {"type": int, "metavar": "N"},
            "processes that handle HTTP, text and JSON (on GPUs one for 4 processors, at most 8; "
            "on CPUs 1)",
        ),
        "root_path": ({}, "path at which a proxy serves it, such as /llm"),
        "ssl_keyfile": ({"metavar": "FILE"}, "private key, to serve HTTPS"),
        "ssl_certfile": ({"metavar": "FILE"}, "certificate, to serve HTTPS"),
        "shutdown_timeout": (
            {"type": int, "metavar": "SECONDS"},
            "give up on requests that take longer to finish after SIGTERM (never)",
        ),
    },
    "access": {
        "api_keys": (
            {**_SEVERAL, "metavar": "KEY"},
            "accepted API keys; only / and /health need none ($VLLM_API_KEY)",
        ),
        "allowed_origins": ({"type": _json_list, "metavar": "JSON"}, "CORS: origins (none)"),
        "allowed_methods": ({"type": _json_list, "metavar": "JSON"}, "CORS: methods (all)"),
        "allowed_headers": ({"type": _json_list, "metavar": "JSON"}, "CORS: headers (all)"),
        "allow_credentials": (_SWITCH, "CORS: with credentials"),
    },
    "limits of requests": {
        "max_logprobs": ({"type": int}, "log-probabilities per token (20)"),
        "max_n": ({"type": int}, "continuations per prompt (128)"),
        "max_request_bytes": ({"type": int}, "size of a body (32 MiB)"),
        "max_queued_sequences": (
            {"type": int},
            "running and waiting sequences; beyond it requests get a 429 (2048)",
        ),
        "max_stored_responses": ({"type": int}, "responses that /v1/responses stores (1000)"),
        "max_stored_response_bytes": ({"type": int}, "total size of stored responses (256 MiB)"),
        "max_stored_response_age": (
            {"type": int, "metavar": "SECONDS"},
            "age at which a stored response is deleted (a day)",
        ),
    },
    "answers": {
        "names": (
            {**_SEVERAL, "metavar": "NAME"},
            "names of the model in requests (the model as given above)",
        ),
        "chat_template": ({"metavar": "FILE"}, "Jinja template, instead of the model's own"),
        "tool_call_parser": (
            {"choices": sorted(TOOL_FORMATS)},
            "the model's format of tool calls; without it tools are refused",
        ),
        "reasoning_parser": (
            {"choices": sorted(REASONING_FORMATS)},
            "the model's format of reasoning; without it reasoning is content",
        ),
        "response_role": ({}, "role of an answer (assistant)"),
        "trust_request_chat_template": (_SWITCH, "let requests contain chat templates"),
        "generation_config": (
            {"choices": ("auto", "vllm")},
            "sampling defaults: of the model's generation_config.json (auto), or the library's",
        ),
        "return_tokens_as_token_ids": (
            _SWITCH,
            "log-probabilities have token_id:N instead of text",
        ),
        "enable_request_id_headers": (_SWITCH, "answer with X-Request-Id"),
    },
    "log": {
        "log_requests": (_SWITCH, "write prompts and parameters to the log"),
        "max_log_len": ({"type": int}, "characters of a prompt in the log (all)"),
        "access_log": ({"action": "store_false"}, "do not log a line per request"),
        "otlp_traces_endpoint": (
            {"metavar": "URL"},
            "URL of an OpenTelemetry collector, such as http://127.0.0.1:4318/v1/traces",
        ),
    },
}
# Options that have vLLM's name instead of their field's.
_OPTIONS = {
    "names": "--served-model-name",
    "api_keys": "--api-key",
    "log_requests": "--enable-log-requests",
    "access_log": "--disable-uvicorn-access-log",
}
_FOREIGN = {**ENGINE, **SERVE}


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    add_config_option(parser)
    for title, fields in _SERVER.items():
        group = parser.add_argument_group(title)
        for name, (how, text) in fields.items():
            options = [_OPTIONS[name]] if name in _OPTIONS else options_of(name)
            group.add_argument(*options, dest=name, default=None, help=text, **how)
    add_engine_groups(parser)
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        default=None,
        help="accepted without effect: code that comes with a model is never run",
    )
    add_foreign_options(parser, _FOREIGN)


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    merge_config(args)
    model = model_of(args, "vllm serve")
    fields = {**check_foreign(args, "vllm serve", _FOREIGN), **engine_fields(args)}
    engine_args = EngineArgs(model=model, **fields)
    options = server_options(args, model)
    _check_packages()
    if options.otlp_traces_endpoint:
        _check_tracing()
    if sys.stderr.isatty():
        print(f"loading {model}", file=sys.stderr, flush=True)
    from vllm.entrypoints.openai import server, startup

    logging.getLogger("vllm").setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    if args.trust_remote_code:
        logging.getLogger(__name__).warning(
            "--trust-remote-code has no effect: code of models is never run"
        )
    try:
        server.serve(engine_args, options, started)
    except startup.ServerDiedError as error:
        print(f"{args.prog}: error: {error}", file=sys.stderr)
        return 1
    return 0


def server_options(args: argparse.Namespace, model: str) -> ServerOptions:
    """Creates ServerOptions from the options. Raises ValueError for an unreadable template."""
    names = [name for fields in _SERVER.values() for name in fields]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    given.setdefault("names", [model])
    if "VLLM_API_KEY" in os.environ:
        given.setdefault("api_keys", [os.environ["VLLM_API_KEY"]])
    path = given.get("root_path", "").strip("/")
    given["root_path"] = f"/{path}" if path else ""
    if "chat_template" in given:
        given["chat_template"] = _read_template(given["chat_template"])
    return ServerOptions(**given)


def _read_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--chat-template: {path} cannot be read: {error}") from error


def _check_packages() -> None:
    missing: List[str] = []
    packages = {name: name for name in ("fastapi", "uvicorn", "msgspec")}
    packages.update(prometheus_client="prometheus-client", zmq="pyzmq")
    for name, package in packages.items():
        try:
            __import__(name)
        except ImportError as error:
            if error.name != name:  # it is there, and lacks a package of its own
                raise ImportError(
                    f"the server needs {package}, which cannot be imported: {error}"
                ) from error
            missing.append(package)
    if missing:
        raise ImportError(
            f"the server needs {' and '.join(missing)}, which this Python does not have: "
            f"pip install {' '.join(missing)}"
        )


def _check_tracing() -> None:
    try:
        __import__("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        raise ImportError(
            "--otlp-traces-endpoint needs OpenTelemetry, which this Python does not have: "
            "pip install 'vllm[otel]'"
        ) from None
