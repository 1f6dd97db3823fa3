"""Which of the planted bugs each conformance vector catches.

    python -m bench.flags          writes data/oracle/bugs.json, and `python -m data.oracle --texts` the vectors with it
    python -m bench.flags --list   prints, instead, how many cases catch each bug, and the cases that catch none
    .. [--jobs K]                  in K processes

A case catches a bug if the definitions with that bug fail it, in float64. Only those bugs are tried that change a
function which the case calls.
"""

import argparse
import ast
import inspect
import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from refngd.conformance import vectors
from refngd.conformance.adapters import definitions
from refngd.conformance.bugs import BUGS, planted
from refngd.conformance.compare import FAILED, check

from .parallel import executors

UNSURE = {("direction-277", "cut_off_none")}  # what rounding leaves of its zero, on some processors nothing
PATH = Path(__file__).parent.parent / "data" / "oracle" / "bugs.json"


def catches(name: str, case: vectors.Case) -> bool:
    """Whether the definitions with the bug `name` fail the case."""
    run = planted(name)
    with np.errstate(all="ignore"):
        return check(case, lambda case, dtype: run(*case.arguments(dtype))).status == FAILED


def called(case: vectors.Case) -> set[str]:
    """The functions that the definitions, and their adapter, call for a case."""
    codes = set()
    sys.setprofile(lambda frame, event, arg: codes.add(frame.f_code) if event == "call" else None)
    try:
        definitions.run(*case.arguments(float))
    finally:
        sys.setprofile(None)
    files = {definitions.__file__, definitions.d.__file__}
    return {code.co_qualname.partition(".<locals>")[0] for code in codes if code.co_filename in files}


@cache
def parts() -> list[tuple[str, str]]:
    """The name and the text of every function of the definitions and of their adapter; "run" for all other texts."""
    found = []
    for module in (definitions, definitions.d):
        lines = inspect.getsource(module).splitlines()
        for node in ast.parse("\n".join(lines)).body:
            name = node.name if isinstance(node, ast.FunctionDef) else "run"
            found.append((name, "\n".join(lines[node.lineno - 1 : node.end_lineno])))
    return found


@cache
def places() -> dict[str, set[str]]:
    """The functions in which each bug changes something; of a change elsewhere "run", which every case calls."""
    return {
        name: {function for function, text in parts() if any(old in text for old, _ in bug.changes)}
        for name, bug in BUGS.items()
    }


def caught(case: vectors.Case) -> list[str]:
    """The bugs that a case catches, on any processor."""
    calls = called(case)
    tried = [name for name in BUGS if places()[name] & calls and (case.id, name) not in UNSURE]
    return [name for name in tried if catches(name, case)]


def flags(cases: list[vectors.Case], jobs: int) -> dict[str, list[str]]:
    """Of every case the bugs that it catches; first those that the fewest cases of its operation catch."""
    with executors(jobs, None) as workers:
        found = list(zip(cases, workers.executor.map(caught, cases), strict=True))
    counts = Counter((case.operation, name) for case, names in found for name in names)
    return {case.id: sorted(own, key=lambda name: (counts[case.operation, name], name)) for case, own in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print counts, and write nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="K", help="in K processes")
    args = parser.parse_args()
    cases = [c for c in vectors.read()[0] if c.error is None and c.operation in definitions.OPERATIONS]
    found = flags(cases, args.jobs)
    if args.list:
        counts = Counter(name for names in found.values() for name in names)
        print(*(f"{counts[name]:5} {name}: {BUGS[name].words}" for name in BUGS), sep="\n")
        print("cases that catch none:", *(id for id, names in found.items() if not names))
        return
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    words = ",\n".join(f"  {json.dumps(name)}: {json.dumps(bug.words)}" for name, bug in BUGS.items())
    PATH.write_text(f'{{\n "bugs": {{\n{words}\n }},\n "flags": {{\n{lines}\n }}\n}}\n', "utf-8", newline="\n")


if __name__ == "__main__":
    main()
