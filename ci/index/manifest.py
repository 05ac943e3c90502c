"""The manifest of a commit or a release: everything that was published, written once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Optional

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from ci import names, versions
from ci.index import fields as f
from ci.index.fields import FLAT, BadRecord, Form, Wrong
from ci.matrix import Cuda, Matrix

Arch = Annotated[str, Form(re.compile(r"[0-9]+\.[0-9]+[a-z]?"))]
TwoNumbers = Annotated[str, Form(re.compile(r"[0-9]+\.[0-9]+"))]
# A file in the folder itself, or debug symbols at their debuginfod path.
AttachmentName = Annotated[
    str, Form(re.compile(rf"{f.FILE_NAME.pattern}|buildid/[0-9a-f]{{40}}/debuginfo"))
]
PlatformTag = Annotated[str, Form(re.compile(r"[a-z0-9_]+"))]


@dataclass(frozen=True)
class File:
    """A wheel or an sdist, with what pages show of it."""

    name: f.FileName
    version: f.FileName
    variant: Optional[f.VariantName]  # "cu118"; None for an sdist
    tags: tuple[f.Tag, ...]  # "cp38-abi3-manylinux1_x86_64"
    requires_python: f.Specifier
    sha256: f.Sha256
    size: int  # bytes
    metadata_sha256: Optional[f.Sha256]  # of the sidecar; None for an sdist
    native_digest: Optional[f.Digest]  # "sha256:…"
    reused_from: Optional[f.Commit]  # the commit that compiled the native code, if another

    def check(self) -> None:
        try:
            if self.name.endswith(".whl"):
                project, version, _, tags = parse_wheel_filename(self.name)
                found = frozenset(str(tag) for tag in tags)
            else:
                project, version = parse_sdist_filename(self.name)
                found = frozenset()
        except (InvalidWheelFilename, InvalidSdistFilename):
            raise Wrong("name", "the name of a wheel or an sdist", self.name) from None
        if project != names.PROJECT:
            raise Wrong("name", f"a file of {names.PROJECT}", self.name)
        if str(version) != self.version or found != frozenset(self.tags):
            raise Wrong("name", "one with the version and tags of the record", self.name)
        if (self.variant is None) == bool(self.tags):
            raise Wrong("variant", "a name for a wheel, null for an sdist", self.variant)


@dataclass(frozen=True)
class Attachment:
    """A file beside the wheels that is not installed: SHA256SUMS, debug symbols."""

    name: AttachmentName
    sha256: f.Sha256
    size: int


@dataclass(frozen=True)
class Change:
    """What a commit changed, read from git."""

    subject: f.Line
    parent: Optional[f.Commit]  # the first one; None for the root
    files: int  # how many changed since the parent
    native: int  # how many of those are inputs of native code
    native_files: tuple[f.Line, ...]  # the first of these, sorted

    def check(self) -> None:
        if not len(self.native_files) <= self.native <= self.files:
            raise Wrong("native", "from the number of native_files to files", self.native)


@dataclass(frozen=True)
class Unit:
    """Everything that is published together: the files of a commit, or of a release."""

    commit: f.Commit
    number: int  # commits along the first parent since the tag
    time: f.Time  # of the commit, "2026-11-05T12:00:00Z"
    version: f.Numbers  # V, without development or local part
    release: bool
    published: f.Time  # when it was first published; repeating a publication keeps it
    files: tuple[File, ...]
    attachments: tuple[Attachment, ...] = ()
    change: Optional[Change] = field(default=None, metadata=f.ADDED)

    def check(self) -> None:
        all_names = [*(file.name for file in self.files), *(a.name for a in self.attachments)]
        if len(set(all_names)) != len(all_names) or not self.files:
            raise Wrong("files", "at least one, with distinct names", sorted(all_names))
        allowed = {self.version}
        if not self.release:
            allowed.add(_public(versions.development(self.version, self.number, self.commit, None)))
        for file in self.files:
            if _public(file.version) not in allowed:
                raise Wrong("files", f"of version {' or '.join(sorted(allowed))}", file.version)

    @property
    def name(self) -> str:
        """Its name in commands and records: the commit, or ``v0.5.4``."""
        return f"v{self.version}" if self.release else self.commit

    @property
    def prefix(self) -> str:
        """The folder of its files, with a slash."""
        return prefix_of(self.name)

    @property
    def order(self) -> tuple[Version, int]:
        """The sort key of commits, newest last. The number restarts at each release tag."""
        return Version(self.version), self.number

    def of_variant(self, variant: str, default: str) -> tuple[File, ...]:
        """The files of one variant; the sdist belongs to the default one."""
        return tuple(file for file in self.files if (file.variant or default) == variant)


@dataclass(frozen=True)
class DeviceCode:
    """The GPU code in a variant's wheels for a platform other than the main one."""

    archs: tuple[Arch, ...]
    ptx: tuple[Arch, ...]


