"""`python -m bench.figures`: what it computes, keeps, writes and says; and the figures themselves at a tiny size."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import figures, ko_training, law
from bench.figure import Figure
from refngd.cli.output import jsonable, reserved

ROOT = Path(__file__).parent.parent
computed = []


def fake(n=2, holds=True):
    def compute(settings, part, device, data):
        computed.append(part)
        if settings["fail"] == part:
            raise ValueError(f"no {part}")
        return {"value": settings["n"] * len(part), "none": math.inf}

    return Figure(
        caption="a fake",
        settings={"small": {"n": n, "fail": None, "data": "gaussian"}, "paper": {"n": 0, "fail": "bbb"}},
        parts=lambda settings: ["a", "bbb"],
        compute=compute,
        verdicts=lambda settings, results: [(f"the sum is {sum(r['value'] for r in results.values())}", holds)],
        draw=lambda settings, results, path: path.write_bytes(b"picture"),
    )


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    def run(figure, *arguments):
        computed.clear()
        monkeypatch.setattr(figures, "FIGURES", {"fake": figure})
        with pytest.raises(SystemExit) as exit:
            figures.main([*arguments, "--out", str(tmp_path)])
        return exit.value.code, capsys.readouterr()

    return run


def test_numbers_verdicts_and_picture_are_written(run, tmp_path):
    status, said = run(fake(), "all", "--data", "digits")
    assert (status, computed) == (0, ["a", "bbb"])
    assert "holds: the sum is 8" in said.out
    record = json.loads((tmp_path / "fake-small.json").read_text())
    assert record["settings"] == {"n": 2, "fail": None, "data": "gaussian"}
    assert record["results"] == {"a": {"value": 2, "none": None}, "bbb": {"value": 6, "none": None}}
    assert record["verdicts"] == [{"claim": "the sum is 8", "holds": True}]
    assert (record["data"], record["device"]) == ("digits", "cpu")
    assert {"refngd", "python", "numpy", "scipy"} == set(record["versions"])
    assert (tmp_path / "fake-small.png").read_bytes() == b"picture"


def test_parts_are_taken_up_again_only_if_they_are_of_the_same_run(run, tmp_path):
    run(fake(), "fake")
    assert run(fake(), "fake")[0] == 0
    assert computed == []
    (tmp_path / "fake-small" / "parts" / "a.json").write_text('{"run": ')  # as if cut off
    run(fake(), "fake")
    assert computed == ["a"]
    assert "the sum is 12" in run(fake(n=3), "fake")[1].out
    assert computed == ["a", "bbb"]
    run(fake(n=3), "fake", "--data", "digits")
    assert computed == ["a", "bbb"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: text.replace('"value": 2', '"value": 3'),
        lambda text: text.replace('"value": 2', '"val": 2'),
        lambda text: text.replace('"numbers": {', '"numbers": null, "other": {'),
    ],
    ids=["cut off", "nested", "null", "a number", "a name", "no numbers"],
)
def test_parts_that_are_damaged_are_computed_anew(run, tmp_path, damage):
    part = tmp_path / "fake-small" / "parts" / "a.json"
    run(fake(), "fake")
    whole = part.read_text()
    assert damage(whole) != whole
    part.write_text(damage(whole))
    assert "the sum is 8" in run(fake(), "fake")[1].out
    assert computed == ["a"]
    again, before = (json.loads(text) for text in (part.read_text(), whole))
    assert [again[key] for key in ("run", "numbers")] == [before[key] for key in ("run", "numbers")]


def test_parts_that_other_code_computed_are_computed_anew(run, monkeypatch):
    run(fake(), "fake")
    monkeypatch.setattr(figures, "_code", lambda: "another hash")
    run(fake(), "fake")
    assert computed == ["a", "bbb"]


def test_data_are_refused_where_a_figure_has_its_own(run):
    status, said = run(fake(), "fake", "--scale", "paper", "--data", "digits")
    assert (status, computed) == (2, [])
    assert "--data is 'digits'; expected none: fake at the scale 'paper' has data of its own" in said.err


def test_an_empty_folder_of_data_is_refused_before_anything_is_fetched(run):
    status, said = run(fake(), "fake", "--data", "mnist:")
    assert (status, computed) == (2, [])
    assert "--data is 'mnist:'; expected a folder after the colon" in said.err


@pytest.mark.parametrize("option", ["--data", "--cluster"])
def test_an_empty_option_is_not_taken_for_none(run, option):
    status, said = run(fake(), "fake", option, "")
    assert (status, computed) == (2, [])
    assert f"{option} is empty" in said.err


def test_all_gives_data_to_the_figures_that_take_them(run):
    status, said = run(fake(), "all", "--scale", "paper", "--data", "digits")
    assert (status, computed) == (2, ["a", "bbb"])
    assert said.err == "bench.figures: fake (bbb): error: no bbb\n"


def test_what_is_left_out_is_said(run, tmp_path):
    figure = replace(fake(), available=lambda settings, data: settings | {"n": 3, "left out": ["a panel: no data"]})
    status, said = run(figure, "fake")
    assert status == 0
    assert "\nleft out: a panel: no data\nholds: the sum is 12\n" in said.out
    assert json.loads((tmp_path / "fake-small.json").read_text())["settings"]["left out"] == ["a panel: no data"]


def test_the_seconds_of_each_part_are_recorded_and_kept(run, tmp_path):
    run(fake(), "fake")
    seconds = json.loads((tmp_path / "fake-small.json").read_text())["seconds"]
    assert list(seconds) == ["a", "bbb"]
    assert all(0 <= value < 10 for value in seconds.values())
    run(fake(), "fake")
    assert json.loads((tmp_path / "fake-small.json").read_text())["seconds"] == seconds


def test_a_run_that_is_interrupted_is_continued(run):
    status, said = run(fake(), "fake", "--scale", "paper")
    assert (status, computed) == (2, ["a", "bbb"])
    assert said.err == "bench.figures: fake (bbb): error: no bbb\n"
    run(fake(), "fake", "--scale", "paper")
    assert computed == ["bbb"]


def test_ctrl_c_says_one_line_and_what_was_finished_is_kept(run):
    def interrupted(*args):
        raise KeyboardInterrupt

    figure = fake()
    status, said = run(replace(figure, draw=interrupted), "fake")
    assert (status, said.err) == (130, "bench.figures: fake: interrupted\n")
    assert "the sum is 8" in said.out
    assert run(figure, "fake")[0] == 0
    assert computed == []


def test_a_figure_is_not_computed_twice_at_once_nor_where_it_cannot_be_written(run, tmp_path):
    with reserved(tmp_path / "fake-small" / "parts", []):
        status, said = run(fake(), "fake")
    assert (status, computed) == (2, [])
    assert "fake: error: another run is writing into" in said.err
    (tmp_path / "fake-small.png").mkdir()
    status, said = run(fake(), "fake")
    assert (status, computed) == (2, [])
    assert "fake-small.png is a folder; expected none, or a file to replace" in said.err


def test_without_docstrings_and_asserts(tmp_path):
    for module in ("figures", "speed", "kernels", "linear", "structure", "mutations"):
        command = [sys.executable, "-OO", "-m", f"bench.{module}", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_claim_that_fails_gives_exit_status_1(run):
    status, said = run(fake(holds=False), "fake")
    assert status == 1
    assert "FAILS: the sum is 8" in said.out


@pytest.mark.parametrize("arguments", [["ko-9"], [], ["fake", "--scale", "huge"], ["fake", "--device", "abacus"]])
def test_bad_arguments(run, arguments):
    status, said = run(fake(), *arguments)
    assert (status, computed) == (2, [])
    assert "bench.figures: error: " in said.err
    if "ko-9" in arguments:
        assert "invalid choice: 'ko-9'" in said.err
        assert "fake" in said.err


TINY = {
    "ko-1a": {"N": 6, "widths": [24, 48, 96], "seeds": 2, "steps": 3, "fixed": 2},
    "ko-1b": {"N": 6, "widths": [24, 48, 96], "seeds": 2, "steps": 3, "fixed": 2, "r": [1.0, 1e-3, 1e-4, 1e-5]},
    "ko-s1": {"N": 6, "widths": [24, 48, 96], "seeds": 2, "steps": 3, "fixed": 2, "r": [1e-1, 1e-2, 1e-3]},
}


def tiny_results(name, data):
    """Settings and the numbers of all parts, as the command hands them on."""
    figure = ko_training.FIGURES[name]
    settings = figure.settings["small"] | TINY[name]
    results = {part: figure.compute(settings, part, "cpu", data) for part in figure.parts(settings)}
    return settings, json.loads(json.dumps(jsonable(results)))


def curves(value):
    """All curves in the numbers of a part."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if isinstance(value, dict) and "loss" in value else []) + [c for v in inner for c in curves(v)]


