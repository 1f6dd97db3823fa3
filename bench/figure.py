"""What a figure of a paper is to `bench.figures`: independent parts, claims about their numbers, and a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A figure, at the sizes "small" (minutes on two cores) and "paper".

    caption: what it shows, in a sentence; settings: for each scale the numbers that define the run, as JSON takes them.
    parts(settings): names of the parts, each computed alone, so that an interrupted run is taken up where it ended.
    compute(settings, part, device, data): the numbers of a part, as JSON takes them; data is None, NAME or NAME:FOLDER.
    verdicts(settings, results): each claim of the paper in words, with the figures measured, and whether it holds;
    results has a dict for every part. draw(settings, results, path): the paper's axes, circles measured, lines theory.
    available(settings, data): the settings less what needs data that are not there, with lines that say so under
    "left out".
    """

    caption: str
    settings: dict[str, dict]
    parts: Callable[[dict], list[str]]
    compute: Callable[[dict, str, str, str | None], dict]
    verdicts: Callable[[dict, dict[str, dict]], list[tuple[str, bool]]]
    draw: Callable[[dict, dict[str, dict], Path], None]
    available: Callable[[dict, str | None], dict] = lambda settings, data: settings
