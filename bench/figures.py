"""The figures of Karakida & Osawa and of Huh, computed anew: numbers, verdicts on the paper's claims, and pictures.

    python -m bench.figures NAME... [--scale small|paper] [--device cpu|gpu] [--data NAME] [--out FOLDER]
        [--jobs K | --cluster ADDRESS]

FOLDER/NAME-SCALE.json has the settings, every number, the seconds that each part took and the verdicts,
FOLDER/NAME-SCALE.png the picture. The parts of a figure are kept in FOLDER/NAME-SCALE/parts/, so that an interrupted
run is taken up where it ended. Parts are computed one after the other, in K processes, or on a Dask cluster whose
workers were started in this checkout; each with one thread of BLAS unless OPENBLAS_NUM_THREADS is set, so that the
numbers are the same. The exit status is 1 if a claim fails, 2 if an argument is bad, 130 after Ctrl-C.
"""

import os

if __name__ == "__main__":  # before NumPy is there; processes that are started inherit it
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import argparse
import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import bench
import refngd
from refngd.cli.output import as_json, checked_count, one_line, progress, reserved, save, save_together, versions

from . import bands, huh_linear, huh_modes, huh_nonlinear, huh_theory, ko_kernels, ko_training
from .figure import Figure
from .parallel import LostError, executors, finished

MODULES = (huh_modes, huh_linear, huh_theory, huh_nonlinear, ko_training, ko_kernels, bands)
FIGURES: dict[str, Figure] = {name: figure for module in MODULES for name, figure in sorted(module.FIGURES.items())}


@dataclass(frozen=True)
class Run:
    """A figure to be made.

    inputs: the settings and all else that its numbers depend on.
    target: its files are target.json, target.png and those of the parts in target/parts; staging: see `reserved`.
    kept: for each part that is there {"numbers": .., "seconds": ..}.
    """

    name: str
    figure: Figure
    settings: dict
    inputs: dict
    target: Path
    staging: Path
    kept: dict[str, dict] = field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        return self.figure.parts(self.settings)

    @property
    def is_complete(self) -> bool:
        return all(part in self.kept for part in self.parts)


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)
    names = list(FIGURES if "all" in args.names else dict.fromkeys(args.names))
    held = True
    with ExitStack() as stack, one_line(parser, "bench.figures"):
        checked_count("--jobs", args.jobs, 1)
        if "" in (args.data, args.cluster):  # as from a shell variable that is not set
            raise ValueError(f"--{'data' if args.data == '' else 'cluster'} is empty; expected a value, or no option")
        if (args.data or "").endswith(":"):  # a variable again, and "mnist" without a folder would be fetched
            raise ValueError(f"--data is {args.data!r}; expected a folder after the colon")
        runs = {}
        for name in names:
            with one_line(parser, f"bench.figures: {name}"):
                runs[name] = _opened(stack, name, args)
        missing = [(name, part) for name, run in runs.items() for part in run.parts if part not in run.kept]
        for run in runs.values():
            if run.is_complete:
                held &= _made(parser, run)
        if missing:
            workers = stack.enter_context(executors(args.jobs, args.cluster))
            held &= _computed(parser, runs, missing, workers, args)
    parser.exit(0 if held else 1)


def _opened(stack: ExitStack, name: str, args: argparse.Namespace) -> Run:
    """The run of a figure, with the parts of an earlier one; its folder is reserved. Raises ValueError and OSError."""
    figure, scale, data, target = FIGURES[name], args.scale, args.data, args.out / f"{name}-{args.scale}"
    settings = figure.settings[scale]
    if "data" not in settings:
        if data and name in args.names:  # `all` gives them to those that take them
            raise ValueError(f"--data is {data!r}; expected none: {name} at the scale {scale!r} has data of its own")
        data = None
    settings = figure.available(settings, data)
    inputs = {"settings": settings, "data": data or settings.get("data"), "device": args.device}
    inputs |= _maker(args.device)
    staging = stack.enter_context(reserved(target / "parts", (_file(target, "json"), _file(target, "png"))))
    run = Run(name, figure, settings, inputs, target, staging)
    for part in run.parts:
        content = _kept(target / "parts" / f"{part}.json", inputs)
        if content:
            run.kept[part] = content
    return run