@pytest.mark.parametrize("data", [None, "digits", "gaussian"])
@pytest.mark.parametrize("name", TINY)
def test_a_tiny_figure_of_training(name, data, tmp_path):
    figure = ko_training.FIGURES[name]
    assert set(figure.settings) == {"small", "paper"}
    settings, results = tiny_results(name, data)
    verdicts = figure.verdicts(settings, results)
    assert len({claim for claim, _ in verdicts}) == len(verdicts)
    for claim, holds in verdicts:
        assert isinstance(claim, str)
        assert "nan" not in claim
        assert holds in (True, False)
    for curve in curves(list(results.values())):
        assert all(math.isfinite(loss) for loss in curve["loss"])
        assert curve["stopped"] or len(curve["loss"]) in (2, 4)
    figure.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def spoiled(value, change):
    for curve in curves(value):
        change(curve)


@pytest.mark.parametrize("name", TINY)
def test_a_deviation_that_does_not_fall_with_the_width_fails(name):
    settings, results = tiny_results(name, "gaussian")
    laws = [claim for claim, _ in ko_training.FIGURES[name].verdicts(settings, results) if "bounds it" in claim]
    assert len(laws) == {"ko-1a": 4, "ko-1b": 2, "ko-s1": 6}[name]
    spoiled(list(results.values()), lambda curve: curve.update(deviation=[0, 0.1, 0.1, 0.1]))
    after = [holds for claim, holds in ko_training.FIGURES[name].verdicts(settings, results) if "bounds it" in claim]
    assert after == [False] * len(laws)


