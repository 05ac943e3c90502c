"""The provenance of a wheel: an in-toto statement with SLSA v1 provenance, in a DSSE envelope.

It names the commit, the compilers and the toolkit, so that anybody can rebuild the wheel and
compare (`python -m ci verify`). It has no time and no run number: two builds of a commit give the
same statement.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_public_key,
)

from ci import digest
from ci.errors import CiError
from ci.keys import SigningKey, key_id
from ci.matrix import Matrix
from ci.scratch import write_atomically
from ci.wheel.reader import WheelFile

SUFFIX = ".intoto.jsonl"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SOURCE = "https://github.com/vllm-project/vllm"


class ProvenanceError(CiError):
    """A statement does not describe the wheel, or is not signed by the key."""


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
    """A DSSE envelope of `payload`; unsigned without a key."""
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
        raise ProvenanceError(f"the key in {public_key} is not an Ed25519 key")
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
            means="it is unsigned, or signed by another key",
            do="ask the publisher for the key; do not install the wheel until it verifies",
        )
    named = {"name": wheel.path.name, "digest": {"sha256": wheel.sha256}}
    if named not in subjects:
        raise ProvenanceError(
            f"the signed provenance is not about {wheel.path.name} of sha256 {wheel.sha256}",
            means="the wheel or the statement was replaced",
        )


def _is_signed(key: Ed25519PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, _authenticated(payload))
    except InvalidSignature:
        return False
    return True


def _authenticated(payload: bytes) -> bytes:
    """DSSE v1's pre-authentication encoding, which is what the signature covers."""
    return b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE),
        PAYLOAD_TYPE.encode(),
        len(payload),
        payload,
    )
