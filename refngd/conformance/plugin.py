"""The pytest side of `refngd check`: a test a case, a verdict as its outcome, and the rows of the closing table.

`run` starts pytest with this module as a plugin. A verdict travels in the report's `user_properties`: so it reaches
JUnit files, and the main process from those of pytest-xdist, which make their own suite of the same settings.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from . import compare
from .bugs import BUGS
from .compare import ACCURATE, CONFORMANT, FAILED, NOT_TESTABLE, UNSUPPORTED, Verdict
from .implementations import Adapter, Results
from .suspects import MOST, explain, explain_form, explain_refusal
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
BUG_WORDS = {bug.words for bug in BUGS.values()}
MOST_LINES = 5  # on what the failures look like
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
        known = _known_failures(settings.known_failures, ids) if settings.known_failures is not None else {}
        return cls(implementation, np.dtype(settings.dtype).type, selected, known)

    def run(self, case: Case | Broken, node: pytest.Item) -> None:
        """The outcome of one test."""
        row = self.row(case)
        node.user_properties.append((PROPERTY, json.dumps(row)))
        if row["status"] in OUTCOMES:
            OUTCOMES[row["status"]](row["message"])

    def row(self, case: Case | Broken) -> dict:
        """What the report says of a case."""
        verdict = self._verdict(case)
        lines, suspects = _suspects(case, verdict, self.dtype)
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
        return {**row, "message": message, "suspects": suspects}

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
    """What comes after the table, a line each: what the failures look like, and what nobody looked at."""
    ignored = suite.implementation.ignored
    return common_suspects(suite.rows, suite.selected) + ([f"not looked at: {ignored}"] if ignored else [])


def common_suspects(rows: list[dict], cases: list[Case | Broken]) -> list[str]:
    """What the failures look like, a line for each that explains most of what the ones before it do not."""
    failed = [row for row in rows if row["status"] == FAILED]
    must_fail = {case.id for case in cases if isinstance(case, Case) and case.error}
    lines, rest = [], failed
    for suspects, own in explanations(rows, cases):
        lines.append(f"{_share(own, failed)} look like: {', or '.join(suspects)}")
        rest = [row for row in rest if row not in own]
    refusals = [row for row in rest if row["id"] in must_fail]
    if refusals:
        lines.append(f"{_share(refusals, failed)} are must-fail cases: bad input is to be refused by its name")
        rest = [row for row in rest if row not in refusals]
    return lines + ([f"{len(rest)} of {len(failed)} failures look like nothing common"] if rest else [])


def _share(own: list[dict], failed: list[dict]) -> str:
    operations = ", ".join(sorted({row["operation"] for row in own}))
    return f"{len(own)} of {len(failed)} failures ({operations})"


def explanations(rows: list[dict], cases: list[Case | Broken]) -> Iterator[tuple[list[str], list[dict]]]:
    """The suspects that explain most failures, and these; then the same of the rest, a few times.

    Among suspects that explain as many, those count that the fewest passed cases speak against, which they would have
    failed; these are equally good, but bugs, which could have been spoken against, come first.
    """
    flags = {case.id: case.flags for case in cases if isinstance(case, Case)}
    passed = [row["id"] for row in rows if row["status"] in (ACCURATE, CONFORMANT)]
    against = Counter(BUGS[name].words for id in passed for name in flags[id] if name in BUGS)
    rest = [row for row in rows if row["status"] == FAILED and row["suspects"]]
    for _ in range(MOST_LINES):
        if not rest:
            return
        counts = Counter(words for row in rest for words in row["suspects"])
        best = max((count, -against[words]) for words, count in counts.items())
        suspects = [words for words, count in counts.items() if (count, -against[words]) == best]
        suspects.sort(key=lambda words: words not in BUG_WORDS)
        yield suspects[:MOST], [row for row in rest if suspects[0] in row["suspects"]]
        rest = [row for row in rest if suspects[0] not in row["suspects"]]


def _suspects(case: Case | Broken, verdict: Verdict, dtype: type) -> tuple[list[str], list[str]]:
    """Lines on a failure, and its suspects in words."""
    if verdict.outputs and verdict.fits:
        return explain(case, verdict.outputs, dtype)
    suspects = explain_form(case, verdict.outputs, dtype) if verdict.outputs else []
    suspects += explain_refusal(case) if verdict.refused and isinstance(case, Case) else []
    return [f"looks like: {words}" for words in suspects], suspects


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
    os.environ.pop("PYTEST_ADDOPTS", None)  # it is for that project's tests, and could leave cases out
    own = ["-q", "-rN", "--assert=plain", "-c", os.devnull, f"--rootdir={TESTS.parent}", "-p", "no:cacheprovider"]
    own += ["-p", __name__, "--refngd-settings", json.dumps(asdict(settings)), *arguments, str(TESTS)]
    return int(pytest.main(own, plugins=[suite]))


def pytest_addoption(parser):
    parser.addoption("--refngd-settings", help="those of `refngd check`, which alone sets them")


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        settings = Settings(**json.loads(config.option.refngd_settings))
        config.pluginmanager.register(Suite.of(settings), "refngd-suite")
