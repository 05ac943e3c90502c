"""Native files of a published wheel instead of compiling: only of the very same sources.

A wheel says from which native digest it was made (ci/digest.py), and the bucket's ledgers say it of
every wheel, with its sha256. Where no wheel is of this tree's digest nothing is installed: native
files of other sources would crash, or compute something else.
"""

import re
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from platform import machine
from typing import Dict, Iterator, List, Mapping
from urllib.parse import unquote, urlsplit

from ci import digest, git, matrix, names, reuse
from ci.errors import CiError
from ci.git import GitError
from ci.index import records
from ci.index.fields import BadRecord
from ci.matrix import Cuda
from ci.wheel import reader

VARIABLE = "VLLM_PRECOMPILED_WHEEL_LOCATION"
BASE = "https://vllm-wheels.s3.us-west-2.amazonaws.com"
TIMEOUT = 60  # seconds without a byte
SHOWN = 20  # differing inputs that an error lists
HASH = re.compile(r"#sha256=([0-9a-f]{64})$")
COMPILE = "unset VLLM_USE_PRECOMPILED to compile"
DO = f"{COMPILE}; or check out a published commit, or undo the changes above"


class PrecompiledError(CiError):
    """No published wheel may lend this tree its native files."""


@dataclass(frozen=True)
class Native:
    """Native files, laid out as in a wheel."""

    folder: Path
    digest: str  # "sha256:…", of the sources that they were compiled from
    origin: str


def native_files(environ: Mapping[str, str], cuda: Cuda, root: Path) -> Native:
    """The native files of `cuda` for the source tree at `root`, below its ``build``.

    ``VLLM_PRECOMPILED_WHEEL_LOCATION`` names a wheel (a file, or an address that ends in
    ``#sha256=…``), or the base address of a bucket; by default that is this project's.
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
            means="it names a wheel, or the base address of a bucket of wheels",
            do=f"give the path or address of a .whl, or an address like {BASE}",
        )
    bucket = HttpWheels(location)
    published = reuse.Reuse(bucket)
    found = published.native_files(cuda, wanted, folder)
    if found is None:
        raise _nobody_has(wanted, cuda, bucket, root)
    return Native(found, wanted, f"{location}, compiled at commit {published.used[cuda.variant]}")


@dataclass(frozen=True)
class HttpWheels:
    """The nightlies and releases below a base address, as anybody can read them."""

    base: str

    def listed(self) -> Iterator[reuse.Published]:
        """Those that say what they were compiled from: nightlies first, newest first."""
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
                continue  # a bucket that never had a release has no list of them
            except BadRecord as error:
                raise PrecompiledError(
                    f"{url} is no list of wheels: {error}",
                    means=f"{self.base} is another kind of place than a bucket of this project",
                    do=f"correct {VARIABLE}, or unset it for {BASE}",
                ) from error


def _take_wheel(location: str, cuda: Cuda, wanted: str, folder: Path, root: Path) -> None:
    """Unpacks the wheel at a path or an address into `folder`."""
    sha256, place = HASH.search(location), HASH.sub("", location)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if _is_address(location):
        if sha256 is None:
            raise PrecompiledError(
                f"{VARIABLE} is {location}, without its sha256",
                means="a download that is checked against nothing may be any file",
                do="add #sha256=… to the address, as the index page beside the wheel has it",
            )
        path = folder / unquote(urlsplit(place).path).rpartition("/")[2]
        path.write_bytes(_get(place.replace("+", "%2B")))
    else:  # a name, in which `#`, `?` and `%` are what they are
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
    inputs = "\n    ".join(_differences(root, commit)) if commit else "its commit is not known"
    return PrecompiledError(
        f"{wheel.path.name} has native files of {wheel.build.variant}, "
        f"{wheel.build.native_digest or 'of sources that nobody recorded'}; "
        f"this tree is {cuda.variant}, {wanted}. What differs from commit {commit}:\n    {inputs}",
        means="native files of other sources would crash, or compute something else",
        do=DO,
    )


def _nobody_has(wanted: str, cuda: Cuda, bucket: HttpWheels, root: Path) -> PrecompiledError:
    """Says how far the nearest published commit is: the first that git counts back from here."""
    published = [
        unit.commit
        for ledger in bucket.ledgers()
        for unit in ledger.units
        if unit.of_variant(cuda.variant, matrix.load().default.variant)
    ]
    nearest = next((sha for sha in _history(root) if sha in published), None)
    if nearest is not None:
        inputs = "\n    ".join(_differences(root, nearest))
        how_far = f"The nearest published commit is {nearest}; what differs from it:\n    {inputs}"
    elif published:
        how_far = f"None of its {len(published)} published commits is in this tree's history."
    else:
        how_far = f"It lists no wheel of {cuda.variant} at all."
    return PrecompiledError(
        f"no wheel at {bucket.base} has native files of this tree ({cuda.variant}, {wanted}).\n"
        f"  {how_far}",
        means="native files of other sources would crash, or compute something else",
        do=DO,
    )


def _history(root: Path) -> List[str]:
    """The commits from the one checked out back, nearest first; none in an sdist."""
    try:
        return git.history(root)
    except GitError:
        return []


def _differences(root: Path, commit: str) -> List[str]:
    """The inputs of native code, by name, that differ between `commit` and the tree at `root`."""
    if commit not in _history(root):
        return [f"(commit {commit} is not in this tree's history, so nothing can be compared)"]
    with tempfile.TemporaryDirectory() as folder:
        git.export(root, commit, Path(folder))
        try:
            there = _inputs(Path(folder))
        except CiError as error:
            return [f"(the sources of {commit} are laid out otherwise: {error.what})"]
    here = _inputs(root)
    differing = sorted(
        name for name in here.keys() | there.keys() if here.get(name) != there.get(name)
    )
    if len(differing) > SHOWN:
        differing[SHOWN:] = [f"… and {len(differing) - SHOWN} more"]
    return differing or ["(nothing: it was published before digests were made in this way)"]


def _inputs(root: Path) -> Dict[str, str]:
    known = matrix.load(root / "ci" / "matrix.toml")
    return {
        f"{name} ({cuda.variant})" if name == "cuda" else name: value
        for cuda in known.cudas
        for name, value in digest.inputs(root, known, cuda).items()
    }


class _NotThere(PrecompiledError):
    """404, and 403 as S3 says of what is not there to somebody who may not list."""


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return bytes(answer.read())
    except OSError as error:  # HTTPError too
        missing = isinstance(error, urllib.error.HTTPError) and error.code in (403, 404)
        raise (_NotThere if missing else PrecompiledError)(
            f"cannot read {url}: {error}",
            means="whether a wheel of this tree's native digest was published is not known",
            do=f"see to the network, or name another place in {VARIABLE}; or {COMPILE}",
        ) from error
