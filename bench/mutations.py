"""Bugs planted in the package, a line each: the conformance vectors have to catch every one of them.

    python -m bench.mutations [--only WORD ...]

For each of mutations.toml the package is copied, the line changed, and the vectors run against the copy, in a process
of its own, until three cases fail. Prints a line for each, then the score; the exit status is 1 if a bug survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import refngd
from refngd.cli.output import progress

PACKAGE = Path(refngd.__file__).parent
RUN = """
from itertools import islice
from refngd.conformance import compare, vectors
from refngd.conformance.adapters.refngd_numpy import run
fails = lambda case: compare.check(case, lambda case, dtype: run(*case.arguments(dtype))).status == compare.FAILED
print(*islice((case.id for case in vectors.read()[0] if fails(case)), 3))
"""


@dataclass(frozen=True)
class Mutation:
    """In `file` of the package `old`, which stands there once, becomes `new`."""

    bug: str
    file: str
    old: str
    new: str


def mutations() -> list[Mutation]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return [Mutation(**row) for row in table["mutation"]]


def mutated(mutation: Mutation) -> str:
    """The text of the file with the bug. Raises ValueError if the line is not there once."""
    text = (PACKAGE / mutation.file).read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.bug}: {mutation.file} has {mutation.old!r} {text.count(mutation.old)} times")
    return text.replace(mutation.old, mutation.new)


def caught_by(mutation: Mutation) -> list[str]:
    """Ids of up to three cases that fail; none if the bug survives. Raises RuntimeError if the copy cannot be run."""
    with TemporaryDirectory() as folder:
        copy = Path(folder, "refngd")
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "oracle"))
        Path(folder, "data").symlink_to(PACKAGE.parent / "data")
        (copy / mutation.file).write_text(mutated(mutation), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", RUN]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise RuntimeError(f"{mutation.bug}: {done.stderr}")
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="bugs or files with one of these words")
    args = parser.parse_args()
    chosen = [m for m in mutations() if any(word in f"{m.bug} {m.file}" for word in args.only)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [*progress(pool.map(caught_by, chosen))]
    for mutation, failed in zip(chosen, results, strict=True):
        verdict = f"caught   {mutation.bug} ({mutation.file}): {', '.join(failed)}"
        print(verdict if failed else f"SURVIVES {mutation.bug} ({mutation.file})")
    score = sum(map(bool, results))
    print(f"{score} of {len(chosen)} bugs are caught")
    parser.exit(0 if score == len(chosen) else 1)


if __name__ == "__main__":
    main()
