"""The figure of `bench/bands.py` at a tiny scale; its verdicts can fail."""

import copy
import json

import numpy as np
import pytest

from bench import bands
from refngd.cli.output import jsonable

FIGURE = bands.FIGURES["bands"]
TINY = FIGURE.settings["small"] | {"N": 4, "N_test": 8, "width": 40, "seeds": 3, "t": 2}


@pytest.fixture(scope="module")
def results():
    made = {part: FIGURE.compute(TINY, part, "cpu", None) for part in FIGURE.parts(TINY)}
    return json.loads(json.dumps(jsonable(made)))


def test_figure_runs_from_its_parts_to_its_picture(results, tmp_path):
    verdicts = FIGURE.verdicts(TINY, results)
    assert len({claim for claim, _ in verdicts}) == len(bands.METHODS) + 1
    FIGURE.draw(TINY, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert verdicts[-1][1]  # of infinite width, so it holds at this scale, too


def test_inputs_have_unit_norm_and_are_independent():
    train, test = bands._angles(TINY)
    x = bands.curve(np.concatenate([train, test]))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-14)
    assert np.linalg.matrix_rank(x) == 12


def scattered(results):
    """Networks that scatter as they should, of every method."""
    rng, made = np.random.default_rng(0), copy.deepcopy(results)
    for r in made.values():
        r["f"] = (np.array(r["mean"]) + rng.standard_normal((60, 8)) * np.array(r["deviation"])).tolist()
    return made


@pytest.mark.parametrize("claim", range(len(bands.METHODS) + 1))
def test_each_claim_fails_where_a_method_contradicts_it(results, claim):
    good = scattered(results)
    assert all(holds for _, holds in FIGURE.verdicts(TINY, good))
    if claim < len(bands.METHODS):
        r = good[list(bands.METHODS)[claim]]
        r["f"] = (np.array(r["mean"]) + 2 * (np.array(r["f"]) - r["mean"])).tolist()
    else:
        good["block-diagonal"]["limit"] = good["exact"]["limit"]
    assert [k for k, (_, holds) in enumerate(FIGURE.verdicts(TINY, good)) if not holds] == [claim]
