"""How often `refngd check` names the mistake that a port has.

    python -m bench.suspects --program ./conformance     the mistakes of tests/adapters/cpp/mistakes.py, built by g++
    python -m bench.suspects --table                     the bugs of `refngd.conformance.bugs`, in the definitions
    .. [--only NAME ..] [--without-own]

A mistake is planted, all vectors are run, and the first of the closing lines of `refngd check` is read. Its first
suspect is right if it is the mistake that was planted, or one that gives the same outputs in every case that failed;
"among" means that the line has the right one as an equally good alternative. Prints a line a mistake that is not named
rightly, and the counts; the exit status is 1 if less than 90 % are, or any is named wrongly. --without-own takes the
mistake itself off the list of suspects, as if nobody had thought of it: then "wrongly" means that something else is
named for more than half of the failures, and the exit status is 0.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from refngd.conformance import plugin, suspects
from refngd.conformance.adapters import definitions
from refngd.conformance.bugs import BUGS, planted
from refngd.conformance.compare import FAILED
from refngd.conformance.implementations import Results
from refngd.datasets import shipped

ROOT = Path(__file__).parent.parent


def remembering(run: Callable) -> Callable:
    """The same function, which computes once what many mistakes are compared with."""
    known: dict = {}

    def wrapped(op: str, inputs: dict, attrs: dict) -> dict:
        key = op, repr(sorted(attrs.items())), *((name, a.tobytes()) for name, a in sorted(inputs.items()))
        if key not in known:
            try:
                known[key] = run(op, inputs, attrs)
            except Exception as error:
                known[key] = error
        if isinstance(known[key], Exception):
            raise known[key]
        return known[key]

    return wrapped


def cpp_mistakes() -> dict[str, tuple[str | None, list]]:
    path = ROOT / "tests" / "adapters" / "cpp" / "mistakes.py"
    spec = importlib.util.spec_from_file_location("mistakes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.mistakes()


def of_program(program: str, only: list[str]) -> Iterator[tuple[str, str, Callable]]:
    """Name, the words that are right as a regular expression, and the implementation, of each mistake in C++."""
    for name, (words, _) in cpp_mistakes().items():
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([program, str(shipped("vectors/v1")), folder, name], check=True)
            yield name, words or re.escape(BUGS[name].words), Results(folder, None)


def of_table(only: list[str]) -> Iterator[tuple[str, str, Callable]]:
    for name in only or BUGS:
        run = suspects.planted(name)
        yield name, re.escape(BUGS[name].words), lambda case, dtype, run=run: run(*case.arguments(dtype))


def rows(cases: list, implementation: Callable) -> list[dict]:
    """What the report of `refngd check` has of each case."""
    suite = plugin.Suite(implementation, np.float64, cases, {})
    return [suite.row(case) for case in cases]


def verdict(found: list[dict], cases: list, right: str, least: float = 0) -> tuple[str, str]:
    """How the mistake is named, and as what; `least` is the share of failures below which a line names nothing."""
    failed = [row for row in found if row["status"] == FAILED]
    if not failed:
        return "not caught", ""
    named = next(plugin.explanations(found, cases), None)
    if named is None or len(named[1]) < least * len(failed):
        return "unnamed", f"{len(failed)} failures"
    words = f"{len(named[1])} of {len(failed)} failures look like {', or '.join(named[0])}"
    matching = [bool(re.fullmatch(right, word)) for word in named[0]]
    same = any(re.fullmatch(right, word) for word in set.intersection(*(set(row["suspects"]) for row in named[1])))
    if matching[0]:
        return "rightly", words
    return ("among" if any(matching) or same else "wrongly"), words


def without(cases: list, name: str) -> list:
    return [replace(case, flags=tuple(flag for flag in case.flags if flag != name) or ("ascent",)) for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--program", help="the C++ template with its mistakes")
    parser.add_argument("--table", action="store_true", help="the bugs in the definitions")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--without-own", action="store_true", help="as if the mistake itself were on no list")
    args = parser.parse_args()
    if bool(args.program) == args.table:
        parser.error("expected one of --program and --table")
    warnings.simplefilter("ignore")
    with_bug = {name: remembering(planted(name)) for name in BUGS}
    suspects.planted = with_bug.__getitem__
    suspects.definitions = SimpleNamespace(run=remembering(definitions.run))
    cases = [case for case in plugin.read()[0] if args.program or not case.error]  # the definitions check nothing
    counts = Counter()
    for name, right, implementation in of_table(args.only) if args.table else of_program(args.program, args.only):
        own = without(cases, name) if args.without_own else cases
        status, words = verdict(rows(own, implementation), own, right, 0.5 if args.without_own else 0)
        counts[status] += 1
        if status != "rightly":
            print(f"{status} {name}: {words}", flush=True)
    total = sum(counts.values()) - counts["not caught"]
    print(f"{total} mistakes:", ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    sys.exit(not args.without_own and (counts["rightly"] < 0.9 * total or counts["wrongly"] > 0))


if __name__ == "__main__":
    main()