def _computed(parser, runs: dict[str, Run], missing: list[tuple[str, str]], workers, args) -> bool:
    """Compute the missing parts, make each figure as soon as it has all; whether all claims hold."""

    def call(task: tuple[str, str]) -> tuple:
        run, part = runs[task[0]], task[1]
        return timed, run.figure.compute, run.settings, part, args.device, run.inputs["data"]

    held, left = True, list(missing)
    try:
        for task, future in progress(finished(workers, missing, call), len(missing)):
            run, part = runs[task[0]], task[1]
            with one_line(parser, f"bench.figures: {run.name} ({part})"):
                run.kept[part] = _saved(run, part, future.result())
            left.remove(task)
            if run.is_complete:
                held &= _made(parser, run)
    except LostError as error:
        listed = ", ".join(f"{name} ({part})" for name, part in left[:5]) + ", .." * (len(left) > 5)
        raise LostError(
            f"{error}; {len(missing) - len(left)} parts are kept, the same command again computes the others: {listed}"
        ) from error
    return held


def timed(compute: Callable[..., dict], settings: dict, part: str, device: str, data: str | None) -> dict:
    """The numbers of a part, the seconds that it took, and what computed it: what a worker does."""
    start = perf_counter()
    numbers = json.loads(as_json(compute(settings, part, device, data)))
    return {"numbers": numbers, "seconds": perf_counter() - start, "by": _maker(device)}


def _maker(device: str) -> dict:
    """Versions and code: parts that others computed are computed anew."""
    return {"versions": versions(device), "code": _code()}


def _saved(run: Run, part: str, result: dict) -> dict:
    """Keep what a worker returned. Raises ValueError if it has other code or packages than this process."""
    for key, value in result["by"].items():
        if value != run.inputs[key]:
            raise ValueError(f"a worker has {key} {value}; expected those here, {run.inputs[key]}")
    content = {"numbers": result["numbers"], "seconds": round(result["seconds"], 3)}
    text = as_json({"run": run.inputs, "sha256": _sha256(content), **content})
    save(run.target / "parts" / f"{part}.json", run.staging, lambda draft: draft.write_text(text, encoding="utf-8"))
    return content


def _kept(path: Path, inputs: dict) -> dict | None:
    """The numbers of a part and its seconds, from its file, if that is whole and of the same run."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        content = {key: kept[key] for key in ("numbers", "seconds")}
        if kept["run"] == json.loads(as_json(inputs)) and kept["sha256"] == _sha256(content):
            return content
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged, or none yet
        pass
    return None


def _made(parser: argparse.ArgumentParser, run: Run) -> bool:
    with one_line(parser, f"bench.figures: {run.name}"):
        return _write(run)


def _write(run: Run) -> bool:
    """Print the verdicts of a figure whose parts are there, write and draw it; whether all claims hold."""
    results = {part: run.kept[part]["numbers"] for part in run.parts}
    verdicts = [(claim, bool(holds)) for claim, holds in run.figure.verdicts(run.settings, results)]
    scale = run.target.name.removeprefix(f"{run.name}-")
    content = {"figure": run.name, "scale": scale, "caption": run.figure.caption, **run.inputs, "results": results}
    content["seconds"] = {part: run.kept[part]["seconds"] for part in run.parts}
    content["verdicts"] = [{"claim": claim, "holds": holds} for claim, holds in verdicts]
    try:
        print(f"{run.name}, {scale}: {run.figure.caption}")
        lines = [f"left out: {line}" for line in run.settings.get("left out", [])]
        lines += [f"{'holds' if holds else 'FAILS'}: {claim}" for claim, holds in verdicts]
        print("\n".join(lines), flush=True)
    finally:
        drawings = {_file(run.target, "png"): partial(run.figure.draw, run.settings, results)}
        written = save_together(_file(run.target, "json"), as_json(content), drawings, run.staging)
    took = sum(content["seconds"].values())
    print(f"written to {run.target.parent}: {written}; its parts took {took:.0f} s", flush=True)
    return all(holds for _, holds in verdicts)


def _file(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.name}.{suffix}")


def _sha256(content: dict) -> str:
    return hashlib.sha256(as_json(content).encode()).hexdigest()


def _code() -> str:
    """A hash of all modules here and of the package: parts that other code computed are computed anew."""
    files = sorted(path for module in (bench, refngd) for path in Path(module.__path__[0]).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.figures", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    names = [*FIGURES, "all"]
    parser.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--scale", choices=("small", "paper"), default="small", help="small (default) or paper")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="cpu (default) or gpu")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="instead of the figure's own: mnist-sample, digits, gaussian, mnist; mnist:FOLDER with its files",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=1, metavar="K", help="compute parts in K processes (1)")
    where.add_argument("--cluster", metavar="ADDRESS", help="compute parts on the Dask cluster with this scheduler")
    parser.add_argument("--out", type=Path, default=Path("figures-out"), metavar="FOLDER", help="(figures-out)")
    return parser


if __name__ == "__main__":
    main()
