"""The commands: what they print, what they write, what they keep when they are cut short, and what they say."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import refngd as rn
from refngd import deep_linear, experiments, linear_training
from refngd.cli import main, output
from refngd.experiments import compare

SMALL = ["-N", "8", "--width", "64", "--steps", "3"]
HUGE = str(10**20)


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
    assert results["Unitwise"]["rho"] == 1e-10
    assert record["versions"]["numpy"] == np.__version__
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["loss.png", "run.json", "spectra.png"]
    rows = [line for line in out.splitlines() if " | " in line]
    assert len({len(line) for line in rows}) == 1  # the columns line up


def test_the_table_shows_the_numbers_of_the_record(run):
    out, record = run("--classes", "1", "2", "3")
    _, *rows = [line.replace(" | ", " ").split() for line in out.splitlines() if " | " in line]
    for name, r in record["results"].items():
        head, *others = rows[:4]
        del rows[:4]
        alpha = "-" if r["alpha"] is None else f"{r['alpha']:.6g}"
        assert head[:5] == [name, f"{r['rho']:.3g}", f"{r['eta']:.3g}", alpha, f"{r['isotropy']['condition']:.5g}"]
        for t, row in enumerate([head[5:], *others]):
            measured, theory, accuracy, theory_accuracy = row[1:]
            assert row[0] == str(t)
            assert (measured, theory) == (f"{r['loss'][t]:.2e}", f"{r['theory_loss'][t]:.2e}")
            assert (accuracy, theory_accuracy) == (f"{r['accuracy'][t]:.3f}", f"{r['theory_accuracy'][t]:.3f}")
    assert not rows


def test_wide_network_falls_by_orders_of_magnitude_at_the_first_step_as_theory_says(run):
    _, record = run("--width", "2048", "--steps", "1", "--fisher", "Identity", "BlockDiagonal")
    gd, bd = (record["results"][name]["loss"] for name in ("Identity", "BlockDiagonal"))
    assert bd[1] < 1e-2 * bd[0]
    assert gd[1] > 0.1 * gd[0]


def test_same_seed_same_numbers(run):
    assert run("--seed", "3")[1]["results"] == run("--seed", "3")[1]["results"]
    assert run("--seed", "3")[1]["results"] != run("--seed", "4")[1]["results"]


DEFAULT = {"classes": [0, 7], "N": 8, "depth": 3, "width": 64, "activation": "relu", "dtype": "float64", "steps": 3}


@pytest.mark.parametrize(
    ("arguments", "widths", "changed"),
    [
        (["--classes", "1", "2", "3"], [784, 64, 64, 3], {"classes": [1, 2, 3]}),
        (
            ["--data", "gaussian", "--inputs", "20", "--classes", "0", "1", "2", "-N", "5"],
            [20, 64, 64, 3],
            {"data": "gaussian", "inputs": 20, "classes": [0, 1, 2], "N": 5},
        ),
        (["--activation", "tanh", "--sigma-b", "0.5", "--sigma-w", "1.2"], [784, 64, 64, 1], {"activation": "tanh"}),
        (["--activation", "shifted_relu:0.5"], [784, 64, 64, 1], {"activation": "shifted_relu:0.5"}),
        (["--parameterization", "standard"], [784, 64, 64, 1], {"parameterization": "standard"}),
        (["--depth", "1"], [784, 1], {"depth": 1}),
        (["--depth", "5", "--width", "20"], [784, 20, 20, 20, 20, 1], {"depth": 5, "width": 20}),
        (["--dtype", "float32"], [784, 64, 64, 1], {"dtype": "float32"}),
        (["--factor", "0.5", "--steps", "0"], [784, 64, 64, 1], {"factor": 0.5, "steps": 0}),
        (["--seed", "1"], [784, 64, 64, 1], {"seed": 1}),
    ],
    ids=lambda a: " ".join(map(str, a)) if isinstance(a, list) else None,
)
def test_each_option_changes_what_it_says(run, arguments, widths, changed):
    fishers = ["--fisher", "Identity", "Exact", "Unitwise"]
    record, default = run(*arguments, *fishers)[1], run(*fishers)[1]
    assert record["widths"] == widths
    assert changed.items() <= record["settings"].items()
    assert DEFAULT.items() <= (record["settings"] | {key: DEFAULT[key] for key in DEFAULT.keys() & changed}).items()
    for name, r in record["results"].items():
        assert r["stopped"] is None
        assert len(r["loss"]) == record["settings"]["steps"] + 1
        assert np.isfinite(r["loss"]).all()
        assert len(r["isotropy"]["eigenvalues"]) == record["settings"]["N"] * widths[-1]
        before = default["results"][name]
        assert r["loss"] != before["loss"]
        if arguments[0] == "--factor":
            assert r["eta"] == pytest.approx(before["eta"] / 2)
        elif arguments[0] == "--dtype":
            assert r["loss"][0] == pytest.approx(before["loss"][0], rel=1e-5)


def test_more_samples_than_inputs_by_the_forster_transform_or_with_the_first_layer_fixed(run):
    few = ["--data", "gaussian", "--inputs", "4", "-N", "8", "--width", "100"]
    kfac = run(*few, "--fisher", "KFAC")[1]["results"]["KFAC"]["isotropy"]
    assert kfac["condition"] > 1.1
    kfac = run(*few, "--fisher", "KFAC", "--forster")[1]["results"]["KFAC"]["isotropy"]
    assert (kfac["alpha"], kfac["condition"]) == (pytest.approx(8 * 2 + 4), pytest.approx(1))  # (S.111)
    unit = run(*few, "--fisher", "Unitwise", "KFAC", "--frozen", "1", "--rho", "0")[1]["results"]
    assert unit["Unitwise"]["alpha"] == pytest.approx(100 / 2 + 1)
    assert unit["KFAC"]["alpha"] == 8 * 2
    assert unit["KFAC"]["isotropy"]["condition"] == pytest.approx(1)


def test_cross_entropy(run):
    _, record = run("--loss", "cross-entropy", "--loss-rho", "0.01", "--classes", "1", "2", "3", "--width", "256")
    assert record["settings"]["loss"] == "cross-entropy"
    assert record["widths"][-1] == 3
    results = record["results"]
    assert results["BlockDiagonal"]["alpha"] == 3
    for name, r in results.items():
        assert r["loss"][0] == pytest.approx(r["theory_loss"][0])
        assert r["loss"][-1] < (0.95 if name == "Identity" else 0.5) * r["loss"][0], name
    assert run("--loss", "cross-entropy")[1]["widths"][-1] == 2  # one-hot with two classes too


def test_one_approximation_that_fails_leaves_the_others(run, monkeypatch, capsys):
    def fail_for_kfac(net, W, data, fisher, *settings):
        if isinstance(fisher, rn.KFAC):
            raise FloatingPointError("a Gram matrix leaves the range")
        return compare(net, W, data, fisher, *settings)

    monkeypatch.setattr("refngd.cli.run.compare", fail_for_kfac)
    out, record = run("--fisher", "KFAC", "Exact")
    assert list(record["results"]) == ["Exact"]
    assert "KFAC left out: a Gram matrix leaves the range" in out
    monkeypatch.undo()
    with pytest.raises(SystemExit):
        run("--width", "1", "--depth", "12", "--fisher", "Exact")  # ReLU: no sample gets through
    assert "Exact left out: Theta_bar has no positive eigenvalue" in capsys.readouterr().err


def test_damping_and_the_variants_of_kfac(run):
    biased = ["--sigma-b", "0.5", "--fisher", "KFAC", "KFAC-gram", "KFAC-separate"]
    record = run(*biased)[1]["results"]
    assert [record[name]["alpha"] for name in biased[3:]] == [24, 17, None]
    damped = run(*biased, "--rho", "0.01")[1]["results"]
    for name in biased[3:]:
        assert (damped[name]["rho"], damped[name]["alpha"]) == (0.01, None)
        assert damped[name]["isotropy"]["alpha"] < record[name]["isotropy"]["alpha"]
    assert run("--fisher", "Unitwise", "--rho", "0")[1]["results"]["Unitwise"]["rho"] == 0


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
    assert "stopped" in out
    assert "training diverged" in record["results"]["Identity"]["stopped"]


def test_own_data(run, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=rng.standard_normal((40, 12)), labels=rng.integers(0, 3, 40))
    _, record = run("--data", str(tmp_path / "own.npz"))
    assert len(record["results"]["Exact"]["isotropy"]["eigenvalues"]) == 8 * 3
    assert record["settings"]["classes"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data", "imagenet"],
            "--data is 'imagenet'; expected mnist-sample, digits, mnist, cifar10, gaussian or a .npz",
        ),
        (["--data-dir", "."], "--data-dir is .; expected only with --data mnist or cifar10"),
        (["--data", "mnist", "--inputs", "3"], "--inputs is 3; expected only with --data gaussian"),
        (
            ["--data", "mnist", "--data-dir", "absent"],
            "folder absent is missing, or has neither train-images-idx3-ubyte",
        ),
        (
            ["--data", "cifar10", "--data-dir", "absent"],
            "folder absent is missing, or has neither data_batch_1.bin nor",
        ),
        (["--data", "absent.npz"], "cannot read absent.npz"),
        (["--classes", "0", "12"], "--classes is [0, 12]; expected two or more different ones"),
        (["-N", "201"], "mnist-sample: -N is 201; expected 1 <= N <= 200"),
        (["--data", "digits", "-N", "400"], "digits: -N is 400; expected 1 <= N < 357"),
        (["-N", "0"], "mnist-sample: -N is 0; expected"),
        (["--depth", "0"], "--depth is 0; expected an integer >= 1"),
        (["--width", "0"], "--width is 0; expected an integer >= 1"),
        (["--steps", "-1"], "--steps is -1; expected an integer >= 0"),
        (["--factor", "0"], "--factor is 0.0; expected a finite number > 0"),
        (["--activation", "gelu"], "--activation is 'gelu'; expected relu, tanh, erf, linear or shifted_relu:S"),
        (["--activation", "shifted_relu:x"], "--activation is 'shifted_relu:x'; expected"),
        (["--sigma-w", "-1"], "--sigma-w is -1.0; expected a finite number > 0"),
        (["--rho", "-1"], "--rho is -1.0; expected a finite number >= 0"),
        (["-q", "0.5"], "-q is 0.5; expected a number in [1, inf]"),
        (["--fisher", "BlockTridiagonal", "-q", "2"], "BlockTridiagonal left out: -q is 2; expected 1 or inf"),
        (["--frozen", "3"], "--frozen is 3; expected an integer < L = 3"),
        (["--frozen", "1,2,3"], "--frozen has all L = 3 layers; expected one at least"),
        (["--frozen", "-1"], "--frozen has '-1'; expected integers from 1 to L = 3"),
        (["--frozen", "output-bias"], '--frozen has "output-bias"; expected layers alone'),
        (["--loss-rho", "-1"], "--loss-rho is -1.0; expected a finite number >= 0"),
        (["--forster", "-N", "20"], "--forster has -N 20 samples of 784 inputs; expected no fewer samples than inputs"),
        (["--seed", "-1"], "--seed is -1; expected an integer >= 0"),
        (["--steps", HUGE], f"--steps is {HUGE}; expected an integer >= 0 and <= 10^9"),
        (["--width", HUGE], f"--width is {HUGE}; expected an integer >= 1 and <= 10^9"),
        (["--depth", HUGE], f"--depth is {HUGE}; expected an integer >= 1 and <= 10^9"),
        (["--data", "gaussian", "-N", HUGE], f"-N is {HUGE}; expected an integer >= 1 and <= 10^9"),
        (["--data", "gaussian", "--inputs", HUGE], f"--inputs is {HUGE}; expected an integer >= 1 and <= 10^9"),
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
    assert done.stdout.startswith("mnist-sample: N = 8 to train, 200 to test")
    assert done.stderr == ""


def run_linear(tmp_path, capsys, *arguments):
    main(
        [
            "linear",
            "--out",
            str(tmp_path / "out"),
            "--width",
            "6",
            "--teacher",
            "3",
            "2",
            "--duration",
            "0.1",
            *arguments,
        ]
    )
    record = json.loads((tmp_path / "out" / "linear.json").read_text())
    return capsys.readouterr().out, record, sorted(p.name for p in (tmp_path / "out").iterdir())


def test_linear_prints_the_numbers_of_its_record_and_draws(tmp_path, capsys):
    out, record, files = run_linear(tmp_path, capsys)
    assert files == ["fig4.png", "fig5.png", "linear.json"]
    assert list(record["results"]) == ["SGD", "NGD", "sqrt-NGD", "NGD-d", "sqrt-NGD-d"]
    rows = {
        line.split()[0]: line.replace(" | ", " ").split()[1:] for line in out.splitlines() if line.count(" | ") == 3
    }
    for name, r in record["results"].items():
        eta, steps, loss, least, best, time, excess, first, last = rows[name]
        assert (int(steps), int(best)) == (r["t"][-1], r["best"])
        assert float(loss) == pytest.approx(r["loss"][-1], rel=1e-3)
        assert (float(least), float(excess)) == pytest.approx((r["best_excess"], r["excess"][-1]), rel=1e-3)
        assert float(time) == pytest.approx(float(eta) * r["best"], rel=1e-3)
        assert (float(first), float(last)) == pytest.approx(
            [c[1] for c in r["conserved"][:: len(r["t"]) - 1]], rel=1e-3
        )
    assert [r["t"][-1] for r in record["results"].values()] == [800, 30, 25, 30, 50]
    assert record["settings"]["teacher"] == [3, 2]
    assert "no test loss is below 0.27" in out


def test_linear_with_raw_inputs_takes_the_smaller_rate_for_sgd(tmp_path, capsys):
    out, record, _ = run_linear(tmp_path, capsys, "--raw", "-N", "9", "--rules", "SGD", "NGD-d")
    assert record["etas"] == {"SGD": 0.005, "NGD-d": 0.02}
    assert record["results"]["SGD"]["t"][-1] == 1600
    assert "raw inputs, width 6, N = 9" in out
    w, data, _ = experiments.teacher_student_problem(0, 6, N=9, singular_values=[3, 2], whiten=False)
    first = {r["loss"][0] for r in record["results"].values()}
    assert first == {deep_linear.loss(w, data)}
    assert data.const > 0


def test_linear_takes_its_options(tmp_path, capsys):
    _, record, _ = run_linear(
        tmp_path, capsys, "--rules", "NGD", "NGD-d", "NGD", "--eta", "0.1", "--rho", "0.5", "--clip", "0.7"
    )
    w, data, _ = experiments.teacher_student_problem(0, 6, singular_values=[3, 2])
    assert list(record["results"]) == ["NGD", "NGD-d"]
    for name, block in (("NGD", False), ("NGD-d", True)):
        states = linear_training.descend(w, data, deep_linear.Rule(1, block, 0.5, 0.7), 0.1, 30)
        assert record["results"][name]["loss"][-1] == [*states][-1].loss
    _, record, _ = run_linear(
        tmp_path, capsys, "--rules", "SGD", "--sigma-w", "0.5", "--noise", "0", "--seed", "3", "--depth", "3"
    )
    w, data, _ = experiments.teacher_student_problem(3, 6, 3, singular_values=[3, 2], noise=0, sigma_w=0.5)
    assert record["results"]["SGD"]["loss"][0] == deep_linear.loss(w, data)


def test_shallow_linear_networks_have_no_figure_of_inner_weights(tmp_path, capsys):
    assert run_linear(tmp_path, capsys)[2] == ["fig4.png", "fig5.png", "linear.json"]
    for depth, heading in (("1", "train loss | excess test loss"), ("2", "||c_1||")):
        out, record, files = run_linear(tmp_path, capsys, "--depth", depth, "--rules", "sqrt-NGD", "SGD")
        assert files == ["fig4.png", "linear.json"]  # that of the earlier run is gone
        assert set(record["results"]) == {"sqrt-NGD", "SGD"}
        assert heading in out
        assert "||c_2||" not in out
        assert "nan" not in out


def test_rules_that_diverge_are_reported_in_their_line(tmp_path, capsys):
    out, record, _ = run_linear(tmp_path, capsys, "--eta", "50", "--rules", "SGD", "sqrt-NGD-d", "--duration", "1")
    (line,) = (line for line in out.splitlines() if line.startswith("SGD"))
    assert "stopped: training diverged at t = " in line
    assert len(line) < 250
    assert record["results"]["SGD"]["stopped"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher", "0"], "--teacher is 0.0; expected 1 to 6, the width, finite numbers > 0"),
        (["-N", "0"], "-N is 0; expected an integer >= 1"),
        (["--width", "0"], "--width is 0; expected an integer >= 1"),
        (["--depth", "0"], "--depth is 0; expected an integer >= 1"),
        (["--noise", "-1"], "--noise is -1.0; expected a finite number >= 0"),
        (["--sigma-w", "0"], "--sigma-w is 0.0; expected a finite number > 0"),
        (["--eta", "-1"], "--eta is -1.0; expected a finite number > 0"),
        (["--duration", "inf"], "--duration is inf; expected a number >= 0, and 8000 times it <= 10^9 steps"),
        (["--duration", "-1"], "--duration is -1.0; expected a number >= 0"),
        (["--duration", "1e300"], "--duration is 1e+300; expected a number >= 0"),
        (["--duration", "nan"], "--duration is nan; expected a number >= 0"),
        (["--rho", "-1"], "--rho is -1.0; expected a finite number >= 0"),
        (["--clip", "0"], "--clip is 0.0; expected a number > 0"),
        (["--seed", "-1"], "--seed is -1; expected an integer >= 0"),
        (["--sigma-w", "1e60"], "training diverged at t = 0"),
        (["--teacher", "1e200"], "--teacher is 1e+200; expected 1 to 6, the width, finite numbers > 0"),
        (["--noise", "1e200"], "--noise is 1e+200; expected a finite number >= 0"),
        (["--rules", "Adam"], "invalid choice: 'Adam'"),
    ],
)
def test_linear_says_in_one_line_what_is_wrong(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        run_linear(tmp_path, capsys, *arguments)
    said = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    assert message in said[-1]
    assert not (tmp_path / "out" / "linear.json").exists()


# What was computed is kept


def interrupt_at(fisher_class):
    def interrupted(net, W, data, fisher, *settings):
        if isinstance(fisher, fisher_class):
            raise KeyboardInterrupt
        return compare(net, W, data, fisher, *settings)

    return interrupted


def test_ctrl_c_keeps_what_was_finished_says_one_line_and_exits_with_130(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("refngd.cli.run.compare", interrupt_at(rn.KFAC))
    arguments = ["run", "--out", str(tmp_path), *SMALL, "--fisher"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "Exact", "Identity", "KFAC", "BlockDiagonal"])
    said = capsys.readouterr()
    assert stop.value.code == 130
    assert said.err == "refngd run: interrupted; what was finished, Exact, Identity, is kept\n"
    assert list(json.loads((tmp_path / "run.json").read_text())["results"]) == ["Exact", "Identity"]
    assert "Identity  " in said.out
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "KFAC", "Exact"])
    assert (stop.value.code, capsys.readouterr().err) == (130, "refngd run: interrupted\n")
    assert (tmp_path / "run.json").read_bytes() == before  # there was nothing to keep
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loss.png", "run.json", "spectra.png"]


def test_ctrl_c_in_linear_keeps_the_rules_that_were_finished(tmp_path, capsys, monkeypatch):
    def interrupted(w, data, teacher, rule, *settings):
        if rule.block:
            raise KeyboardInterrupt
        return experiments.trajectory(w, data, teacher, rule, *settings)

    monkeypatch.setattr("refngd.cli.linear.trajectory", interrupted)
    with pytest.raises(SystemExit) as stop:
        run_linear(tmp_path, capsys)
    assert stop.value.code == 130
    record = json.loads((tmp_path / "out" / "linear.json").read_text())
    assert list(record["results"]) == list(record["etas"]) == ["SGD", "NGD", "sqrt-NGD"]


def test_a_full_disk_costs_neither_the_table_nor_the_files_of_the_run_before(run, tmp_path, capsys, monkeypatch):
    run("--fisher", "Exact")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as the system says it: without a name

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(SystemExit) as stop:
            run("--fisher", "Identity")
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.err == f"refngd run: error: cannot write {tmp_path / 'out' / 'run.json'}: No space left on device\n"
    assert "\nIdentity  " in said.out
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    with monkeypatch.context() as patched:  # the numbers fit, the pictures do not
        patched.setattr("refngd.cli.run.draw_spectra", full)
        with pytest.raises(SystemExit):
            run("--fisher", "Identity")
    assert f"cannot write {tmp_path / 'out' / 'spectra.png'}: No space" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["loss.png", "run.json"]
    assert list(json.loads((tmp_path / "out" / "run.json").read_text())["results"]) == ["Identity"]


def test_where_nothing_can_be_written_is_found_out_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("refngd.cli.run.compare", None)
    (tmp_path / "file").touch()
    (tmp_path / "busy" / "loss.png").mkdir(parents=True)
    for out, message in {
        "file": f"cannot write into {tmp_path / 'file'}: Not a directory",
        "file/b": f"cannot write into {tmp_path / 'file' / 'b'}: Not a directory",
        "busy": f"{tmp_path / 'busy' / 'loss.png'} is a folder; expected none, or a file to replace",
    }.items():
        with pytest.raises(SystemExit) as stop:
            main(["run", "--out", str(tmp_path / out), *SMALL])
        said = capsys.readouterr()
        assert (stop.value.code, said.out) == (2, "")
        assert said.err == f"refngd run: error: {message}\n"
    assert [p.name for p in (tmp_path / "busy").iterdir()] == ["loss.png"]


def test_two_runs_at_once_do_not_mix_and_remains_of_killed_ones_go(run, tmp_path, capsys):
    run("--fisher", "Exact")
    with output.reserved(tmp_path / "out", []), pytest.raises(SystemExit) as stop:
        run("--fisher", "Identity")
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"refngd run: error: another run is writing into {tmp_path / 'out'}\n"
    remains = tmp_path / "out" / output.STAGING
    remains.mkdir()
    for name in (output.LOCK, "run.json", "loss.png"):
        (remains / name).write_text("cut off")
    run("--fisher", "Identity")
    assert not remains.exists()


def test_pictures_of_one_run_never_lie_beside_numbers_of_another(run, tmp_path, monkeypatch):
    run("--fisher", "Exact")

    def killed(*args):
        raise SystemExit("at the worst moment")

    monkeypatch.setattr("refngd.cli.run.draw_loss", killed)
    with pytest.raises(SystemExit):
        run("--fisher", "Identity")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run.json"]
    assert list(json.loads((tmp_path / "out" / "run.json").read_text())["results"]) == ["Identity"]


def command(tmp_path, *arguments):
    return [sys.executable, "-m", "refngd", "run", "--out", str(tmp_path / "out"), *SMALL, *arguments]


def test_streams_that_are_closed_or_full(tmp_path):
    def shell(redirection, *arguments):
        line = f"exec {shlex.join(command(tmp_path, *arguments))} {redirection}"
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    done = shell("2>&-", "--fisher", "Exact")
    assert done.returncode == 0
    assert "written to" in done.stdout
    assert shell("2>&-", "--steps", "-1").returncode == 2
    done = shell("> /dev/full")
    assert (done.returncode, done.stderr) == (2, "refngd run: error: [Errno 28] No space left on device\n")


def test_files_are_written_where_nobody_reads_the_table(tmp_path):
    with subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"mnist-sample")
        assert process.stdout.readline() == b"\n"
        process.stdout.close()
        assert process.stderr.read() == b"refngd run: error: nobody reads standard output\n"
    assert process.returncode == 2
    assert len(json.loads((tmp_path / "out" / "run.json").read_text())["results"]) == 8
    assert (tmp_path / "out" / "spectra.png").exists()


def test_a_signal_in_the_middle_of_a_run(tmp_path):
    arguments = command(tmp_path, "--steps", "100000", "--fisher", "Exact")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("mnist-sample")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "refngd run: interrupted\n")
    assert list((tmp_path / "out").iterdir()) == []
