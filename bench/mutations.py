"""Which slips in the core go unnoticed: the share of its mutants that the conformance vectors, and the tests, notice.

    python -m bench.mutations [--vectors | --tests] [--sample N] [--seed S] [--only FILE ...] [--checks]
                              [--calls DIR] [--jobs K]
    python -m bench.mutations --ci

`bench.mutants` makes them from the syntax trees of all files of the core. Of each file N are drawn, and each is run in
a process of its own, a fork of this one in which the package is imported anew with the mutant in it: against the
vectors, until a case fails, and if none does against the tests, until one fails, but only those cases and tests that
call the function that is changed, as a run without mutants has shown. --vectors and --tests leave out the other of the
two. Raising, crashing, looping and taking too much memory are noticed as well. Prints a line a survivor, and a line a
file. --checks draws from what is refused or said, which is left out otherwise. With --calls the run without mutants,
which takes minutes for the tests, is made once, until you remove what is in that folder.

--ci runs the sample against the vectors, and all mutants of the functions in MUST_DIE; its exit status is 1 if more of
those survive than are listed as equivalent, or if of the sample, as far as vectors call it, less than FLOOR dies.
"""

import argparse
import os
import pickle
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.machinery import SourceFileLoader
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported: the forks share the cores

import hypothesis
import pytest
import scipy.special  # noqa: F401  what is imported here is there in every fork
from _pytest.assertion.rewrite import AssertionRewritingHook

from refngd.cli.output import progress
from refngd.conformance import compare, vectors

from .mutants import Mutant, mutants

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "refngd"
NOT_CORE = ("cli", "conformance", "datasets.py", "experiments.py", "__init__.py", "__main__.py")
TESTS = ("test_section_*.py", "test_invariances.py", "test_errors.py", "test_array_switch.py", "test_errata.py")
MUST_DIE = {  # functions, and how many of their mutants compute the same, or another dtype, and so may survive
    ("network.py", "Network._scale"): 0,
    ("jacobian.py", "push_layer"): 1,
    ("jacobian.py", "pull_layer"): 1,
    ("kernels.py", "hadamard"): 0,
    ("losses.py", "output_hessian"): 1,
    ("fisher/base.py", "Identity._direction"): 0,
    ("fisher/kfac.py", "KFAC._direction"): 1,
    ("fisher/kfac.py", "KFAC._coefficient"): 1,
    ("fisher/kfac.py", "_Factors.step"): 1,
    ("fisher/kfac.py", "_Factors.coefficient"): 0,
}
FLOOR = 0.6  # measured: 73 % of 107, less three standard deviations of such a sample
MEMORY = 8 * 2**30
SECONDS = 40.0  # of trials, at most, for a mutant
DIED = "the process"  # what notices a mutant that crashes, loops, or takes too much memory

Functions = set[tuple[str, str]]  # file and qualified name, such as ("network.py", "Network.init")


@dataclass
class Trials:
    """What may notice a mutant, cases or tests by name: how long each takes, and the functions that it calls.

    failing: of names in this order, with their seconds, the first that fails, or None.
    at_import: what is called before the first starts.
    """

    failing: Callable[[dict[str, float]], str | None]
    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, Functions] = field(default_factory=dict)
    at_import: Functions = field(default_factory=set)

    @contextmanager
    def recorded(self, name: str) -> Iterator[None]:
        """Adds a trial, unless it raises."""
        clear_caches()  # or only the first trial calls what is cached
        start, calls = time.process_time(), set()
        with recorded(calls):
            yield
        self.seconds[name], self.calls[name] = time.process_time() - start, calls

    def of(self, mutant: Mutant) -> dict[str, float]:
        """Those that call its function, or if that is called at import anything of its file, for SECONDS at most.

        The quickest come first, but only one set of parameters of a test before the next test has its turn.
        """
        wanted = {(mutant.file, mutant.function)}
        if not mutant.function or wanted <= self.at_import:
            wanted = {call for calls in self.calls.values() for call in calls if call[0] == mutant.file}
        turns, order, spent = Counter(), [], 0.0
        for name in sorted((name for name, calls in self.calls.items() if calls & wanted), key=self.seconds.get):
            test = name.partition("[")[0]
            order.append((turns[test], self.seconds[name], name))
            turns[test] += 1
        chosen = {}
        for _, seconds, name in sorted(order):
            spent += seconds
            if spent < SECONDS:
                chosen[name] = seconds
        return chosen

    def noticed(self, chosen: list[Mutant], jobs: int) -> dict[Mutant, str | None]:
        """What notices each of the mutants: a case, a test, or DIED; None if it survives."""
        return dict(progress(forked({mutant: partial(self._first_to_fail, mutant) for mutant in chosen}, jobs)))

    def _first_to_fail(self, mutant: Mutant) -> str | None:
        plant(mutant)
        return self.failing(self.of(mutant))


