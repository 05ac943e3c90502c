"""The main job: builds the current commit, up to wheels installed by the documented URLs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ci import git, interpreters, keys, serve, trial
from ci.audit import AuditReport, audit_all
from ci.builder import build
from ci.builder.reused import reuse_of
from ci.errors import CiError
from ci.git import Commit
from ci.matrix import Matrix
from ci.publish import begin, check_variants, fail, publish
from ci.publish.signed import Signer
from ci.stages import Stages
from ci.store import Store, open_store
from ci.trial import Offer, Outcome, Status, Trial, TrialError
from ci.versions import SHA_DIGITS
from ci.wheel.reader import WheelFile, read

WHEELHOUSE = "wheelhouse"


def run(
    repo: Path, matrix: Matrix, bucket: str, *, allow_dirty: bool, console: Console
) -> tuple[Outcome, ...]:
    """Builds, audits, publishes, serves and installs the current commit of `repo`.

    matrix: the variants to build (`Matrix.of_commit`).
    bucket: a folder, or ``s3://name``.

    Returns the outcome of every planned installation. Raises the CiError of the first stage that
    fails; what is published by then is complete or not listed, and the same call continues from
    there.
    """
    stages = Stages(console)
    key = keys.load_key(None, variable=keys.OF_INDEX)
    signer = Signer(key.private) if key else None
    commit = git.read(repo, allow_dirty=allow_dirty)
    store = open_store(bucket)
    check_variants(store, commit, matrix)
    with announced(store, commit):
        with stages.stage("build"):
            # Native files with unchanged inputs are reused from an earlier commit in the bucket.
            reuse = reuse_of(store)
            variants = [cuda.variant for cuda in matrix.cudas]
            paths = build(
                repo,
                repo / WHEELHOUSE,
                commit=commit,
                variants=variants,
                reuse=reuse,
                console=console,
            )
            wheels = [read(path) for path in paths]
        with stages.stage("audit"):
            for report in audit_all(paths, matrix, repo):
                show(report, commit, console)
    if commit.dirty:
        console.print("not published: these wheels contain uncommitted changes")
        return ()
    with stages.stage("publish"):
        publish(
            store,
            wheels,
            commit,
            matrix,
            reused_from=reuse.used,
            signer=signer,
            report=console.print,
        )
    with stages.stage("install"), serve.running(store) as base:
        outcomes = try_installs(matrix, base, commit.sha, wheels, console)
        check_tried(outcomes)
    console.print(results(outcomes))
    console.print(f"[bold]time[/]: {stages.summary()}")
    to_copy = commands(bucket, [outcome.trial.offer for outcome in outcomes])
    console.print(to_copy, markup=False, highlight=False, soft_wrap=True)
    return outcomes


def show(report: AuditReport, commit: Commit, console: Console) -> None:
    """Prints the report of a documented wheel in full, and a line for one with the same members."""
    if commit.sha[:SHA_DIGITS] in report.wheel.version:
        line = f"{report.wheel.path.name}: the same, {report.wheel.size:,} bytes"
        console.print(line, soft_wrap=True)
    else:
        console.print(report.table())


@contextmanager
def announced(store: Store, commit: Commit) -> Iterator[None]:
    """Records in the bucket that the commit is being built, and the reason if that fails.

    This also finds out before a build of minutes, not after it, that a bucket cannot be written.
    """
    if commit.dirty:  # it will not be published
        yield
        return
    begin(store, commit)
    try:
        yield
    except CiError as error:
        fail(store, commit, error.what)
        raise


def try_installs(
    matrix: Matrix, base: str, commit: str, wheels: Sequence[WheelFile], console: Console
) -> tuple[Outcome, ...]:
    """Runs the documented commands in a fresh environment per URL and interpreter."""
    offered = trial.offers(matrix, base, commit, wheels)
    trials = trial.trials(matrix, interpreters.find(matrix.trial_pythons), offered)
    columns = SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("installing", total=len(trials))

        def report(outcome: Outcome) -> None:
            progress.advance(task)
            if not console.is_terminal or outcome.status is Status.FAILED:
                console.print(_line(outcome), markup=False, highlight=False, soft_wrap=True)

        return trial.run(trials, matrix, report)


def check_tried(outcomes: Sequence[Outcome]) -> None:
    """Raises TrialError if no installation was tried, since then none could fail."""
    if all(outcome.status is Status.NOT_TESTED for outcome in outcomes):
        pythons = sorted({outcome.trial.python for outcome in outcomes})
        raise TrialError(
            "no wheel was installed",
            means=f"this machine has none of the Pythons for trials: {', '.join(pythons)}",
            do="install one, as with `uv python install 3.12`",
        )


def _line(outcome: Outcome) -> str:
    tried = outcome.trial
    return f"python {tried.python}, {tried.offer.title}: {outcome.status.value}: {outcome.detail}"


def results(outcomes: Sequence[Outcome]) -> Table:
    """One row per interpreter and URL."""
    table = Table("Python", "URL", "dependencies", "size", "pip install", "result")
    for outcome in outcomes:
        tried = outcome.trial
        table.add_row(
            tried.python,
            tried.offer.title,
            _dependencies(tried),
            f"{tried.offer.wheel.size / 1e6:.2f} MB",
            f"{outcome.seconds:.1f} s" if outcome.seconds else "–",
            _result(outcome),
        )
    return table


def _dependencies(tried: Trial) -> str:
    return "with torch" if tried.with_dependencies else "--no-deps"


def _result(outcome: Outcome) -> str:
    """One line: a failure was printed in full when it occurred."""
    status = outcome.status.value
    return f"{status}: {outcome.detail}" if outcome.status is Status.NOT_TESTED else status


def commands(bucket: str, offered: Sequence[Offer]) -> str:
    """The next commands to type: serve the bucket, install from it."""
    serve_at = "http://127.0.0.1:8000"
    paths = dict.fromkeys(offer.url.split("/", 3)[3] for offer in offered)
    return "\n".join(
        [
            "To install by hand, serve the bucket and run one of these:",
            f"  .venv/bin/python -m ci serve --bucket {bucket} --port 8000",
            *(f"  pip install {serve_at}/{path}" for path in paths),
        ]
    )
