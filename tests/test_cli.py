"""The main job, `refngd run`: what it prints, what it writes, and what it says of bad arguments."""

import json
import subprocess
import sys

import numpy as np
import pytest

from refngd.cli import main

SMALL = ["-N", "8", "--width", "64", "--steps", "3"]


@pytest.fixture
def run(tmp_path, capsys):
    def run(*arguments):
        main(["run", "--out", str(tmp_path / "out"), *SMALL, *arguments])
        return capsys.readouterr().out, json.loads((tmp_path / "out" / "run.json").read_text())

    return run


def test_default_approximations_theory_and_training(run, tmp_path):
    out, record = run()
    results = record["results"]
    assert list(results) == [
        *("Identity", "Exact", "BlockDiagonal", "BlockTridiagonal", "KFAC", "Unitwise", "Entrywise", "QuasiDiagonal")
    ]
    for name, r in results.items():
        assert name in out
        assert {len(r[key]) for key in ("loss", "theory_loss", "accuracy", "theory_accuracy")} == {4}
        assert r["loss"][0] == pytest.approx(r["theory_loss"][0])
    for name, alpha in {"Exact": 1, "BlockDiagonal": 3, "BlockTridiagonal": 1, "KFAC": 24}.items():
        assert results[name]["alpha"] == pytest.approx(alpha)
        assert results[name]["eta"] == pytest.approx(1 / alpha)
        assert results[name]["isotropy"]["condition"] == pytest.approx(1)
        assert results[name]["theory_loss"][1] < 1e-20
        assert results[name]["loss"][1] < results["Identity"]["loss"][1]
    assert record["settings"]["N"] == 8
    assert results["Unitwise"]["rho"] == 1e-8
    assert record["versions"]["numpy"] == np.__version__
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["loss.png", "run.json", "spectra.png"]
    assert len({len(line) for line in out.splitlines() if " | " in line}) == 1  # the columns line up


def test_wide_network_falls_by_orders_of_magnitude_at_the_first_step_as_theory_says(run):
    _, record = run("--width", "1024", "--fisher", "Identity", "BlockDiagonal")
    gd, bd = (record["results"][name]["loss"] for name in ("Identity", "BlockDiagonal"))
    assert bd[1] < 1e-2 * bd[0]
    assert gd[1] > 0.1 * gd[0]


def test_same_seed_same_numbers(run):
    assert run("--seed", "3")[1]["results"] == run("--seed", "3")[1]["results"]
    assert run("--seed", "3")[1]["results"] != run("--seed", "4")[1]["results"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--classes", "1", "2", "3"],
        ["--data", "gaussian", "--inputs", "20", "--classes", "0", "1", "2"],
        [
            "--activation",
            "tanh",
            "--sigma-b",
            "0.5",
            "--sigma-w",
            "1.2",
            "--fisher",
            "KFAC-separate",
            "KFAC-gram",
            "Exact",
        ],
        ["--activation", "shifted_relu:0.5", "--parameterization", "standard"],
        ["--depth", "1"],
        ["--depth", "5", "--dtype", "float32", "--rho", "1e-2", "--fisher", "Exact", "KFAC", "Unitwise"],
        ["--factor", "0.5", "--steps", "0"],
    ],
    ids=lambda a: " ".join(a),
)
def test_options(run, arguments):
    _, record = run(*arguments)
    for r in record["results"].values():
        assert r["diverged"] is None
        assert all(np.isfinite(r["loss"]))


def test_power_between_natural_gradient_and_gradient_descent(run):
    out, record = run("-q", "2")
    assert "BlockTridiagonal left out: q is 2; expected 1 or inf" in out
    assert "BlockTridiagonal" not in record["results"]
    assert record["results"]["Exact"]["isotropy"]["condition"] > 2  # Theta^{1/2}
    _, gd = run("-q", "inf", "--fisher", "Exact", "Identity")
    assert gd["results"]["Exact"]["loss"] == pytest.approx(gd["results"]["Identity"]["loss"])
    assert gd["settings"]["q"] == "inf"  # JSON has no number for it


def test_divergence_is_reported_not_hidden(run):
    out, record = run("--factor", "50", "--steps", "300", "--fisher", "Identity", "--activation", "linear")
    assert "diverged" in out
    assert "training diverged" in record["results"]["Identity"]["diverged"]


def test_own_data(run, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=rng.standard_normal((40, 12)), labels=rng.integers(0, 3, 40))
    _, record = run("--data", str(tmp_path / "own.npz"))
    assert len(record["results"]["Exact"]["isotropy"]["eigenvalues"]) == 8 * 3
    assert record["settings"]["classes"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "--data is 'mnist'; expected digits, gaussian or a .npz file"),
        (["--data", "absent.npz"], "cannot read absent.npz"),
        (["--classes", "0", "12"], "classes is [0, 12]; expected two or more different ones"),
        (["-N", "400"], "N is 400; expected 1 <= N < 357"),
        (["-N", "0"], "N is 0; expected"),
        (["--depth", "0"], "--depth is 0; expected an integer >= 1"),
        (["--width", "0"], "widths is (64, 0, 0, 1); expected at least two positive integers"),
        (["--steps", "-1"], "--steps is -1; expected an integer >= 0"),
        (["--factor", "0"], "--factor is 0.0; expected a finite number > 0"),
        (["--activation", "gelu"], "activation is 'gelu'; expected relu, tanh, erf, linear or shifted_relu:S"),
        (["--activation", "shifted_relu:x"], "activation is 'shifted_relu:x'; expected"),
        (["--sigma-w", "-1"], "sigma_w is -1.0; expected a finite number > 0"),
        (["--rho", "-1"], "rho is -1.0; expected a finite number >= 0"),
        (["-q", "0.5"], "q is 0.5; expected a number in [1, inf]"),
        (["--fisher", "BlockTridiagonal", "-q", "2"], "BlockTridiagonal left out: q is 2; expected 1 or inf"),
        (["--seed", "-1"], "--seed is -1; expected an integer >= 0"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else None,
)
def test_bad_arguments_end_with_one_line_and_status_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "--out", str(tmp_path / "out"), *SMALL, *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("refngd run: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "run.json").exists()


def test_unknown_approximation_and_abbreviations_are_refused(capsys):
    for arguments in (["--fisher", "Kronecker"], ["--sig", "1"]):
        with pytest.raises(SystemExit) as stop:
            main(["run", *arguments])
        assert stop.value.code == 2
    assert "invalid choice: 'Kronecker'" in capsys.readouterr().err


def test_without_matplotlib_the_numbers_are_written_and_the_extra_is_named(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out, _ = run("--fisher", "Exact")
    assert "no pictures" in out
    assert "the extra refngd[plot]" in out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run.json"]


def test_module_and_silence_off_a_terminal(tmp_path):
    command = [sys.executable, "-m", "refngd", "run", "--out", str(tmp_path), *SMALL, "--fisher", "Exact"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("digits: N = 8 to train, 349 to test")
    assert done.stderr == ""
