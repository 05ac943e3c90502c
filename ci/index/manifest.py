"""The manifest of a commit or a release: what was published, complete, written once."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Optional

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from ci import names, versions
from ci.index import fields as f
from ci.index.fields import BadRecord, Fields
from ci.matrix import Matrix

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
_ARCH = re.compile(r"[0-9]+\.[0-9]+[a-z]?")
_CUDA = re.compile(r"[0-9]+\.[0-9]+")
_FLAT = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class File:
    """A wheel or an sdist as its pages show it."""

    name: str
    version: str
    variant: Optional[str]  # "cu118"; None for an sdist
    tags: tuple[str, ...]  # "cp38-abi3-manylinux1_x86_64"
    requires_python: str
    sha256: str  # hex
    size: int  # bytes
    metadata_sha256: Optional[str]  # hex, of the sidecar; None for an sdist
    native_digest: Optional[str]  # "sha256:…"
    reused_from: Optional[str]  # the commit whose native code this is, if another's


@dataclass(frozen=True)
class Attachment:
    """A file beside the wheels that installs nothing: SHA256SUMS, a provenance statement."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Unit:
    """What is published as one: all the files of a commit, or of a release of it."""

    commit: str
    number: int  # commits along the first parent since the tag
    time: str  # of the commit, "2026-11-05T12:00:00Z"
    version: str  # V, without development or local part
    release: bool
    published: str  # when it was published first; a repetition keeps it
    files: tuple[File, ...]
    attachments: tuple[Attachment, ...] = ()

    @property
    def name(self) -> str:
        """How commands and records name it: the commit, or ``v0.5.4``."""
        return f"v{self.version}" if self.release else self.commit

    @property
    def prefix(self) -> str:
        """The folder of its files, with a slash."""
        return prefix_of(self.name)

    @property
    def order(self) -> tuple[Version, int]:
        """Which of two commits is newer. The number starts again at each release tag."""
        return Version(self.version), self.number

    def of_variant(self, variant: str, default: str) -> tuple[File, ...]:
        """The files of one variant; an sdist is the default variant's."""
        return tuple(file for file in self.files if (file.variant or default) == variant)


@dataclass(frozen=True)
class Variant:
    """A CUDA version, as the matrix had it when the unit was published."""

    cuda: str
    default: bool
    torch: str
    archs: tuple[str, ...]
    ptx: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A unit with the matrix that it was built from: ``COMMIT/manifest.json``."""

    unit: Unit
    variants: dict[str, Variant]
    pythons: tuple[str, ...]
    abi3: str
    platform: str

    @property
    def default(self) -> str:
        return next(name for name, variant in self.variants.items() if variant.default)

    @property
    def defaults(self) -> dict[str, bool]:
        """The variants, each with whether it is the default one."""
        return {name: variant.default for name, variant in self.variants.items()}


def prefix_of(unit: str) -> str:
    """The folder of a unit's files by its name; raises BadRecord for what cannot be one."""
    if f.COMMIT.fullmatch(unit):
        return names.commit_key(unit, "")
    if unit.startswith("v") and f.NUMBERS.fullmatch(unit[1:]):
        return names.release_key(unit[1:], "")
    raise BadRecord(
        f"{unit!r} names neither a commit nor a release",
        means="a commit is named by all 40 hex digits, a release by v and its version",
        do="git rev-parse HEAD prints the name of a commit",
    )


def manifest_key(unit: str) -> str:
    return prefix_of(unit) + "manifest.json"


def of_matrix(unit: Unit, matrix: Matrix) -> Manifest:
    """The manifest of a unit that was built from `matrix`."""
    return Manifest(
        unit,
        {
            cuda.variant: Variant(cuda.version, cuda.default, cuda.torch, cuda.archs, cuda.ptx)
            for cuda in matrix.cudas
        },
        matrix.pythons,
        matrix.abi3,
        matrix.platform_tag,
    )