# -------------------------------------------------------------------------------------------------------------- forks


def forked(tasks: dict[Any, Callable[[], Any]], jobs: int = 1) -> Iterator[tuple[Any, Any]]:
    """Keys and results, in any order, of functions called in forks, `jobs` at a time; DIED if one does not end."""
    context, waiting, running = get_context("fork"), list(tasks.items())[::-1], {}
    while waiting or running:
        while waiting and len(running) < jobs:
            key, function = waiting.pop()
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_fork, args=(sender, function))
            process.start()
            sender.close()
            running[receiver] = key, process
        for receiver in connection.wait(list(running)):
            key, process = running.pop(receiver)
            try:
                result = receiver.recv()
            except EOFError:
                result = DIED
            process.join()
            yield key, result


def _fork(sender: connection.Connection, function: Callable[[], Any]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sender.send(function())


def allow(seconds: float) -> None:
    """End this process if its next step takes far longer than `seconds`, of its own time, however busy others are."""
    signal.setitimer(signal.ITIMER_PROF, 5 + 10 * seconds)


def plant(mutant: Mutant) -> None:
    """Import the package anew with the mutant; what was imported before stays as it is."""
    forget_package()
    path, original = str(PACKAGE / mutant.file), SourceFileLoader.get_code
    code = compile(mutant.apply(), path, "exec")
    SourceFileLoader.get_code = lambda self, name: code if self.path == path else original(self, name)
    # pytest reads the modules of packages with a plugin itself
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, AssertionRewritingHook)]
    import_module(".".join(["refngd", *Path(mutant.file).with_suffix("").parts]).removesuffix(".__init__"))


def forget_package() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "refngd"]:
        del sys.modules[name]


