"""The pytest side: options, a verdict as the outcome of a test, the closing summary and the report.

A verdict travels in the report's `user_properties`: so it reaches JUnit files, and the main process from others.
"""

import json
import math
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from . import compare
from .compare import ACCURATE, CONFORMANT, FAILED, NOT_TESTABLE, UNSUPPORTED, Verdict
from .implementations import Adapter, Results
from .suspects import explain
from .vectors import Broken, Case, read

KNOWN_FAILURE = "known failure"
COLUMNS = (ACCURATE, CONFORMANT, FAILED, KNOWN_FAILURE, UNSUPPORTED, NOT_TESTABLE)
OUTCOMES = {  # of a test; the others pass
    FAILED: partial(pytest.fail, pytrace=False),
    KNOWN_FAILURE: pytest.xfail,
    UNSUPPORTED: pytest.skip,
    NOT_TESTABLE: pytest.skip,
}
PROPERTY = "refngd"


def pytest_addoption(parser):
    group = parser.getgroup("refngd", "conformance with refngd's vectors")
    group.addoption("--implementation", metavar="MODULE[:FUNCTION]", help="the function under test (default: run)")
    group.addoption("--results", metavar="DIR", help="the folder with the results under test, <case id>.json")
    group.addoption("--dtype", choices=("float32", "float64"), default="float64", help="of inputs and outputs")
    group.addoption("--operations", nargs="+", metavar="OP", help="only these operations")
    group.addoption("--known-failures", metavar="FILE", help="lines `case-id  reason`; these cases must fail")
    group.addoption("--report", metavar="FILE", help="write all verdicts as JSON")


@dataclass(eq=False)  # pytest hashes its plugins
class Suite:
    """The cases, and what they are run against. rows: what the report says of every case that has run.

    It is a pytest plugin of its own: the hooks that need no more than the rows are its methods.
    """

    implementation: Adapter | Results
    dtype: type
    selected: list[Case | Broken]
    known: dict[str, str]
    report: str | None
    rows: list[dict] = field(default_factory=list)

    def run(self, case: Case | Broken, node: pytest.Item) -> None:
        """The outcome of one test."""
        verdict = self._verdict(case)
        lines, suspects = explain(case, verdict.outputs, self.dtype) if verdict.outputs else ([], [])
        status, message = verdict.status, verdict.message
        if status == FAILED and isinstance(case, Case):
            message = "\n  ".join([f"{case.id}: {message}", *lines, _about(case)])
        known = self.known.get(case.id)
        if known and status == FAILED:
            status, message = KNOWN_FAILURE, f"{known}: {message}"
        elif known and status in (ACCURATE, CONFORMANT):
            status, message = FAILED, f"{case.id} is {status}, but listed as a known failure ({known}): take it off"
        error = None if verdict.error == math.inf else verdict.error  # JSON has no infinity
        row = dict(id=case.id, operation=case.operation, status=status, error=error, digits=verdict.digits)
        node.user_properties.append((PROPERTY, json.dumps({**row, "message": message, "suspects": suspects})))
        if status in OUTCOMES:
            OUTCOMES[status](message)

    def _verdict(self, case: Case | Broken) -> Verdict:
        if isinstance(case, Broken):
            return Verdict(FAILED, case.message)
        return compare.check(case, self.implementation, self.dtype)

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.rows += [json.loads(value) for name, value in report.user_properties if name == PROPERTY]

    def pytest_report_header(self):
        return f"refngd conformance: {self.implementation.name}, {np.dtype(self.dtype)}, {len(self.selected)} cases"

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section(f"conformance of {self.implementation.name}, {np.dtype(self.dtype)}")
        for line in [*table(self.rows), *common_suspects(self.rows)]:
            terminalreporter.write_line(line)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        yield  # the closing summary is printed here: if the report cannot be written, that is not lost
        if self.report and not hasattr(session.config, "workerinput"):  # the main process has the rows of all
            content = dict(
                implementation=self.implementation.name,
                dtype=str(np.dtype(self.dtype)),
                operations=totals(self.rows),
                cases=sorted(self.rows, key=lambda row: row["id"]),
            )
            try:
                _write_whole(Path(self.report), json.dumps(content, indent=1) + "\n")
            except OSError as error:
                pytest.exit(f"cannot write --report {self.report}: {error.strerror}", pytest.ExitCode.USAGE_ERROR)


