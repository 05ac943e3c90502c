"""Checks of one option of a server: each raises ValueError naming the option."""

from __future__ import annotations

import ssl
from typing import Any, Optional

from vllm.numbers import as_integer


def check_range(name: str, value: Any, least: int, greatest: Optional[int]) -> None:
    """An integer of least to greatest; None means no limit."""
    number = as_integer(value)
    if number is None or number < least or (greatest is not None and number > greatest):
        limits = f"at least {least}" if greatest is None else f"in [{least}, {greatest}]"
        raise ValueError(f"{name} must be an integer, {limits}, got {value!r}")


def check_texts(name: str, value: Any) -> None:
    """A list of texts, each of which a request can have: no header has an empty key."""
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


def check_socket(path: Optional[str]) -> None:
    """The path of a Unix socket, or None."""
    if path is not None and not path:
        raise ValueError("uds must be the path of a Unix socket, got ''")


def check_certificate(certificate: Optional[str], key: Optional[str]) -> None:
    """Both are files that belong together, without a passphrase; or both are None."""
    if certificate is None and key is None:
        return
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
