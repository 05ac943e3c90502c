"""The page of one commit or release: what it changed, its files, and commands that use them."""

from __future__ import annotations

from collections.abc import Iterator

from ci import names
from ci.index.manifest import File, Unit
from ci.index.records import Nightly, Yanked
from ci.index.templates import render

# PyTorch's index, for CUDA versions whose torch PyPI lacks.
TORCH_INDEX = "https://download.pytorch.org/whl/"


def of_unit(unit: Unit, yanked: Yanked, *, docs: bool) -> bytes:
    """The page in the folder of a commit or a release; `docs`: link to its documentation."""
    title = f"vllm {unit.name}" if unit.release else f"vllm commit {unit.name[:12]}"
    return _page(title, unit.prefix, unit, yanked, yanked.serial(unit.name), docs)


def of_nightly(nightly: Nightly, unit: Unit, yanked: Yanked, *, docs: bool) -> bytes:
    """The page of ``nightly/``, which `unit` is now."""
    serial = nightly.ledger.serial + yanked.serial(unit.name)
    return _page("vllm nightly", f"{names.NIGHTLY}/", unit, yanked, serial, docs)


def commands(unit: Unit) -> Iterator[tuple[str, str]]:
    """(Purpose, command) for each installer and variant, then for scripts and lock files."""
    base = names.documented_url(names.BASE, unit.prefix)
    documented = _documented(unit)
    for file in documented:
        local = file.version.partition("+")[2]
        about = cuda_name(str(file.variant)) + _machine(file)
        torch = f" --extra-index-url {TORCH_INDEX}{local}" if local else ""
        yield f"pip, {about}", f"pip install {base}{file.name}{torch}"
        yield f"uv, {about}", f"uv pip install {base}{file.name}{torch}"
    for file in documented[:1]:
        url = f"{base}{file.name}"
        yield "pip, replacing another build", f"pip install --force-reinstall --no-deps {url}"
        yield "uv, replacing another build", f"uv pip install --reinstall {url}"
    beside = {attachment.name for attachment in unit.attachments}
    if "install.py" in beside:
        yield "which wheel fits this machine", f"uv run {base}install.py"
    for name in sorted(beside, key=lambda name: (len(name), name))[::-1]:
        if name.startswith("pylock."):
            yield "with locked dependencies", f"curl -O {base}{name} && uv pip install -r {name}"
            break
    if any(name.startswith("buildid/") for name in beside):
        gdb = "gdb -iex 'set debuginfod enabled on' --args python script.py"
        yield "in gdb, with symbols", f"DEBUGINFOD_URLS={base.rstrip('/')} {gdb}"
    if "bisect.py" in beside:
        yield "find the first bad commit", f"uv run {base}bisect.py --good COMMIT -- python test.py"


def cuda_name(variant: str) -> str:
    """``CUDA 12.1`` of ``cu121``."""
    return f"CUDA {variant[2:-1]}.{variant[-1]}"


def _documented(unit: Unit) -> list[File]:
    """The abi3 wheels of the released version, the default variant first."""
    found = [
        file
        for file in unit.files
        if ".dev" not in file.version and any("-abi3-" in tag for tag in file.tags)
    ]
    return sorted(found, key=lambda file: "+" in file.version)


def _machine(file: File) -> str:
    return "" if file.tags[0].endswith("_x86_64") else f", {file.tags[0].rpartition('_')[2]}"


def _page(title: str, folder: str, unit: Unit, yanked: Yanked, serial: int, docs: bool) -> bytes:
    wheel = next((file.name for file in _documented(unit)), "")
    return render(
        "unit.html",
        title=title,
        folder=folder,
        unit=unit,
        docs=docs,
        yanked=yanked.reason(unit.name),
        serial=serial,
        commands=list(commands(unit)),
        base=names.BASE,
        source=names.SOURCE,
        verify=f"python -m ci verify {names.documented_url(names.BASE, unit.prefix)}{wheel}",
    )
