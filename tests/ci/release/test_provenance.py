"""Provenance: what it says, and signatures that openssl checks too."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ci.keys import BadSigningKey, SigningKey, load_key
from ci.matrix import Matrix
from ci.release import provenance
from ci.release.provenance import ProvenanceError
from ci.wheel.reader import WheelFile
from tests.ci.support.wheels import Factory

ROOT = Path(__file__).parents[3]


def pem(
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b""
) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """A key; its public half is in ``public.pem``."""
    private = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "private.pem").write_bytes(pem(private))
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "public.pem").write_bytes(public)
    return SigningKey(private)


@pytest.fixture
def wheel(factory: Factory) -> WheelFile:
    return factory.wheel(factory.commit(1), "cu118", "0.5.4+cu118")


@pytest.fixture
def line(key: SigningKey, wheel: WheelFile, the_matrix: Matrix, tmp_path: Path) -> bytes:
    """The signed provenance of the wheel, as a file holds it."""
    path = provenance.write(tmp_path / wheel.path.name, ROOT, the_matrix, wheel, key)
    assert path.name == wheel.path.name + ".intoto.jsonl"
    return path.read_bytes()


def test_the_statement_says_what_was_made_of_what(the_matrix: Matrix, wheel: WheelFile) -> None:
    statement = provenance.statement(ROOT, the_matrix, wheel)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": wheel.path.name, "digest": {"sha256": wheel.sha256}}]
    definition = statement["predicate"]["buildDefinition"]
    inputs = {entry["uri"]: entry.get("digest") for entry in definition["resolvedDependencies"]}
    assert inputs["git+https://github.com/vllm-project/vllm"] == {"gitCommit": wheel.build.commit}
    for pin in the_matrix.variant("cu118").pins("x86_64"):
        assert inputs[f"pkg:pypi/{pin.project}@{pin.version}"] == {"sha256": pin.sha256}
    assert any(uri.startswith("pkg:pypi/ziglang@") for uri in inputs)


def test_it_is_one_line_and_the_same_each_time(
    line: bytes, key: SigningKey, wheel: WheelFile, the_matrix: Matrix, tmp_path: Path
) -> None:
    assert line.count(b"\n") == 1
    again = provenance.write(tmp_path / "again.whl", ROOT, the_matrix, wheel, key)
    assert again.read_bytes() == line


def test_a_signed_statement_is_accepted(line: bytes, wheel: WheelFile, tmp_path: Path) -> None:
    provenance.check(line, wheel, tmp_path / "public.pem")


def test_openssl_accepts_the_signature(line: bytes, key: SigningKey, tmp_path: Path) -> None:
    found = json.loads(line)
    payload = base64.b64decode(found["payload"])
    kind = found["payloadType"].encode()
    # DSSE v1: the signature is over this, which tells type and body apart.
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    (tmp_path / "signed").write_bytes(signed)
    (tmp_path / "sig").write_bytes(base64.b64decode(found["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin"]
    command += ["-in", "signed", "-sigfile", "sig"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert found["signatures"][0]["keyid"] == key.id


def test_without_a_key_there_is_no_signature_and_the_check_says_so(
    wheel: WheelFile, the_matrix: Matrix, key: SigningKey, tmp_path: Path
) -> None:
    path = provenance.write(tmp_path / "unsigned.whl", ROOT, the_matrix, wheel, None)
    assert json.loads(path.read_bytes())["signatures"] == []
    with pytest.raises(ProvenanceError, match=f"is not signed by {key.id}"):
        provenance.check(path.read_bytes(), wheel, tmp_path / "public.pem")


def test_another_key(line: bytes, wheel: WheelFile, tmp_path: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    path = tmp_path / "other.pem"
    path.write_bytes(
        other.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(ProvenanceError, match="is not signed by"):
        provenance.check(line, wheel, path)


def test_a_changed_statement(line: bytes, wheel: WheelFile, tmp_path: Path) -> None:
    found = json.loads(line)
    payload = base64.b64decode(found["payload"]).replace(b"cu118", b"cu121")
    found["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(ProvenanceError, match="is not signed by"):
        provenance.check(json.dumps(found).encode(), wheel, tmp_path / "public.pem")


def test_the_statement_of_another_wheel(line: bytes, factory: Factory, tmp_path: Path) -> None:
    other = factory.wheel(factory.commit(2), "cu118", "0.5.4+cu118")
    with pytest.raises(
        ProvenanceError, match=f"is not about {other.path.name}".replace("+", r"\+")
    ):
        provenance.check(line, other, tmp_path / "public.pem")


@pytest.mark.parametrize("text", [b"", b"{}", b'{"payload": "%%", "signatures": []}', b"[]"])
@pytest.mark.usefixtures("key")
def test_a_damaged_statement(text: bytes, wheel: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError, match="is damaged"):
        provenance.check(text, wheel, tmp_path / "public.pem")


def test_the_key_comes_from_a_file_or_the_environment(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "private.pem"
    text = path.read_text()
    for found in (
        load_key(path, {}),
        load_key(None, {"VLLM_SIGNING_KEY": text}),
    ):
        assert found is not None
        assert found.id == key.id
    assert load_key(None, {}) is None


@pytest.mark.parametrize(
    "text",
    [
        b"not a key: secret",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(ed25519.Ed25519PrivateKey.generate(), b"password"),
    ],
    ids=["no key", "another kind", "encrypted"],
)
def test_the_content_of_an_invalid_key_is_not_shown(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(text)
    with pytest.raises(BadSigningKey, match="holds no Ed25519 private key") as caught:
        load_key(path, {})
    assert "secret" not in str(caught.value)


def test_no_such_key(tmp_path: Path) -> None:
    with pytest.raises(BadSigningKey, match="cannot read the key"):
        load_key(tmp_path / "none.pem", {})
