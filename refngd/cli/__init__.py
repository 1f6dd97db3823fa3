"""The command line, `refngd` or `python -m refngd`: a module a command."""

import argparse

from .. import __version__
from . import check, linear, run
from .output import one_line

COMMANDS = {
    "run": (
        run,
        "train a network by every approximation, each at its optimal learning rate, and print theory beside it",
    ),
    "linear": (
        linear,
        "train a deep linear network on a teacher's data by SGD, NGD, sqrt-NGD and their block-diagonal forms",
    ),
    "check": (check, "judge another implementation by certified cases, and name the bug that a failure looks like"),
}
ARGUMENTS = {"singular_values": "--teacher"}  # that have another name here than in Python


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with one line, and status 2 where an argument is bad, 130 where Ctrl-C came."""
    parser = _parser()
    args = parser.parse_args(argv)
    command, _ = COMMANDS[args.command]
    options = {option.lstrip("-").replace("-", "_"): option for option in command.OPTIONS} | ARGUMENTS
    with one_line(parser, f"refngd {args.command}", options):
        command.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="refngd", description="Natural gradient descent, theory beside training.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (command, summary) in COMMANDS.items():
        p = commands.add_parser(name, help=summary, allow_abbrev=False)
        for option, settings in command.OPTIONS.items():
            p.add_argument(option, **settings)
    return parser
