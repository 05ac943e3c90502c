"""Checks the options of a server before it loads a model."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Optional

from vllm.numbers import as_integer

if TYPE_CHECKING:
    from vllm.entrypoints.openai.options import ServerOptions

# Field -> its least and its greatest value.
_RANGES = {
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
_OPTIONAL = {"max_log_len", "shutdown_timeout"}
_TEXTS = ("names", "api_keys", "allowed_origins", "allowed_methods", "allowed_headers")


def check_options(options: ServerOptions) -> None:
    """Raises ValueError naming the option."""
    for name, (least, greatest) in _RANGES.items():
        _check_range(name, getattr(options, name), least, greatest)
    for name in _TEXTS:
        _check_texts(name, getattr(options, name))
    if not options.names:
        raise ValueError("names must be at least one name of the model, got none")
    if options.uds is not None and not options.uds:
        raise ValueError("uds must be the path of a Unix socket, got ''")
    if options.ssl_certfile is not None or options.ssl_keyfile is not None:
        _check_certificate(options.ssl_certfile, options.ssl_keyfile)


def _check_range(name: str, value: Any, least: int, greatest: Optional[int]) -> None:
    if value is None and name in _OPTIONAL:
        return
    number = as_integer(value)
    if number is None or number < least or (greatest is not None and number > greatest):
        limits = f"at least {least}" if greatest is None else f"in [{least}, {greatest}]"
        raise ValueError(f"{name} must be an integer, {limits}, got {value!r}")


def _check_texts(name: str, value: Any) -> None:
    """Each must be one that a request can have: no header has an empty key."""
    is_listed = isinstance(value, (list, tuple))
    if not is_listed or not all(isinstance(each, str) and each.strip() for each in value):
        if name == "api_keys":  # which no log may show
            raise ValueError("api_keys (--api-key, VLLM_API_KEY) must be non-empty texts")
        raise ValueError(f"{name} must be a list of non-empty texts, got {value!r}")
    if not all(_is_text(each) for each in value):
        raise ValueError(f"{name} must be UTF-8")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not
        return False
    return True


def _check_certificate(certificate: Optional[str], key: Optional[str]) -> None:
    if certificate is None:
        raise ValueError("ssl_keyfile needs ssl_certfile, the certificate that it belongs to")
    try:
        # Without a function OpenSSL would ask at the terminal, when the model has been loaded.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # also of the ssl module: no certificate, or not that of the key
        where = certificate if key is None else f"{certificate} with the key {key}"
        raise ValueError(f"ssl_certfile: {where} cannot be used: {error}") from error


def _no_password() -> str:
    raise ValueError("ssl_keyfile must be a key without a passphrase")