def clear_caches() -> None:
    """Of the functions of the package."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "refngd":
            for function in vars(module).values():
                getattr(function, "cache_clear", lambda: None)()


@contextmanager
def recorded(functions: Functions) -> Iterator[None]:
    """Adds the functions of the package that are called."""
    codes, folder = set(), f"{PACKAGE}/"
    sys.setprofile(lambda frame, event, arg: codes.add(frame.f_code) if event == "call" else None)
    try:
        yield
    finally:
        sys.setprofile(None)
        own = [code for code in codes if code.co_filename.startswith(folder)]
        functions |= {(c.co_filename.removeprefix(folder), c.co_qualname.partition(".<locals>")[0]) for c in own}


# -------------------------------------------------------------------------------------------------------- the vectors

CASES = {case.id: case for case in vectors.read()[0]}


def recorded_cases() -> Trials:
    """The cases, each for the adapter of the package and for that of its definitions, less those that fail."""
    forget_package()
    trials = Trials(failing_case)
    with recorded(trials.at_import):
        names = [f"{adapter} {case}" for adapter in adapters() for case in CASES]
    for name in names:
        with trials.recorded(name):
            failed = fails(name)
        if failed:
            del trials.calls[name]
    return trials


def failing_case(names: dict[str, float]) -> str | None:
    for name, seconds in names.items():
        allow(seconds)
        if fails(name):
            return name
    return None


def fails(name: str) -> bool:
    adapter, case = name.split()
    run = adapters()[adapter].run
    return compare.check(CASES[case], lambda case, dtype: run(*case.arguments(dtype))).status == compare.FAILED


def adapters() -> dict:
    from refngd.conformance.adapters import definitions, refngd_numpy

    return {"refngd": refngd_numpy, "definitions": definitions}


# ---------------------------------------------------------------------------------------------------------- the tests


def recorded_tests() -> Trials:
    """All tests of the core."""
    forget_package()
    recorder = Recorder()
    run_pytest([str(path) for pattern in TESTS for path in sorted((ROOT / "tests").glob(pattern))], recorder)
    return recorder.trials


def failing_test(names: dict[str, float]) -> str | None:
    chosen = Chosen(names)
    status = run_pytest(["-x", *sorted({str(ROOT / name.partition("::")[0]) for name in names})], chosen)
    return chosen.failed or (f"pytest, status {status}" if status else None)


def run_pytest(arguments: list[str], plugin: object) -> int:
    """Without what a run leaves to the next, and without the search for simpler examples."""
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", database=None, deadline=None, derandomize=True, phases=phases)
    hypothesis.settings.load_profile("mutants")
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "-c", str(ROOT / "setup.cfg"), "--tb=no"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of Hypothesis, which is imported already
    return int(pytest.main([*options, *arguments], plugins=[plugin]))


class Recorder:
    """The pytest plugin that records which functions each test calls."""

    def __init__(self) -> None:
        self.trials = Trials(failing_test)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session):
        with recorded(self.trials.at_import):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        with self.trials.recorded(item.nodeid):
            return (yield)


class Chosen:
    """The pytest plugin that runs the tests of these names, in this order, and remembers the first that fails."""

    def __init__(self, names: dict[str, float]) -> None:
        self.names, self.place, self.failed = names, {name: i for i, name in enumerate(names)}, None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )

    def pytest_runtest_setup(self, item):
        allow(self.names[item.nodeid])

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.failed:
            self.failed = report.nodeid


# ---------------------------------------------------------------------------------------------------------- the score


def core() -> dict[str, list[Mutant]]:
    """All mutants, by file."""
    paths = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    files = [path.as_posix() for path in paths if not {path.parts[0], path.name} & set(NOT_CORE)]
    return {file: mutants((PACKAGE / file).read_text(encoding="utf-8"), file) for file in files}


def drawn(all_mutants: dict[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """`count` mutants of each file, or all of them if there are no more."""
    chosen = []
    for file, own in all_mutants.items():
        order = random.Random(f"{seed} {file}").sample(own, len(own))
        chosen += sorted(order[:count], key=lambda mutant: mutant.line)
    return chosen


def recorded_in_fork(record: Callable[[], Trials], folder: Path | None) -> Trials:
    """The recording, from the folder if it is there."""
    path = folder and folder / f"{record.__name__}.pickle"
    if path and path.exists():
        return pickle.loads(path.read_bytes())
    ((_, trials),) = forked({"": record})
    if trials == DIED:
        raise RuntimeError(f"{record.__name__} does not end")
    if path:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(trials))
    return trials


def scored(chosen: list[Mutant], suites: dict[str, Trials], jobs: int) -> dict[Mutant, str | None]:
    """Which of the suites, in their order, is the first to notice each of the mutants; None for those that survive."""
    found = dict.fromkeys(chosen)
    for name, trials in suites.items():
        left = [mutant for mutant in chosen if not found[mutant]]
        found |= {mutant: name for mutant, failed in trials.noticed(left, jobs).items() if failed}
    return found


def is_called(mutant: Mutant, suites: dict[str, Trials]) -> bool:
    return any(trials.of(mutant) for trials in suites.values())


def table(found: dict[Mutant, str | None], suites: dict[str, Trials]) -> list[str]:
    """A line a file, and one for all: how many mutants there are, are called, each suite notices, and none does.

    The shares are those of all mutants, and of those that are called.
    """
    lines = [["file", "mutants", "called", *suites, "survive", "noticed", "of called"]]
    for file in [*dict.fromkeys(mutant.file for mutant in found), "all"]:
        own = {mutant: name for mutant, name in found.items() if file in (mutant.file, "all")}
        called, names = sum(is_called(mutant, suites) for mutant in own), list(own.values())
        died = len(names) - names.count(None)
        counts = [len(names), called, *map(names.count, [*suites, None])]
        lines.append([file, *map(str, counts), f"{died / len(names):.0%}", f"{died / max(called, 1):.0%}"])
    return ["  ".join([line[0].ljust(22), *(cell.rjust(9) for cell in line[1:])]) for line in lines]


def estimate(found: dict[Mutant, str | None], eligible: dict[str, list[Mutant]]) -> str:
    """What the sample says of all mutants of its files: the share of each file counts as often as it has mutants."""
    noticed = {file: [] for file in eligible}
    for mutant, name in found.items():
        noticed[mutant.file].append(bool(name))
    sizes = {file: len(eligible[file]) for file, own in noticed.items() if own}
    total = sum(sizes.values())
    share = sum(size * sum(noticed[file]) / len(noticed[file]) for file, size in sizes.items()) / total
    return f"so of all {total} mutants of these files {share:.1%} are noticed"


def survivors(found: dict[Mutant, str | None], suites: dict[str, Trials]) -> list[str]:
    """A line each; those in code that no case and no test calls say so."""
    alive = [mutant for mutant, name in found.items() if name is None]
    return [f"survives  {m}{'' if is_called(m, suites) else '  (never called)'}" for m in alive]


def passes(
    found: dict[Mutant, str | None], eligible: dict[str, list[Mutant]], suites: dict[str, Trials], jobs: int
) -> bool:
    """Whether enough of the sample that is called has died, and all of MUST_DIE has; says what has not."""
    called = [mutant for mutant in found if is_called(mutant, suites)]
    share = sum(bool(found[mutant]) for mutant in called) / len(called)
    print(f"{share:.1%} of the mutants that are called are noticed; expected {FLOOR:.0%} at least")
    certain = [m for own in eligible.values() for m in own if (m.file, m.function) in MUST_DIE]
    alive = [mutant for mutant, name in scored(certain, suites, jobs).items() if not name]
    print(f"{len(certain) - len(alive)} of the {len(certain)} mutants of the functions in MUST_DIE are noticed")
    good = share >= FLOOR
    for function, allowed in MUST_DIE.items():
        lines = [f"  {mutant}" for mutant in alive if (mutant.file, mutant.function) == function]
        if len(lines) > allowed or function not in {(m.file, m.function) for m in certain}:
            print(f"{function}: {len(lines)} mutants survive, expected {allowed}, or there is no such function", *lines)
            good = False
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--vectors", action="store_true", help="the vectors alone")
    which.add_argument("--tests", action="store_true", help="the tests alone")
    which.add_argument("--ci", action="store_true", help="a small sample, and all mutants of MUST_DIE, on the vectors")
    parser.add_argument("--sample", type=int, default=12, metavar="N", help="mutants of each file (default: 12)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw (default: 0)")
    parser.add_argument("--only", nargs="+", metavar="FILE", help="files of the package, such as fisher/kfac.py")
    parser.add_argument("--checks", action="store_true", help="mutants of what is refused or said")
    parser.add_argument("--calls", type=Path, metavar="DIR", help="keep there what calls what, for the next run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="K", help="processes (default: all cores)")
    args = parser.parse_args()
    everything = core()
    unknown = sorted(set(args.only or ()) - set(everything))
    if unknown:
        parser.error(f"no such file of the core: {' '.join(unknown)}; there are {' '.join(everything)}")
    eligible = {file: [m for m in own if m.is_check == args.checks] for file, own in everything.items()}
    chosen = drawn({file: eligible[file] for file in args.only or eligible}, args.sample, args.seed)

    recorders = {"vectors": recorded_cases, "tests": recorded_tests}
    wanted = ["vectors"] if args.vectors or args.ci else ["tests"] if args.tests else list(recorders)
    suites = {name: recorded_in_fork(recorders[name], args.calls) for name in wanted}
    found = scored(chosen, suites, args.jobs)
    print(*survivors(found, suites), *table(found, suites), estimate(found, eligible), sep="\n", flush=True)
    if args.ci:
        parser.exit(not passes(found, eligible, suites, args.jobs))


if __name__ == "__main__":
    main()
