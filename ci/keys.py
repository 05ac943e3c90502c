"""The Ed25519 keys that releases and indexes are signed with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from ci.errors import CiError

OF_RELEASES, OF_INDEX = (
    "VLLM_SIGNING_KEY",
    "VLLM_INDEX_KEY",
)  # environment variables that may hold a key in PEM


class BadSigningKey(CiError):
    """A key cannot be read, or is not an Ed25519 key."""


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key."""

    private: Ed25519PrivateKey

    @property
    def id(self) -> str:
        return key_id(self.private.public_key())


def load_key(
    path: Optional[Path],
    environ: Mapping[str, str] = os.environ,
    variable: str = OF_RELEASES,
) -> Optional[SigningKey]:
    """The key in the PEM file `path`, or in the environment variable; None if neither is set.

    Raises BadSigningKey unless it is an unencrypted Ed25519 private key.
    """
    if path is not None:
        try:
            text, where = path.read_bytes(), str(path)
        except OSError as error:
            raise BadSigningKey(f"cannot read the key: {error}") from error
    elif environ.get(variable):
        text, where = environ[variable].encode(), variable
    else:
        return None
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        key = None  # the library's message may quote the file
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSigningKey(
            f"{where} holds no Ed25519 private key",
            means="releases and indexes are signed with an Ed25519 key in an unencrypted PEM file",
            do="create one: openssl genpkey -algorithm ed25519 -out key.pem",
        )
    return SigningKey(key)


def key_id(key: Ed25519PublicKey) -> str:
    """The sha256 of the public key in DER form, which `openssl` prints too."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
