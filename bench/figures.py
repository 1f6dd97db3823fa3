"""The figures of Karakida & Osawa and of Huh, computed anew: numbers, verdicts on the paper's claims, and pictures.

    python -m bench.figures NAME... [--scale small|paper] [--device cpu|gpu] [--data NAME] [--out FOLDER]

FOLDER/NAME-SCALE.json has the settings, every number and the verdicts, FOLDER/NAME-SCALE.png the picture. The parts
of a figure are kept in FOLDER/NAME-SCALE/parts/, so that an interrupted run is taken up where it ended. The exit
status is 1 if a claim fails, 2 if an argument is bad.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bench
import refngd
from refngd.cli.output import jsonable, progress, replace_file, versions

from . import huh_linear, huh_modes, huh_nonlinear, ko_kernels, ko_training
from .figure import Figure

MODULES = (huh_modes, huh_linear, huh_nonlinear, ko_training, ko_kernels)
FIGURES: dict[str, Figure] = {name: figure for module in MODULES for name, figure in sorted(module.FIGURES.items())}


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)
    names = FIGURES if "all" in args.names else dict.fromkeys(args.names)
    held = True
    try:
        for name in names:
            held &= make(name, args.scale, args.device, args.data, args.out)
    except (ValueError, ArithmeticError, MemoryError, OSError) as error:
        parser.exit(2, f"bench.figures: error: {name}: {error}\n")
    parser.exit(0 if held else 1)


def make(name: str, scale: str, device: str, data: str | None, out: Path) -> bool:
    """Compute what is missing of a figure, write and draw it, print the verdicts; whether all of them hold."""
    figure = FIGURES[name]
    settings, target = figure.settings[scale], out / f"{name}-{scale}"
    folder = target / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    if data and "data" not in settings:
        raise ValueError(f"--data is {data!r}; expected none: {name} at the scale {scale!r} has data of its own")
    run = {"settings": settings, "data": data or settings.get("data"), "device": device}
    run |= {"versions": versions(), "code": _code()}
    results = {}
    for part in progress(figure.parts(settings)):
        compute = partial(figure.compute, settings, part, device, data)
        results[part] = _part(folder / f"{part}.json", run, compute)
    verdicts = [(claim, bool(holds)) for claim, holds in figure.verdicts(settings, results)]
    record = {"figure": name, "scale": scale, "caption": figure.caption, **run, "results": results}
    record["verdicts"] = [{"claim": claim, "holds": holds} for claim, holds in verdicts]
    _write(target.with_suffix(".json"), record)
    print(f"{name}, {scale}: {figure.caption}")
    print("\n".join(f"{'holds' if holds else 'FAILS'}: {claim}" for claim, holds in verdicts))
    print(f"written: {target}.json, {_draw(figure, settings, results, target.with_suffix('.png'))}", flush=True)
    return all(holds for _, holds in verdicts)


def _part(path: Path, run: dict, compute: Callable[[], dict]) -> dict:
    """The numbers of a part, as JSON has them: from its file if that is of the same run, else computed and kept."""
    try:
        kept = json.loads(path.read_text())
        if kept["run"] == json.loads(_text(run)):
            return kept["numbers"]
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or no such file
        pass
    text = _write(path, {"run": run, "numbers": compute()})
    return json.loads(text)["numbers"]


def _draw(figure: Figure, settings: dict, results: dict, path: Path) -> str:
    try:
        replace_file(path, lambda temporary: figure.draw(settings, results, temporary))
    except ImportError as error:
        path.unlink(missing_ok=True)  # of another run
        return f"no picture: {error} (the extra refngd[plot])"
    return str(path)


def _code() -> str:
    """A hash of all modules here and of the package: parts that other code computed are computed anew."""
    files = sorted(path for module in (bench, refngd) for path in Path(module.__path__[0]).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _text(record: dict) -> str:
    return json.dumps(jsonable(record), indent=1, allow_nan=False)


def _write(path: Path, record: dict) -> str:
    text = _text(record)
    replace_file(path, lambda temporary: temporary.write_text(text))
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.figures", description=__doc__.splitlines()[0], allow_abbrev=False)
    names = [*FIGURES, "all"]
    parser.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--scale", choices=("small", "paper"), default="small", help="small (default) or paper")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="cpu (default) or gpu")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="instead of the figure's own: digits, gaussian, mnist; mnist:FOLDER with its files",
    )
    parser.add_argument("--out", type=Path, default=Path("figures-out"), metavar="FOLDER", help="(figures-out)")
    return parser


if __name__ == "__main__":
    main()
