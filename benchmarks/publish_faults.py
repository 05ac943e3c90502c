"""Which faults does a publication survive? All of them: every call × position × kind × bucket.

Run from the repository: ``python -m benchmarks.publish_faults [--part I/N]``. It writes
``publish_faults.json`` in this folder and prints the table. The S3 half takes tens of minutes;
parts can be run on several machines, or one after another, and are merged into one file.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

from ci import matrix
from ci.store.s3 import make_client
from tests.ci.support.experiment import Experiment, prepare
from tests.ci.support.labs import FolderLab, S3Lab, memory_folder
from tests.ci.support.s3 import endpoint
from tests.ci.support.wheels import Factory

RESULT = Path(__file__).with_suffix(".json")


def measure(experiment: Experiment, bucket: str, part: int, parts: int) -> Counter[str]:
    """bucket | method | position | kind | outcome → number of calls."""
    found: Counter[str] = Counter()
    for number, fault in enumerate(experiment.faults()):
        if number % parts == part:
            method = experiment.calls[fault.call][0]
            outcome = experiment.run(fault)
            found[" | ".join((bucket, method, fault.position, fault.kind, outcome))] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="1/1", help="I/N: the I-th of N parts")
    part, parts = (int(number) for number in parser.parse_args().part.split("/"))
    os.environ.update(
        AWS_ACCESS_KEY_ID="AKIATESTS",
        AWS_SECRET_ACCESS_KEY="not-to-be-shown",
        AWS_DEFAULT_REGION="us-west-2",
    )
    with tempfile.TemporaryDirectory() as scratch, memory_folder(Path(scratch)) as memory:
        factory = Factory(Path(scratch) / "wheels", matrix.load().of_commit())
        found = measure(prepare(FolderLab(memory), factory), "folder", part - 1, parts)
        with endpoint() as running:
            os.environ["AWS_ENDPOINT_URL"] = running.url
            lab = S3Lab(running, make_client())
            found += measure(prepare(lab, factory), "s3", part - 1, parts)
    if RESULT.exists() and parts > 1:
        found += Counter(json.loads(RESULT.read_text())["outcomes"])
    RESULT.write_text(json.dumps({"outcomes": dict(sorted(found.items()))}, indent=1) + "\n")
    for line, count in sorted(found.items()):
        print(f"{count:5}  {line}")


if __name__ == "__main__":
    main()
