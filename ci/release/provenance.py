"""Where a wheel comes from: an in-toto statement with SLSA v1 provenance, in a DSSE envelope.

It names the commit, the compilers and the toolkit that went in, so that anybody can build the wheel
again and compare (`python -m ci verify`). It has no time and no number of a run: two builds of a
commit make the same statement.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ci import digest
from ci.errors import CiError
from ci.matrix import Matrix
from ci.scratch import write_atomically
from ci.wheel.reader import WheelFile

SUFFIX = ".intoto.jsonl"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SOURCE = "https://github.com/vllm-project/vllm"
KEY_VARIABLE = "VLLM_SIGNING_KEY"


class ProvenanceError(CiError):
    """A key cannot be used, or a statement is not about the wheel or not signed by the key."""


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key."""

    private: Ed25519PrivateKey

    @property
    def id(self) -> str:
        return key_id(self.private.public_key())


def load_key(path: Optional[Path], environ: Mapping[str, str] = os.environ) -> Optional[SigningKey]:
    """The key in the PEM file `path`, or in ``VLLM_SIGNING_KEY``; None if neither is given.

    Raises ProvenanceError for what is no unencrypted Ed25519 private key.
    """
    if path is not None:
        try:
            text, where = path.read_bytes(), str(path)
        except OSError as error:
            raise ProvenanceError(f"cannot read the key: {error}") from error
    elif environ.get(KEY_VARIABLE):
        text, where = environ[KEY_VARIABLE].encode(), KEY_VARIABLE
    else:
        return None
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        key = None  # the library's words may quote the file
    if not isinstance(key, Ed25519PrivateKey):
        raise ProvenanceError(
            f"{where} holds no Ed25519 private key",
            means="provenance is signed with such a key, as an unencrypted PEM",
            do="make one: openssl genpkey -algorithm ed25519 -out key.pem",
        )
    return SigningKey(key)


def write(
    path: Path, repo: Path, released: Matrix, wheel: WheelFile, key: Optional[SigningKey]
) -> Path:
    """Writes the provenance of `wheel` beside it, and returns its path."""
    target = path.with_name(path.name + SUFFIX)
    payload = json.dumps(statement(repo, released, wheel), sort_keys=True).encode()
    line = json.dumps(envelope(payload, key), sort_keys=True) + "\n"
    write_atomically(target, line.encode())
    return target


def statement(repo: Path, released: Matrix, wheel: WheelFile) -> dict[str, Any]:
    """The in-toto statement about `wheel`, whose sources are in `repo`."""
    cuda = released.variant(wheel.build.variant)
    processor = next(
        platform.processor
        for platform in released.platforms
        if wheel.tags[0].endswith(f"-{platform.tag}")
    )
    inputs: list[dict[str, Any]] = [
        {"uri": f"git+{SOURCE}", "digest": {"gitCommit": wheel.build.commit}},
        *(
            {"uri": f"pkg:pypi/{name}@{version}"}
            for name, version in sorted(digest.program_versions(repo).items())
        ),
        *(
            {"uri": f"pkg:pypi/{pin.project}@{pin.version}", "digest": {"sha256": pin.sha256}}
            for pin in cuda.pins(processor)
        ),
    ]
    parameters = {"version": wheel.version, "variant": wheel.build.variant, "tag": wheel.tags[0]}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": wheel.path.name, "digest": {"sha256": wheel.sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{SOURCE}/blob/main/docs/releasing.md#provenance",
                "externalParameters": parameters,
                "internalParameters": {"nativeDigest": wheel.build.native_digest},
                "resolvedDependencies": inputs,
            },
            "runDetails": {"builder": {"id": f"{SOURCE}/blob/main/ci/release"}},
        },
    }


def envelope(payload: bytes, key: Optional[SigningKey]) -> dict[str, Any]:
    """A DSSE envelope of `payload`; without a key it has no signature."""
    signatures = []
    if key is not None:
        signature = key.private.sign(_authenticated(payload))
        signatures.append({"keyid": key.id, "sig": base64.b64encode(signature).decode()})
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": signatures,
    }


def check(line: bytes, wheel: WheelFile, public_key: Path) -> None:
    """Raises ProvenanceError unless `line` is a statement about `wheel`, signed by the key."""
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError) as error:
        raise ProvenanceError(f"{public_key} holds no public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ProvenanceError(f"{public_key} holds another kind of key than Ed25519")
    try:
        found = json.loads(line)
        payload = base64.b64decode(found["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"]) for entry in found["signatures"]]
        subjects = json.loads(payload)["subject"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(f"the provenance of {wheel.path.name} is damaged: {error}") from error
    if not any(_is_signed(key, signature, payload) for signature in signatures):
        raise ProvenanceError(
            f"the provenance of {wheel.path.name} is not signed by {key_id(key)}",
            means="somebody else wrote it, or nobody signed it",
            do="ask the publisher for the key, and do not install the wheel before",
        )
    named = {"name": wheel.path.name, "digest": {"sha256": wheel.sha256}}
    if named not in subjects:
        raise ProvenanceError(
            f"the signed provenance is not about {wheel.path.name} of sha256 {wheel.sha256}",
            means="the wheel or the statement was exchanged",
        )


def key_id(key: Ed25519PublicKey) -> str:
    """The sha256 of the public key's DER form, as `openssl` prints it too."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _is_signed(key: Ed25519PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, _authenticated(payload))
    except InvalidSignature:
        return False
    return True


def _authenticated(payload: bytes) -> bytes:
    """What is signed: DSSE v1's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE),
        PAYLOAD_TYPE.encode(),
        len(payload),
        payload,
    )