def _write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe or a device as it is. Raises OSError."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with tempfile.TemporaryDirectory(prefix=".refngd-", dir=path.parent) as folder:
        draft = Path(folder, "draft")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)


def totals(rows: list[dict]) -> dict[str, dict]:
    """For every operation, and "all": how many cases have which status, and the worst number of correct digits."""
    result = {}
    for operation in [*sorted({row["operation"] for row in rows}), "all"]:
        own = [row for row in rows if operation in (row["operation"], "all")]
        digits = [row["digits"] for row in own if row["digits"] is not None]
        counts = {status: sum(row["status"] == status for row in own) for status in COLUMNS}
        result[operation] = {**counts, "worst digits": min(digits, default=None)}
    return result


def table(rows: list[dict]) -> list[str]:
    """The closing summary, a line each."""
    lines = [["operation", *COLUMNS, "worst digits"]]
    for operation, counts in totals(rows).items():
        *numbers, digits = counts.values()
        lines.append([operation, *(str(n or "-") for n in numbers), "-" if digits is None else f"{digits:.1f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True))])
        for name, *cells in lines
    ]


def common_suspects(rows: list[dict]) -> list[str]:
    """For every operation the suspects that explain most of its failures: of several for one case, the common one."""
    lines = []
    for operation in sorted({row["operation"] for row in rows}):
        failed = [row for row in rows if row["operation"] == operation and row["status"] == FAILED]
        counts = Counter(words for row in failed for words in row["suspects"])
        most = max(counts.values(), default=0)
        words = " or ".join(words for words, count in counts.items() if count == most)
        if words:
            lines.append(f"{operation}: {most} of {len(failed)} failures look like {words}")
    return lines


def _about(case: Case) -> str:
    return f"the case: {case.title} ({case.equation}); it catches: {case.catches}"


SUITE = pytest.StashKey[Suite]()


def pytest_configure(config):
    option = config.option
    if not (option.implementation or option.results):
        return  # `pytest_collection_modifyitems` complains, if it matters
    try:
        if option.implementation and option.results:
            raise ValueError("--implementation and --results exclude each other")
        config.stash[SUITE] = _suite(option)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(config.stash[SUITE], "refngd-conformance")


def _suite(option) -> Suite:
    cases, broken = read()
    operations = {case.operation for case in [*cases, *broken]}
    ids = None if broken else [case.id for case in cases]  # those of a broken file are not known
    wanted = set(option.operations or operations)
    if not wanted <= operations:
        raise ValueError(
            f"--operations {' '.join(sorted(wanted - operations))}; expected some of {' '.join(sorted(operations))}"
        )
    implementation = Adapter(option.implementation) if option.implementation else Results(option.results, ids)
    selected = [case for case in [*cases, *broken] if case.operation in wanted]
    known = _known_failures(option.known_failures, ids) if option.known_failures else {}
    if option.report:
        _require_writable(Path(option.report))
    return Suite(implementation, np.dtype(option.dtype).type, selected, known, option.report)


def _require_writable(report: Path) -> None:
    """Raises ValueError, before anything has run that could be lost."""
    try:
        if report.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if report.is_file() or not report.exists():
            tempfile.TemporaryFile(dir=report.parent).close()
    except OSError as error:
        raise ValueError(f"--report {report} cannot be written: {error.strerror}") from error


def _known_failures(path: str, ids: list[str] | None) -> dict[str, str]:
    """The reason of every case that a file lists; blank lines and those that start with # do not count."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"--known-failures: cannot read {path}: {error}") from error
    known = {}
    for number, line in enumerate(lines, 1):
        name, _, reason = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        is_case = ids is None or name in ids
        if not is_case or not reason.strip():
            expected = "a reason after the id" if is_case else "the id of a case"
            raise ValueError(f"--known-failures: line {number} of {path} is {line.strip()!r}; expected {expected}")
        known[name] = reason.strip()
    return known


def pytest_collection_modifyitems(config, items):
    tests = Path(__file__).with_name("test_vectors.py")
    if SUITE not in config.stash and any(item.path == tests for item in items):
        raise pytest.UsageError("no implementation is given: use --implementation MODULE[:FUNCTION] or --results DIR")
