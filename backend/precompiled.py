"""Uses native files of a published wheel instead of compiling, if its sources are identical.

A wheel records its native digest (ci/digest.py), and the bucket's ledgers list the digest and
sha256 of every wheel. Without a wheel of this tree's digest nothing is installed: native files of
other sources would crash, or compute something else.
"""

import http.client
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from platform import machine
from typing import Dict, Iterator, List, Mapping
from urllib.parse import unquote, urlsplit

from ci import digest, git, matrix, names, reuse, scratch
from ci.errors import CiError
from ci.git import GitError
from ci.index import records
from ci.index.fields import BadRecord
from ci.matrix import Cuda
from ci.wheel import reader

VARIABLE = "VLLM_PRECOMPILED_WHEEL_LOCATION"
BASE = "https://vllm-wheels.s3.us-west-2.amazonaws.com"
TIMEOUT = 60  # seconds without receiving a byte
SHOWN = 20  # differing inputs that an error lists
HASH = re.compile(r"#sha256=([0-9a-f]{64})$")
COMPILE = "unset VLLM_USE_PRECOMPILED to compile"
DO = f"{COMPILE}; or check out a published commit, or undo the changes above"


class PrecompiledError(CiError):
    """No published wheel has native files for this tree."""


@dataclass(frozen=True)
class Native:
    """Native files, laid out as in a wheel."""

    folder: Path
    digest: str  # "sha256:…", of the inputs that they were compiled from
    origin: str


def native_files(environ: Mapping[str, str], cuda: Cuda, root: Path) -> Native:
    """The native files of `cuda` for the source tree at `root`, below its ``build``.

    ``VLLM_PRECOMPILED_WHEEL_LOCATION`` is a wheel (a file, or a URL that ends in ``#sha256=…``), or
    the base URL of a bucket; by default this project's.
    Raises PrecompiledError, WrongWheel or BadWheel.
    """
    location = environ.get(VARIABLE) or BASE
    known = matrix.load()
    here = (each for each in known.platforms if each.processor == machine())
    wanted = digest.native_digest(root, known, cuda, next(here, known.main))
    folder = root / "build" / "precompiled" / cuda.variant
    if HASH.sub("", location).endswith(".whl"):
        _take_wheel(location, cuda, wanted, folder, root)
        return Native(folder, wanted, location)
    if not _is_address(location):
        raise PrecompiledError(
            f"{VARIABLE} is {location!r}",
            means="it must be a wheel, or the base URL of a bucket of wheels",
            do=f"set it to the path or URL of a .whl, or to a URL like {BASE}",
        )
    bucket = HttpWheels(location)
    published = reuse.Reuse(bucket)
    found = published.native_files(cuda, wanted, folder)
    if found is None:
        raise _nobody_has(wanted, cuda, bucket, root)
    return Native(found, wanted, f"{location}, compiled at commit {published.used[cuda.variant]}")


@dataclass(frozen=True)
class HttpWheels:
    """The public nightlies and releases below a base URL."""

    base: str

    def listed(self) -> Iterator[reuse.Published]:
        """The wheels with a native digest: nightlies first, newest first."""
        for ledger in self.ledgers():
            yield from reuse.of_ledger(ledger)

    def download(self, wheel: reuse.Published, target: Path) -> None:
        """Writes a wheel to `target`."""
        target.write_bytes(_get(names.url(self.base, wheel.key)))

    def ledgers(self) -> Iterator[records.Ledger]:
        """The lists of nightlies and of releases. Raises PrecompiledError."""
        for record in (records.NIGHTLIES, records.RELEASES):
            url = names.url(self.base, record.key)
            try:
                yield record.parse(_get(url), url)
            except _NotThere:
                continue  # a bucket without releases has no list of them
            except BadRecord as error:
                raise PrecompiledError(
                    f"{url} is not a list of wheels: {error}",
                    means=f"{self.base} is not a bucket of this project",
                    do=f"correct {VARIABLE}, or unset it for {BASE}",
                ) from error


