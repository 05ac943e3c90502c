"""What does it cost to publish one more commit after 100, 1 000 or 10 000 others?

Counts requests and bytes at the endpoint (moto's S3 on loopback, so seconds compare only with each
other), compared with s3pypi and dumb-pypi on the same files. dumb-pypi only writes files and does
not upload them: the changed files are counted, as an ideal sync would upload them.

    python -m benchmarks.publish_scale --s3pypi PATH --dumb-pypi PATH

A peer whose path is not given is not measured, and keeps its previous figures. Writes
``publish_scale.json`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ci import matrix
from ci.git import Commit
from ci.publish import publish
from ci.store import FolderStore
from ci.store.s3 import S3Store, make_client
from ci.wheel.reader import WheelFile
from tests.ci.support.history import seed, units
from tests.ci.support.labs import FolderLab, S3Lab, memory_folder
from tests.ci.support.s3 import Endpoint, endpoint
from tests.ci.support.wheels import Factory

RESULT = Path(__file__).with_suffix(".json")
HISTORIES = (100, 1_000, 10_000)


@contextmanager
def counted(running: Endpoint | None) -> Iterator[dict[str, Any]]:
    """Requests, bytes and seconds of a `with` block."""
    row: dict[str, Any] = {}
    before = (len(running.requests), running.sent, running.received) if running else (0, 0, 0)
    start = time.perf_counter()
    yield row
    row["seconds"] = round(time.perf_counter() - start, 3)
    if running:
        row["requests"] = len(running.requests) - before[0]
        row["bytes_sent"] = running.sent - before[1]
        row["bytes_received"] = running.received - before[2]


def ours_on_s3(running: Endpoint, factory: Factory, count: int) -> dict[str, Any]:
    client = make_client()
    lab = S3Lab(running, client)
    store = lab.copy(None)
    seed(lab.writer(store), store, factory, count)
    list(store.scan("whl/"))  # what the storage is was found out by the first publication
    commit, wheels = newest(factory, count)
    with counted(running) as row:
        publish(S3Store(store.bucket, client), wheels, commit, factory.matrix)
    lab.drop(store)
    return row


def ours_in_a_folder(folder: Path, factory: Factory, count: int) -> dict[str, Any]:
    lab = FolderLab(folder)
    store = lab.copy(None)

    def write(key: str, body: bytes) -> None:
        path = Path(store.name) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    seed(write, store, factory, count)
    commit, wheels = newest(factory, count)
    with counted(None) as row:
        publish(FolderStore(Path(store.name), durable=True), wheels, commit, factory.matrix)
    lab.drop(store)
    return row


def newest(factory: Factory, count: int) -> tuple[Commit, list[WheelFile]]:
    commit = factory.commit(count + 1)
    return commit, factory.wheels(commit)


def s3pypi(running: Endpoint, program: str, factory: Factory, count: int) -> dict[str, Any]:
    """s3pypi with the page that it would have written for this history."""
    client = make_client()
    bucket = f"s3pypi{count}"
    client.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    links = "<br>\n".join(
        f'    <a href="{file.name.replace("+", "%2B")}#sha256={file.sha256}">{file.name}</a>'
        for unit in units(factory, count)
        for file in unit.files
    )
    client.put_object(Bucket=bucket, Key="vllm/", Body=links.encode())
    _, wheels = newest(factory, count)
    command = [program, "upload", "--bucket", bucket, "--s3-endpoint-url", running.url]
    with counted(running) as row:
        subprocess.run([*command, *(str(wheel.path) for wheel in wheels)], check=True)
    return row


def dumb_pypi(program: str, factory: Factory, count: int, scratch: Path) -> dict[str, Any]:
    """dumb-pypi's partial rebuild, and the files that a sync would have to upload."""
    lines = [
        json.dumps(
            {
                "filename": file.name,
                "hash": f"sha256={file.sha256}",
                "requires_python": file.requires_python,
                "upload_timestamp": 1_780_000_000 + unit.number,
            }
        )
        for unit in units(factory, count + 1)
        for file in unit.files
    ]
    per_commit = len(lines) // (count + 1)
    before, after = scratch / f"{count}.before", scratch / f"{count}.after"
    before.write_text("\n".join(lines[per_commit:]) + "\n")
    after.write_text("\n".join(lines) + "\n")
    site = scratch / f"site{count}"
    command = [program, "--output-dir", str(site), "--packages-url", "../../pool/"]
    command += ["--no-generate-timestamp", "--package-list-json"]
    subprocess.run([*command, str(before)], check=True)
    old = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    with counted(None) as row:
        partial = ("--previous-package-list-json", str(before))
        subprocess.run([*command, str(after), *partial], check=True)
    new = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    changed = [path for path, body in new.items() if old.get(path) != body]
    row["requests"] = len(changed) + per_commit
    row["bytes_sent"] = sum(len(new[path]) for path in changed)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--s3pypi", help="path of the program")
    parser.add_argument("--dumb-pypi", help="path of the program")
    parser.add_argument("--histories", type=int, nargs="+", default=HISTORIES)
    args = parser.parse_args()
    os.environ.update(
        AWS_ACCESS_KEY_ID="AKIATESTS",
        AWS_SECRET_ACCESS_KEY="not-to-be-shown",
        AWS_DEFAULT_REGION="us-west-2",
    )
    rows: dict[str, dict[str, Any]] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        memory_folder(Path(scratch)) as memory,
        endpoint() as running,
    ):
        os.environ["AWS_ENDPOINT_URL"] = running.url
        factory = Factory(Path(scratch) / "wheels", matrix.load().of_commit())
        for count in args.histories:
            row = {
                "ours, S3": ours_on_s3(running, factory, count),
                "ours, folder": ours_in_a_folder(memory, factory, count),
            }
            if args.s3pypi:
                row["s3pypi"] = s3pypi(running, args.s3pypi, factory, count)
            if args.dumb_pypi:
                row["dumb-pypi"] = dumb_pypi(args.dumb_pypi, factory, count, Path(scratch))
            rows[str(count)] = {**rows.get(str(count), {}), **row}
            for name, figures in row.items():
                print(f"{count:6} commits  {name:13} {figures}", flush=True)
    RESULT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
