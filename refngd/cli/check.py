"""`refngd check`: the conformance vectors against any implementation, and which bug a failure looks like."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

OPTIONS = {
    "--implementation": dict(metavar="MODULE[:FUNCTION]", help="the Python function under test (default: run)"),
    "--results": dict(metavar="DIR", help="the folder with the results under test, a file <case id>.json a case"),
    "--dtype": dict(choices=("float32", "float64"), default="float64", help="of inputs and outputs (float64)"),
    "--operations": dict(nargs="+", default=(), metavar="OP", help="only these operations"),
    "--known-failures": dict(metavar="FILE", help="lines `case-id  reason`: these cases may fail, and must"),
    "--report": dict(type=Path, metavar="FILE", help="write all verdicts as JSON"),
    "pytest": dict(nargs="*", metavar="-- PYTEST", help="pytest's options: -k direction, -x, -n 2, --junitxml FILE .."),
}


def run(args: argparse.Namespace) -> None:
    """Run the cases under pytest, then print a table of the operations and what the failures look like.

    Exits with status 1 where a case failed. Raises ValueError where none could be run, OSError for the report.
    """
    from ..conformance import plugin  # it imports pytest, which the other commands do not need

    if bool(args.implementation) == bool(args.results):
        raise ValueError("expected one of --implementation MODULE and --results DIR")
    options = args.implementation, args.results, args.dtype, tuple(args.operations), args.known_failures
    settings = plugin.Settings(*options)
    suite = plugin.Suite.of(settings)
    if args.report:
        _require_writable(args.report)
    status = plugin.run(suite, settings, args.pytest)
    if status not in (0, 1, 2) or (status == 0 and not suite.rows):  # as with --collect-only
        raise ValueError("no case was run; the lines above, pytest's, say why")
    count = f"{len(suite.rows)} of {len(suite.selected)} cases"
    print(f"\n{suite.implementation.name}, {np.dtype(suite.dtype)}, {count}:\n")
    print("\n".join([*plugin.table(suite.rows), *plugin.notes(suite)]), flush=True)
    if args.report:
        _write_whole(args.report, plugin.report(suite))
    if status == 2:
        raise KeyboardInterrupt
    sys.exit(status)


def _require_writable(report: Path) -> None:
    """Raises OSError, before anything has run that could be lost."""
    try:
        if report.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if report.is_file() or not report.exists():
            tempfile.TemporaryFile(dir=report.parent).close()
    except OSError as error:
        raise OSError(f"--report {report} cannot be written: {error.strerror}") from error


def _write_whole(report: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe or a device as it is. Raises OSError."""
    try:
        if report.exists() and not report.is_file():
            report.write_text(text, encoding="utf-8")
            return
        with tempfile.TemporaryDirectory(prefix=".refngd-", dir=report.parent) as folder:
            draft = Path(folder, "draft")
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, report)
    except OSError as error:
        raise OSError(f"--report {report} cannot be written: {error.strerror}") from error