def _take_wheel(location: str, cuda: Cuda, wanted: str, folder: Path, root: Path) -> None:
    """Unpacks the native files of the wheel at a path or URL into `folder`."""
    sha256, place = HASH.search(location), HASH.sub("", location)
    scratch.remove(folder)
    folder.mkdir(parents=True)
    if _is_address(location):
        if sha256 is None:
            raise PrecompiledError(
                f"{VARIABLE} is {location}, without a sha256",
                means="an unverified download could be any file",
                do="add #sha256=… to the URL; the index page beside the wheel has it",
            )
        path = folder / unquote(urlsplit(place).path).rpartition("/")[2]
        path.write_bytes(_get(place.replace("+", "%2B")))
    else:  # a path, in which `#`, `?` and `%` are ordinary characters
        path = Path(unquote(urlsplit(place).path) if place.startswith("file:") else place)
    wheel = reader.read(path)
    if wheel.build.variant != cuda.variant or wheel.build.native_digest != wanted:
        raise _of_other_sources(wheel, cuda, wanted, root)
    expected = sha256[1] if sha256 else wheel.sha256
    commit = wheel.build.commit or "unknown"
    published = reuse.Published(path.name, cuda.variant, wanted, expected, commit)
    reuse.unpack(path, published, folder)


def _is_address(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _of_other_sources(
    wheel: reader.WheelFile, cuda: Cuda, wanted: str, root: Path
) -> PrecompiledError:
    commit = wheel.build.commit
    inputs = "\n    ".join(_differences(root, commit)) if commit else "its commit is unknown"
    return PrecompiledError(
        f"{wheel.path.name} has native files of {wheel.build.variant}, "
        f"{wheel.build.native_digest or 'of unknown sources'}; "
        f"this tree is {cuda.variant}, {wanted}. What differs from commit {commit}:\n    {inputs}",
        means="native files of other sources would crash, or compute something else",
        do=DO,
    )


def _nobody_has(wanted: str, cuda: Cuda, bucket: HttpWheels, root: Path) -> PrecompiledError:
    """The error that names the nearest published ancestor, and what differs from it."""
    published = [
        unit.commit
        for ledger in bucket.ledgers()
        for unit in ledger.units
        if unit.of_variant(cuda.variant, matrix.load().default.variant)
    ]
    nearest = next((sha for sha in _history(root) if sha in published), None)
    if nearest is not None:
        inputs = "\n    ".join(_differences(root, nearest))
        how_far = (
            f"The nearest published commit is {nearest}; inputs that differ from it:\n    {inputs}"
        )
    elif published:
        how_far = f"None of its {len(published)} published commits is in this tree's history."
    else:
        how_far = f"It lists no wheel of {cuda.variant}."
    return PrecompiledError(
        f"no wheel at {bucket.base} has native files of this tree ({cuda.variant}, {wanted}).\n"
        f"  {how_far}",
        means="native files of other sources would crash, or compute something else",
        do=DO,
    )


def _history(root: Path) -> List[str]:
    """The checked out commit and its ancestors, newest first; empty in an sdist."""
    try:
        return git.history(root)
    except GitError:
        return []


def _differences(root: Path, commit: str) -> List[str]:
    """The names of native code's inputs that differ between `commit` and the tree at `root`."""
    if commit not in _history(root):
        return [f"(commit {commit} is not in this tree's history, and cannot be compared)"]
    with tempfile.TemporaryDirectory() as folder:
        git.export(root, commit, Path(folder))
        try:
            there = _inputs(Path(folder))
        except CiError as error:
            return [f"(the source tree of {commit} has another layout: {error.what})"]
    here = _inputs(root)
    differing = sorted(
        name for name in here.keys() | there.keys() if here.get(name) != there.get(name)
    )
    if len(differing) > SHOWN:
        differing[SHOWN:] = [f"… and {len(differing) - SHOWN} more"]
    return differing or ["(none: it was published with another definition of the digest)"]


def _inputs(root: Path) -> Dict[str, str]:
    known = matrix.load(root / "ci" / "matrix.toml")
    return {
        f"{name} ({cuda.variant})" if name == "cuda" else name: value
        for cuda in known.cudas
        for name, value in digest.inputs(root, known, cuda).items()
    }


class _NotThere(PrecompiledError):
    """404, or 403: S3's response for a missing key if the client may not list the bucket."""


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return bytes(answer.read())
    except (OSError, http.client.HTTPException) as error:  # HTTPError too, and a cut-off body
        missing = isinstance(error, urllib.error.HTTPError) and error.code in (403, 404)
        raise (_NotThere if missing else PrecompiledError)(
            f"cannot read {url}: {error}",
            means="it is unknown whether a wheel with this tree's native digest was published",
            do=f"check the network, or set another location in {VARIABLE}; or {COMPILE}",
        ) from error