def same_but_for_time(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests differ in nothing but when they were first published.

    Nor in where each build took native files from: one may have compiled what the other reused,
    and their wheels, whose hashes are compared, are the same.
    """
    return _timeless(one, one.unit.published) == _timeless(other, one.unit.published)


def _timeless(manifest: Manifest, published: str) -> Manifest:
    files = tuple(replace(file, reused_from=None) for file in manifest.unit.files)
    return replace(manifest, unit=replace(manifest.unit, published=published, files=files))


def parse(data: bytes, where: str) -> Manifest:
    """Reads a manifest; raises BadRecord naming the field that is not as it must be."""
    fields = f.load(data, where)
    manifest = Manifest(
        unit_from(fields),
        fields.mapping("variants", f.VARIANT, _variant),
        fields.texts("pythons", _CUDA),
        fields.text("abi3", _CUDA),
        fields.text("platform", _FLAT),
    )
    fields.end()
    if sum(variant.default for variant in manifest.variants.values()) != 1:
        raise fields.refuse("variants", "one default", sorted(manifest.variants))
    for file in manifest.unit.files:
        if file.variant is not None and file.variant not in manifest.variants:
            raise fields.refuse("files", "of a variant of this manifest", file.variant)
    return manifest


def dump(manifest: Manifest) -> bytes:
    variants = {
        name: {
            "cuda": variant.cuda,
            "default": variant.default,
            "torch": variant.torch,
            "archs": list(variant.archs),
            "ptx": list(variant.ptx),
        }
        for name, variant in manifest.variants.items()
    }
    return f.dump(
        {
            **unit_record(manifest.unit),
            "variants": variants,
            "pythons": list(manifest.pythons),
            "abi3": manifest.abi3,
            "platform": manifest.platform,
        }
    )


def unit_from(fields: Fields) -> Unit:
    """The unit of a manifest or of a ledger's entry."""
    unit = Unit(
        commit=fields.text("commit", f.COMMIT),
        number=fields.number("number"),
        time=fields.text("time", f.TIME),
        version=fields.text("version", f.NUMBERS),
        release=fields.flag("release"),
        published=fields.text("published", f.TIME),
        files=fields.objects("files", _file),
        attachments=fields.objects("attachments", _attachment),
    )
    all_names = [file.name for file in unit.files] + [other.name for other in unit.attachments]
    if len(set(all_names)) != len(all_names) or not unit.files:
        raise fields.refuse("files", "at least one, each of its own name", sorted(all_names))
    allowed = {unit.version}
    if not unit.release:
        allowed.add(_public(versions.development(unit.version, unit.number, unit.commit, None)))
    for file in unit.files:
        if _public(file.version) not in allowed:
            raise fields.refuse("files", f"of version {' or '.join(sorted(allowed))}", file.version)
    return unit


def unit_record(unit: Unit) -> dict[str, Any]:
    return {
        "commit": unit.commit,
        "number": unit.number,
        "time": unit.time,
        "version": unit.version,
        "release": unit.release,
        "published": unit.published,
        "files": [{**vars(file), "tags": list(file.tags)} for file in unit.files],
        "attachments": [dict(vars(attachment)) for attachment in unit.attachments],
    }


def _file(fields: Fields) -> File:
    file = File(
        name=fields.text("name", _NAME),
        version=fields.text("version", _NAME),
        variant=fields.optional_text("variant", f.VARIANT),
        tags=fields.texts("tags", f.TAG),
        requires_python=fields.specifier("requires_python"),
        sha256=fields.text("sha256", f.SHA256),
        size=fields.number("size"),
        metadata_sha256=fields.optional_text("metadata_sha256", f.SHA256),
        native_digest=fields.optional_text("native_digest", f.DIGEST),
        reused_from=fields.optional_text("reused_from", f.COMMIT),
    )
    try:
        if file.name.endswith(".whl"):
            project, version, _, tags = parse_wheel_filename(file.name)
            found = frozenset(str(tag) for tag in tags)
        else:
            project, version = parse_sdist_filename(file.name)
            found = frozenset()
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        raise fields.refuse("name", "the name of a wheel or an sdist", file.name) from error
    if project != names.PROJECT:
        raise fields.refuse("name", f"a file of {names.PROJECT}", file.name)
    if str(version) != file.version or found != frozenset(file.tags):
        raise fields.refuse("name", "of the version and the tags beside it", file.name)
    if (file.variant is None) == bool(file.tags):
        raise fields.refuse("variant", "given for a wheel, and null for an sdist", file.variant)
    return file


def _attachment(fields: Fields) -> Attachment:
    return Attachment(
        fields.text("name", _NAME), fields.text("sha256", f.SHA256), fields.number("size")
    )


def _variant(fields: Fields) -> Variant:
    return Variant(
        fields.text("cuda", _CUDA),
        fields.flag("default"),
        fields.specifier("torch"),
        fields.texts("archs", _ARCH),
        fields.texts("ptx", _ARCH),
    )


def _public(version: str) -> str:
    return Version(version).public