@pytest.mark.parametrize(
    ("name", "claim", "spoil"),
    [
        ("ko-1a", "1 / lambda_max", lambda r: [v["BD-1"].update(eta=0.3) for v in r.values()]),
        ("ko-1a", "one step", lambda r: [v["BD-1"].update(loss=[1, 0.5]) for v in r.values()]),
        ("ko-1a", "is ahead", lambda r: [v["BD-0.1"].update(loss=[9.0] * 4) for v in r.values()]),
        ("ko-1b", "L = 4: training gets closer", lambda r: spoiled(r, lambda c: c.update(gap=[0, 0.1, 0.1]))),
        ("ko-1b", "does NOT explode", lambda r: spoiled(r["L5, float32"], lambda c: c.update(loss=[1, 2, 3]))),
        ("ko-1b", "L = 4 stays stable", lambda r: spoiled(r["L4, published"], lambda c: c.update(loss=[1, 2, 3]))),
        ("ko-1b", "L = 5: dampings next", lambda r: spoiled(r, lambda c: c.update(loss=[1, 1]))),
        ("ko-s1", "relu: alpha / M", lambda r: [v.update(live=1000.0) for v in r.values()]),
        ("ko-s1", "tanh: the mean", lambda r: [v.update(mean=[[k, 0.5] for k, _ in v["mean"]]) for v in r.values()]),
    ],
    ids=lambda a: a.replace(" ", "-") if isinstance(a, str) else "",
)
def test_a_result_that_contradicts_a_claim_fails_it(name, claim, spoil):
    settings, results = tiny_results(name, "gaussian")
    spoil(results)
    (holds,) = (holds for text, holds in ko_training.FIGURES[name].verdicts(settings, results) if text.startswith(claim)
                or f" {claim}" in text)  # fmt: skip
    assert not holds


def test_a_power_law_is_found_with_its_error():
    x = [100, 200, 400, 800]
    exact = law.power_law(x, np.array([[3 * v**-0.5] * 2 for v in x]))
    assert (exact.power, exact.factor) == (pytest.approx(-0.5), pytest.approx(3))
    assert exact.error < 1e-8
    rng, powers = np.random.default_rng(0), []
    for _ in range(300):
        noisy = law.power_law(x, np.array([[v**-0.5] * 3 for v in x]) * np.exp(0.2 * rng.standard_normal((4, 3))))
        powers.append((noisy.power, noisy.error))
    powers, errors = np.array(powers).T
    assert powers.std() == pytest.approx(errors.mean(), rel=0.15)
    assert powers.mean() == pytest.approx(-0.5, abs=0.02)


@pytest.mark.parametrize(
    ("deviations", "holds"),
    [
        ([[0.4, 0.41], [0.2, 0.21], [0.1, 0.11]], True),  # as 1 / M, faster than the bound
        ([[0.2, 0.21], [0.14, 0.15], [0.1, 0.11]], True),
        ([[0.2, 0.21], [0.18, 0.19], [0.16, 0.17]], False),  # too slow
        ([[0.2, 0.9], [0.1, 0.7], [0.1, 0.8]], False),  # as likely not to fall at all
        ([[0.2, 0.21], [0.14, 0.15], [math.inf, 0.11]], False),  # one run diverged
    ],
)
def test_what_falls_as_the_bound_or_faster_holds(deviations, holds):
    assert law.width_verdict("it", [100, 200, 400], np.array(deviations))[1] == holds


def test_unknown_data():
    figure = ko_training.FIGURES["ko-1a"]
    settings = figure.settings["small"]
    with pytest.raises(
        ValueError, match="--data is 'faces'; expected mnist-sample, digits, gaussian, mnist or mnist:F"
    ):
        figure.compute(settings, figure.parts(settings)[0], "cpu", "faces")


def test_negative_eigenvalues_are_those_of_the_dense_matrix():
    settings = ko_training.FIGURES["ko-1b"].settings["small"] | {"N": 4}
    net, W, x, _ = ko_training.problem(settings, "digits", "cpu", 4, 8, 0)
    s = net.signals(W, x)
    w = np.linalg.eigvalsh(ko_training.rn.BlockTridiagonal().matrix(s))
    found = ko_training.negative_eigenvalues(s)
    dense = -w[: len(found)][::-1]
    assert found == pytest.approx(dense, rel=1e-6)
    assert w[len(found)] > -1e-3 * found[0]


def test_the_published_recipe_is_the_natural_gradient_with_two_over_n_times_the_damping():
    settings = ko_training.FIGURES["ko-1b"].settings["small"] | {"N": 4}
    net, W, x, y = ko_training.problem(settings, "digits", "cpu", 4, 64, 0)
    s = net.signals(W, x)
    theirs = ko_training.PublishedRecipe().direction(s, s.f - y, 0.1)
    for a, b in zip(theirs, ko_training.rn.BlockTridiagonal().direction(s, s.f - y, 0.05), strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