@dataclass(frozen=True)
class Variant:
    """A CUDA version, as in the matrix that was built."""

    cuda: TwoNumbers
    default: bool
    torch: f.Specifier
    archs: tuple[Arch, ...]
    ptx: tuple[Arch, ...]
    on_request: bool = field(default=False, metadata=f.ADDED)  # only some commits have it
    others: Mapping[PlatformTag, DeviceCode] = field(default_factory=dict, metadata=f.ADDED)


@dataclass(frozen=True)
class ListedVariant:
    """A variant that an index has or once had."""

    default: bool
    on_request: bool = field(default=False, metadata=f.ADDED)


@dataclass(frozen=True)
class Manifest:
    """``COMMIT/manifest.json``: a unit with the matrix that it was built from."""

    unit: Annotated[Unit, FLAT]
    variants: Mapping[f.VariantName, Variant]
    pythons: tuple[TwoNumbers, ...]
    abi3: TwoNumbers
    platform: PlatformTag  # the main one; other wheels have theirs in their tags

    def check(self) -> None:
        if sum(variant.default for variant in self.variants.values()) != 1:
            raise Wrong("variants", "one default", sorted(self.variants))
        for file in self.unit.files:
            if file.variant is not None and file.variant not in self.variants:
                raise Wrong("files", "of a variant of this manifest", file.variant)

    @property
    def default(self) -> str:
        return next(name for name, variant in self.variants.items() if variant.default)

    @property
    def listed(self) -> dict[str, ListedVariant]:
        """The variants as ledgers record them."""
        return {
            name: ListedVariant(variant.default, variant.on_request)
            for name, variant in self.variants.items()
        }


def prefix_of(unit: str) -> str:
    """The folder of a unit's files; raises BadRecord for an impossible name."""
    if f.COMMIT.fullmatch(unit):
        return names.commit_key(unit, "")
    if unit.startswith("v") and f.NUMBERS.fullmatch(unit[1:]):
        return names.release_key(unit[1:], "")
    raise BadRecord(
        f"{unit!r} names neither a commit nor a release",
        means="a commit has 40 hex digits, and a release a v before its version",
        do="git rev-parse HEAD prints a commit in full",
    )


def manifest_key(unit: str) -> str:
    return prefix_of(unit) + "manifest.json"


def of_matrix(unit: Unit, matrix: Matrix) -> Manifest:
    """The manifest of `unit`, built from `matrix`."""
    return Manifest(
        unit,
        {cuda.variant: _variant(cuda, matrix) for cuda in matrix.cudas},
        matrix.pythons,
        matrix.abi3,
        matrix.main.tag,
    )


def _variant(cuda: Cuda, matrix: Matrix) -> Variant:
    code = {
        platform.tag: DeviceCode(cuda.archs(platform.processor), cuda.ptx(platform.processor))
        for platform in matrix.platforms_of(cuda)
    }
    main = code.pop(matrix.main.tag)
    return Variant(
        cuda.version, cuda.default, cuda.torch, main.archs, main.ptx, cuda.on_request, code
    )


def same_but_for_time(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests are equal, except for the time of publication.

    The source of native files may differ too: one build may have compiled what the other reused.
    The hashes of their wheels are compared.
    """
    return _timeless(one, one.unit.published) == _timeless(other, one.unit.published)


def _timeless(manifest: Manifest, published: str) -> Manifest:
    files = tuple(replace(file, reused_from=None) for file in manifest.unit.files)
    return replace(manifest, unit=replace(manifest.unit, published=published, files=files))


def parse(data: bytes, where: str) -> Manifest:
    """Parses a manifest; raises BadRecord naming the invalid field."""
    return f.read(Manifest, data, where)


def dump(manifest: Manifest) -> bytes:
    return f.dump(manifest)


def _public(version: str) -> str:
    return Version(version).public
