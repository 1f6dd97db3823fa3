"""bench/huh_modes.py: each figure at a tiny scale, from its parts to its picture, and every claim made to fail."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.huh_modes import FIGURES

TINY = {
    "huh-1": {"times": 41, "grid": 4, "starts": [[0.05, 0.02], [-1.6, 0.8], [1.9, 1.6]]},
    "huh-2": {"times": 1001, "s_star": [1.0, 3.0]},
    "huh-3": {"times": 41, "grid": 4, "starts": [[0.02, 0.005], [0.02, 0.01], [-1.5, -2.1]]},
}


@pytest.fixture(scope="module")
def computed():
    """Settings and numbers of each figure, the latter as JSON."""
    done = {}
    for name, figure in FIGURES.items():
        settings = figure.settings["small"] | TINY[name]
        results = {part: figure.compute(settings, part, "cpu", None) for part in figure.parts(settings)}
        done[name] = settings, json.dumps(results, allow_nan=False)
    return done


@pytest.mark.parametrize("name", FIGURES)
def test_figure_runs_from_its_parts_to_its_picture_and_its_claims_hold(name, computed, tmp_path):
    settings, text = computed[name]
    figure, results = replace(FIGURES[name], settings={"tiny": settings}), json.loads(text)
    verdicts = figure.verdicts(settings, results)
    assert len({claim for claim, _ in verdicts}) == len(verdicts) >= 6
    assert [claim for claim, holds in verdicts if not holds] == []
    assert all(type(claim) is str and type(holds) is bool and "nan" not in claim for claim, holds in verdicts)
    figure.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_settings_are_json(name):
    settings = FIGURES[name].settings
    assert set(settings) == {"small", "paper"}
    assert json.loads(json.dumps(settings)) == settings


def scaled(factor, part, key, index=()):
    """Multiply numbers of a part."""

    def spoil(results):
        values = np.array(results[part][key])
        values[index] *= factor
        results[part][key] = values.tolist()

    return spoil


def swapped(part, other, *keys):
    """Give a part the numbers of another."""

    def spoil(results):
        for key in keys:
            results[part][key] = results[other][key]

    return spoil


def turned(part):
    """Turn the velocities of a part by a right angle."""

    def spoil(results):
        results[part]["velocity"] = (np.array(results[part]["velocity"])[..., ::-1] * [1, -1]).tolist()

    return spoil


def of_fixed_ratio(results):
    """As if the times from one s0 were those from a fixed s0 / s_star."""
    results["2"]["half from one s0"] = results["2"]["half"]


LAST = (slice(None), -1, 0)
SPOILS = {
    "huh-1": {
        "all rules conserve": scaled(1 + 1e-9, "SGD", "path", (slice(None), 5, 0)),
        "all move orthogonally": turned("sqrt-NGD"),
        "SGD: the speed": scaled(1 + 1e-8, "SGD", "velocity"),
        "sqrt-NGD: the speed": scaled(1 + 1e-8, "sqrt-NGD", "velocity"),
        "NGD: the speed": swapped("NGD", "SGD", "velocity", "path"),
        "only the timing": scaled(1 + 1e-5, "NGD", "path", LAST),
        "NGD is not always": scaled(0.01, "NGD", "into the saddle", 2),
    },
    "huh-2": {
        "p = 0: s_bar is half": scaled(1 + 1e-8, "0", "half"),
        "p = 0.5: s_bar is half": scaled(1 + 1e-8, "0.5", "half"),
        "p = 1: s_bar is half": scaled(1.1, "1", "curve"),
        "p = 2: s_bar is half": scaled(1 + 1e-8, "2", "half"),
        "the scale s_star^-p": of_fixed_ratio,
        "p = 0: from zero": scaled(1.1, "0", "early", 1),
        "p = 0.5: from zero": scaled(1.1, "0.5", "early", 1),
        "p = 1: the escape": scaled(1.1, "1", "escape", 2),
        "p = 2: the escape": scaled(1.5, "2", "escape", 2),
        "long plateaus": swapped("1", "0", "curve", "t", "half"),
    },
    "huh-3": {
        "NGD-d crosses": swapped("NGD-d", "sqrt-NGD", "path"),
        "NGD-d conserves": swapped("NGD-d", "NGD", "path"),
        "block rules are not": swapped("NGD-d", "NGD", "path", "velocity"),
        "NGD-d is never slower": scaled(0.1, "NGD-d", "field"),
        "sqrt-NGD-d conserves": swapped("sqrt-NGD-d", "NGD-d", "path"),
        "from [0.02, 0.005]": swapped("NGD-d", "NGD", "path"),
        "NGD-d is sensitive": swapped("NGD-d", "NGD", "path"),
    },
}


@pytest.mark.parametrize(("name", "claim"), [(name, claim) for name, spoils in SPOILS.items() for claim in spoils])
def test_every_claim_fails_on_results_that_contradict_it(name, claim, computed):
    settings, text = computed[name]
    results = json.loads(text)
    SPOILS[name][claim](results)
    held = {words: holds for words, holds in FIGURES[name].verdicts(settings, results) if words.startswith(claim)}
    assert list(held.values()) == [False]


@pytest.mark.parametrize("name", FIGURES)
def test_every_claim_has_a_way_to_fail(name, computed):
    settings, text = computed[name]
    claims = [claim for claim, _ in FIGURES[name].verdicts(settings, json.loads(text))]
    assert all(sum(claim.startswith(start) for start in SPOILS[name]) == 1 for claim in claims)
    assert len(claims) == len(SPOILS[name])
