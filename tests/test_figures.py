"""`python -m bench.figures`: what it computes, keeps, writes and says; and the figures themselves at a tiny size."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import figures, ko_training
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
    assert part.read_text() == whole


def test_parts_that_other_code_computed_are_computed_anew(run, monkeypatch):
    run(fake(), "fake")
    monkeypatch.setattr(figures, "_code", lambda: "another hash")
    run(fake(), "fake")
    assert computed == ["a", "bbb"]


def test_data_are_refused_where_a_figure_has_its_own(run):
    status, said = run(fake(), "fake", "--scale", "paper", "--data", "digits")
    assert (status, computed) == (2, [])
    assert "--data is 'digits'; expected none: fake at the scale 'paper' has data of its own" in said.err


def test_a_run_that_is_interrupted_is_continued(run):
    status, said = run(fake(), "fake", "--scale", "paper")
    assert (status, computed) == (2, ["a", "bbb"])
    assert said.err == "bench.figures: fake: error: no bbb\n"
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
    "ko-1a": {"N": 6, "M": 48, "steps": 3},
    "ko-1b": {"N": 6, "M": 48, "steps": 3, "rho": [0.0, 1e-10, 1e-6, 1e-2], "drawn": [0.0, 1e-2]},
    "ko-s1": {"N": 6, "M": 48, "steps": 3, "seeds": 2},
}


@pytest.mark.parametrize("data", ["digits", "gaussian"])
@pytest.mark.parametrize("name", TINY)
def test_a_tiny_figure_of_training(name, data, tmp_path):
    figure = ko_training.FIGURES[name]
    assert set(figure.settings) == {"small", "paper"}
    settings = figure.settings["small"] | TINY[name]
    results = {part: figure.compute(settings, part, "cpu", data) for part in figure.parts(settings)}
    results = json.loads(json.dumps(jsonable(results)))  # as the command hands them on
    for claim, holds in figure.verdicts(settings, results):
        assert isinstance(claim, str)
        assert "nan" not in claim
        assert holds in (True, False)
    for r in results.values():
        for curve in [*r.get("curves", [r]), *r.get("resonant", [])]:
            assert all(math.isfinite(loss) for loss in curve["loss"])
            assert curve["stopped"] or len(curve["loss"]) == 4
    figure.draw(settings, results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_unknown_data():
    figure = ko_training.FIGURES["ko-1a"]
    with pytest.raises(ValueError, match="--data is 'faces'; expected digits, gaussian, mnist or mnist:FOLDER"):
        figure.compute(figure.settings["small"], "GD", "cpu", "faces")


def test_negative_eigenvalues_are_those_of_the_dense_matrix():
    settings = ko_training.FIGURES["ko-1b"].settings["small"] | {"N": 4, "M": 8}
    net, W, x, _ = ko_training.problem(settings, "digits", "cpu", 4)
    s = net.signals(W, x)
    w = ko_training.np.linalg.eigvalsh(ko_training.rn.BlockTridiagonal().matrix(s))
    found = ko_training.negative_eigenvalues(s)
    dense = -w[: len(found)][::-1]
    assert found == pytest.approx(dense, rel=1e-6)
    assert w[len(found)] > -1e-3 * found[0]


def test_the_plain_inverse_is_the_natural_gradient_where_all_is_regular():
    settings = ko_training.FIGURES["ko-1b"].settings["small"] | {"N": 4, "M": 64}
    net, W, x, y = ko_training.problem(settings, "digits", "cpu", 4)
    s = net.signals(W, x)
    plain = ko_training.PlainInverse().direction(s, s.f - y, 0.1)
    for a, b in zip(plain, ko_training.rn.BlockTridiagonal().direction(s, s.f - y, 0.1), strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
