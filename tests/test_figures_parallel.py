"""`python -m bench.figures --jobs K` and `--cluster ADDRESS`: one process's numbers; what is kept if workers die."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import figures, ko_kernels, parallel

FIGURE = ko_kernels.FIGURES["ko-3"]
SETTINGS = FIGURE.settings["small"] | {"M": [16, 32], "M_0": 12, "N": 8, "seeds": 2}
PARTS = FIGURE.parts(SETTINGS)


def dying(settings, part, device, data):
    """The second part ends the process that computes it; those after it need too long to be finished by then."""
    if part == PARTS[1]:
        time.sleep(1)
        os._exit(1)
    time.sleep(60 * (part != PARTS[0]))
    return FIGURE.compute(settings, part, device, data)


def waiting(settings, part, device, data):
    """Only the first part is finished in time."""
    time.sleep(60 * (part != PARTS[0]))
    return FIGURE.compute(settings, part, device, data)


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    """Make the figure with these arguments: the exit status, what was said, and the record if there is one."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    def make(out, *arguments, compute=FIGURE.compute):
        figure = replace(FIGURE, settings={"small": SETTINGS}, compute=compute)
        monkeypatch.setattr(figures, "FIGURES", {"ko-3": figure})
        with pytest.raises(SystemExit) as exit:
            figures.main(["ko-3", "--out", str(tmp_path / out), *arguments])
        record = tmp_path / out / "ko-3-small.json"
        return exit.value.code, capsys.readouterr(), json.loads(record.read_text()) if record.exists() else None

    return make


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    import dask

    once = {"distributed.scheduler.allowed-failures": 0}  # a part that ends its worker is not given to another
    with (
        dask.config.set(once),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster


def assert_same(a, b):
    """The same verdicts and, up to what BLAS with another number of threads changes, numbers; the times are there."""
    assert [v["holds"] for v in a["verdicts"]] == [v["holds"] for v in b["verdicts"]]
    assert list(a["results"]) == list(b["results"]) == list(b["seconds"])
    for one, other in zip(a["results"].values(), b["results"].values(), strict=True):
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-6, atol=1e-9)
    assert all(seconds > 0 for seconds in [*a["seconds"].values(), *b["seconds"].values()])


def test_processes_give_the_numbers_of_one(make):
    _, _, alone = make("alone")
    _, _, together = make("together", "--jobs", "2")
    assert_same(alone, together)


def test_a_cluster_gives_the_numbers_of_one_process(make, cluster):
    _, _, alone = make("alone")
    _, _, together = make("together", "--cluster", cluster.scheduler_address)
    assert_same(alone, together)


def kept(tmp_path):
    return {path.stem for path in (tmp_path / "out" / "ko-3-small" / "parts").iterdir()}


def assert_lost(status, said):
    assert status == 2
    assert "bench.figures: error: workers ended before their work did" in said.err
    assert (
        "1 parts are kept, the same command again computes the others: ko-3 (M = 16, seed 1), ko-3 (M = 32, seed 0)"
        in said.err
    )


def test_a_process_that_dies_leaves_what_is_finished_and_says_what_is_missing(make, tmp_path):
    status, said, record = make("out", "--jobs", "2", compute=dying)
    assert_lost(status, said)
    assert (kept(tmp_path), record) == ({PARTS[0]}, None)
    record = make("out")[2]
    assert list(record["results"]) == PARTS


def test_a_worker_of_a_cluster_that_dies(make, cluster, tmp_path):
    status, said, _ = make("out", "--cluster", cluster.scheduler_address, compute=dying)
    assert_lost(status, said)
    assert kept(tmp_path) == {PARTS[0]}


def test_a_cluster_that_ends_in_the_middle(make, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    saved = figures._saved

    def then_end(*arguments):
        content = saved(*arguments)
        cluster.close()
        return content

    monkeypatch.setattr(figures, "_saved", then_end)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        status, said, _ = make("out", "--cluster", cluster.scheduler_address, compute=waiting)
    assert_lost(status, said)
    assert kept(tmp_path) == {PARTS[0]}


def test_a_cluster_whose_workers_leave(make, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "LOOK", 0.3)
    looks = iter([{"a worker": 1}])  # at the start; then none is left
    monkeypatch.setattr(distributed.Client, "nthreads", lambda self: next(looks, {}))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        status, said, _ = make("out", "--cluster", cluster.scheduler_address, compute=waiting)
    assert status == 2
    assert "has no workers; " in said.err
    assert "the same command again computes the others: " in said.err


def test_nobody_answers_or_works(make, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "LOOK", 0.3)
    status, said, _ = make("out", "--cluster", "tcp://127.0.0.1:9")
    assert status == 2
    assert "bench.figures: error: no cluster answers at tcp://127.0.0.1:9" in said.err
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as idle:
        status, said, _ = make("out", "--cluster", idle.scheduler_address)
    assert status == 2
    assert "has no workers" in said.err


def test_without_distributed_the_extra_is_named(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, said, _ = make("out", "--cluster", "tcp://127.0.0.1:9")
    assert status == 2
    assert "--cluster needs distributed, the extra refngd[cluster]" in said.err


def test_a_worker_with_other_code_is_refused(make, monkeypatch):
    timed = figures.timed
    monkeypatch.setattr(figures, "timed", lambda *a: timed(*a) | {"by": {"code": "another"}})
    status, said, record = make("out")
    assert (status, record) == (2, None)
    assert "a worker has code another; expected those here" in said.err


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--jobs", "2", "--cluster", "tcp://127.0.0.1:9"]])
def test_bad_arguments(make, arguments):
    status, said, _ = make("out", *arguments)
    assert status == 2
    assert "--jobs is 0; expected an integer >= 1" in said.err or "not allowed with argument" in said.err


def test_ctrl_c_ends_the_processes_at_once(tmp_path):
    command = [sys.executable, "-m", "bench.figures", "ko-3", "--jobs", "2", "--scale", "paper", "--out", tmp_path]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("ko-3-paper/parts/*.json")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == "bench.figures: interrupted\n"
    assert process.returncode == 130
