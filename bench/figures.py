"""The figures of Karakida & Osawa and of Huh, computed anew: numbers, verdicts on the paper's claims, and pictures.

    python -m bench.figures NAME... [--scale small|paper] [--device cpu|gpu] [--data NAME] [--out FOLDER]

FOLDER/NAME-SCALE.json has the settings, every number and the verdicts, FOLDER/NAME-SCALE.png the picture. The parts
of a figure are kept in FOLDER/NAME-SCALE/parts/, so that an interrupted run is taken up where it ended. The exit
status is 1 if a claim fails, 2 if an argument is bad, 130 after Ctrl-C.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bench
import refngd
from refngd.cli.output import as_json, one_line, progress, reserved, save, save_together, versions

from . import bands, huh_linear, huh_modes, huh_nonlinear, huh_theory, ko_kernels, ko_training
from .figure import Figure

MODULES = (huh_modes, huh_linear, huh_theory, huh_nonlinear, ko_training, ko_kernels, bands)
FIGURES: dict[str, Figure] = {name: figure for module in MODULES for name, figure in sorted(module.FIGURES.items())}


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)
    held = True
    for name in FIGURES if "all" in args.names else dict.fromkeys(args.names):
        with one_line(parser, f"bench.figures: {name}"):
            held &= make(name, args.scale, args.device, args.data, args.out)
    parser.exit(0 if held else 1)


def make(name: str, scale: str, device: str, data: str | None, out: Path) -> bool:
    """Compute what is missing of a figure, print the verdicts, write and draw it; whether all claims hold."""
    figure = FIGURES[name]
    settings, target = figure.settings[scale], out / f"{name}-{scale}"
    if data and "data" not in settings:
        raise ValueError(f"--data is {data!r}; expected none: {name} at the scale {scale!r} has data of its own")
    run = {"settings": settings, "data": data or settings.get("data"), "device": device}
    run |= {"versions": versions(), "code": _code()}
    record, picture = target.with_suffix(".json"), target.with_suffix(".png")
    with reserved(target / "parts", (record, picture)) as staging:
        results = {}
        for part in progress(figure.parts(settings)):
            compute = partial(figure.compute, settings, part, device, data)
            results[part] = _part(target / "parts" / f"{part}.json", run, compute, staging)
        verdicts = [(claim, bool(holds)) for claim, holds in figure.verdicts(settings, results)]
        content = {"figure": name, "scale": scale, "caption": figure.caption, **run, "results": results}
        content["verdicts"] = [{"claim": claim, "holds": holds} for claim, holds in verdicts]
        try:
            print(f"{name}, {scale}: {figure.caption}")
            print("\n".join(f"{'holds' if holds else 'FAILS'}: {claim}" for claim, holds in verdicts), flush=True)
        finally:
            drawings = {picture: partial(figure.draw, settings, results)}
            written = save_together(record, as_json(content), drawings, staging)
        print(f"written to {out}: {written}", flush=True)
    return all(holds for _, holds in verdicts)


def _part(path: Path, run: dict, compute: Callable[[], dict], staging: Path) -> dict:
    """The numbers of a part, as JSON has them: from its file if that is whole and of the same run, else computed."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if kept["run"] == json.loads(as_json(run)) and kept["sha256"] == _sha256(kept["numbers"]):
            return kept["numbers"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged, or none yet
        pass
    numbers = json.loads(as_json(compute()))
    text = as_json({"run": run, "sha256": _sha256(numbers), "numbers": numbers})
    save(path, staging, lambda draft: draft.write_text(text, encoding="utf-8"))
    return numbers


def _sha256(numbers: dict) -> str:
    return hashlib.sha256(as_json(numbers).encode()).hexdigest()


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
        help="instead of the figure's own: digits, gaussian, mnist; mnist:FOLDER with its files",
    )
    parser.add_argument("--out", type=Path, default=Path("figures-out"), metavar="FOLDER", help="(figures-out)")
    return parser


if __name__ == "__main__":
    main()
