"""The pytest side of `refngd check`: a test a case, a verdict as its outcome, and the rows of the closing table.

`run` starts pytest with this module as a plugin. A verdict travels in the report's `user_properties`: so it reaches
JUnit files, and the main process from those of pytest-xdist, which make their own suite of the same settings.
"""

import json
import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
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
TESTS = Path(__file__).with_name("test_vectors.py")


@dataclass(frozen=True)
class Settings:
    """The options of `refngd check`, as it documents them: exactly one of the first two is given."""

    implementation: str | None = None
    results: str | None = None
    dtype: str = "float64"
    operations: tuple[str, ...] = ()
    known_failures: str | None = None


@dataclass(eq=False)  # pytest hashes its plugins
class Suite:
    """The cases, and what they are run against. rows: what the report says of every case that has run.

    It is a pytest plugin: the hooks that need it are its methods.
    """

    implementation: Adapter | Results
    dtype: type
    selected: list[Case | Broken]
    known: dict[str, str]
    rows: list[dict] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings) -> "Suite":
        """Raises ValueError, naming the option, for settings that do not fit."""
        cases, broken = read()
        operations = {case.operation for case in [*cases, *broken]}
        ids = None if broken else [case.id for case in cases]  # those of a broken file are not known
        wanted = set(settings.operations or operations)
        if not wanted <= operations:
            raise ValueError(
                f"--operations {' '.join(sorted(wanted - operations))}; expected some of {' '.join(sorted(operations))}"
            )
        adapter = settings.implementation
        implementation = Adapter(adapter) if adapter else Results(settings.results, ids)
        selected = [case for case in [*cases, *broken] if case.operation in wanted]
        known = _known_failures(settings.known_failures, ids) if settings.known_failures else {}
        return cls(implementation, np.dtype(settings.dtype).type, selected, known)

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

    def pytest_configure(self, config):
        config.stash[SUITE] = self

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.rows += [json.loads(value) for name, value in report.user_properties if name == PROPERTY]


def report(suite: Suite) -> str:
    """All verdicts as JSON."""
    content = dict(
        implementation=suite.implementation.name,
        dtype=str(np.dtype(suite.dtype)),
        operations=totals(suite.rows),
        cases=sorted(suite.rows, key=lambda row: row["id"]),
    )
    return json.dumps(content, indent=1) + "\n"


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


def notes(suite: Suite) -> list[str]:
    """What comes after the table, a line each: the common suspects, and what nobody looked at."""
    ignored = suite.implementation.ignored
    return common_suspects(suite.rows) + ([f"not looked at: {ignored}"] if ignored else [])


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


SUITE = pytest.StashKey[Suite]()


def run(suite: Suite, settings: Settings, arguments: list[str]) -> int:
    """pytest's exit status. arguments: more of pytest's own, such as -k, -x, -n, --junitxml.

    Neither the configuration of the project around it nor a cache is read or written.
    """
    own = ["-q", "-rN", "--assert=plain", "-c", os.devnull, f"--rootdir={TESTS.parent}", "-p", "no:cacheprovider"]
    own += ["-p", __name__, "--refngd-settings", json.dumps(asdict(settings)), *arguments, str(TESTS)]
    return int(pytest.main(own, plugins=[suite]))


def pytest_addoption(parser):
    parser.addoption("--refngd-settings", help="those of `refngd check`, which alone sets them")


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        settings = Settings(**json.loads(config.option.refngd_settings))
        config.pluginmanager.register(Suite.of(settings), "refngd-suite")
