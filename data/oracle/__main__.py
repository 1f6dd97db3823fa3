"""Regenerate the vectors, or compare them with the files on disk."""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

from . import files
from .cases import ABOUT, cases
from .certify import certified


def text_of(case, folder=None):
    """The case as it stands in its file; with a folder, its numbers are those that the file there has, if it has it."""
    record = files.record(case, folder) if folder else None
    return files.case_text(case, record or certified(case))


def texts_of(group, folder=None):
    """The texts of cases by id."""
    return {case.id: text_of(case, folder) for case in group}


def generate(names, processes, folder=None):
    """(file name, text) of every operation, with progress on a terminal."""
    wanted = {name: list(cases(name)) for name in names}
    count, groups, texts = sum(map(len, wanted.values())), {}, {}
    for case in chain(*wanted.values()):  # of the same samples in one process, which remembers what it computed of them
        groups.setdefault((case.operation, str(case.inputs.get("x", case.id))), []).append(case)
    with ProcessPoolExecutor(processes) as pool:
        for found in pool.map(partial(texts_of, folder=folder), groups.values()):
            texts |= found
            if sys.stderr.isatty():
                print(f"\r{len(texts)}/{count} {next(iter(found)):40}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return {
        f"{name}.json": files.operation_text(name, ABOUT[name], [texts[case.id] for case in own])
        for name, own in wanted.items()
    }


def differences(old, new):
    """What differs, by case where it can be told."""
    if old == new:
        return []
    blocks = [{block.split('"', 4)[3]: block for block in text.split("\n  {\n")[1:]} for text in (old, new)]
    ids = sorted(name for name in {*blocks[0], *blocks[1]} if blocks[0].get(name) != blocks[1].get(name))
    return ids or ["the head of the file"]


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m data.oracle", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/vectors/v1"), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=sorted(ABOUT), metavar="OPERATION", help="these operations alone")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files on disk differ")
    parser.add_argument("--texts", action="store_true", help="write texts anew, and keep the numbers that are there")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    options = parser.parse_args(argv)
    texts = generate(options.only or sorted(ABOUT), options.processes, options.out if options.texts else None)
    if options.check:
        return check(options.out, texts)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (options.out / name).write_text(text, "utf-8", newline="\n")
    (options.out / "manifest.json").write_text(files.manifest_text(options.out), "utf-8", newline="\n")
    return 0


def check(folder, texts):
    """Compare, say what differs, and return the exit status."""
    found = []
    for name, text in texts.items():
        path = folder / name
        old = path.read_text("utf-8") if path.exists() else ""
        found += [f"{path}: {what}" for what in differences(old, text)]
    manifest = folder / "manifest.json"
    if not manifest.exists() or manifest.read_text("utf-8") != files.manifest_text(folder):
        found.append(f"{manifest}: not that of the files beside it")
    print("\n".join(found) if found else f"{len(texts)} files are reproduced byte for byte")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
