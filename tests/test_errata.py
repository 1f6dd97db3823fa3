"""refngd/ERRATA.md: every equation of both papers has a row, every name in it exists; what no other test shows."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from support import assert_close, condition, generator, host, on, problem

import refngd as rn
from refngd import deep_linear

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "refngd" / "ERRATA.md").read_text(encoding="utf-8")
PAPERS = [  # the rows of each paper's table
    [re.split(r"(?<!\\)\|", row)[1:-1] for row in re.findall(r"^\|.*\|$", section, re.M)[2:]]
    for section in re.split(r"^# ", PAGE, flags=re.M)[1:]
]
ROWS = [row for rows in PAPERS for row in rows]


def resolve(path):
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        parent, _, name = path.rpartition(".")
        return getattr(resolve(parent), name)


def quoted(column):
    return sorted({name for row in ROWS for name in re.findall("`([^`]+)`", row[column])})


def test_rows_have_four_cells_and_a_test():
    assert all(len(row) == 4 and "`" in row[3] for row in ROWS)


@pytest.mark.parametrize("path", quoted(1))
def test_code_exists(path):
    assert path.startswith("refngd.")
    resolve(path)


@pytest.mark.parametrize("test", quoted(3))
def test_test_exists(test):
    file, name = test.split("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def covered(rows):
    """The numbers of equations in the first column."""
    numbers = set()
    for item in (item for row in rows for item in row[0].strip().split(", ")):
        match = re.fullmatch(r"(S\.I\.|S\.|)(\d+)(?:-\1(\d+))?", item)
        if match:
            prefix, first, last = match.groups()
            numbers |= {f"{prefix}{i}" for i in range(int(first), int(last or first) + 1)}
    return numbers


def test_every_equation_has_a_row():
    ko, huh = PAPERS
    assert covered(ko) == {str(i) for i in range(1, 25)} | {f"S.{i}" for i in range(1, 180)}
    assert covered(huh) == {str(i) for i in range(1, 22)} | {f"S.I.{i}" for i in range(1, 17)}


def test_s90_pseudo_inverse_of_the_layerwise_matrix():
    """G^+ = N S^T (S S^T)^-1 (Sigma (x) I)^-1 (S S^T)^-1 S."""
    p, Sigma = problem((6, 7, 7, 1), sigma_b=0.5), np.array([[2, 0.5, 0], [0.5, 1.5, -0.3], [0, -0.3, 1]])
    layers = np.repeat(np.arange(3), [M * k for M, k in p.net.shapes])  # of each parameter
    S = np.concatenate([p.J * (layers == l) for l in range(3)])
    right = np.linalg.solve(S @ S.T, S)
    G = host(rn.Layerwise(Sigma).matrix(p.s))
    pseudo_inverse = host(rn.inverse_power(on(G), rcond=1e-12))
    assert_close(pseudo_inverse, 4 * right.T @ np.linalg.solve(np.kron(Sigma, np.eye(4)), right), condition(G))


@pytest.mark.parametrize(("a", "b"), [(2.0, 0.7), (3.0, -1.0), (1.0, 1.0)])
def test_s93_sum_of_the_inverse_of_a_tridiagonal_matrix(a, b):
    for L in (3, 4, 6, 7):
        r, r_ = ((a + sign * np.sqrt(a * a - 4 * b * b + 0j)) / (2 * b) for sign in (1, -1))
        sigma_1 = (r**L - r_**L) / (r ** (L + 1) - r_ ** (L + 1)) / b
        sigma_2 = (-1) ** (L + 1) * (r - r_) / (r ** (L + 1) - r_ ** (L + 1)) / b
        s = (1 + b * (sigma_1 + sigma_2)) / (a + 2 * b)
        fisher = rn.Layerwise(a * np.eye(L) + b * (np.eye(L, k=1) + np.eye(L, k=-1)))
        alpha = fisher.alpha(rn.Network((100,) * L + (1,)), 10)
        assert alpha == pytest.approx((L + 2 * b * s) / (a + 2 * b), rel=1e-12)


@pytest.mark.parametrize("fisher", [rn.BlockDiagonal(), rn.BlockTridiagonal()], ids=str)
def test_s127_stationary_point_of_the_ridge(fisher):
    """lambda G_0 theta = J_0^T (y - J_0 theta) / N for theta = G_0^-1 J_0^T y / N / (lambda + alpha)."""
    p, ridge = problem((8, 12, 12, 1)), 0.3
    theta = host(rn.flatten(fisher.direction(p.s, p.e))) / (ridge + fisher.alpha(p.net, 4))
    G, gradient = host(fisher.matrix(p.s)), p.J.T @ (host(p.e).ravel() - p.J @ theta) / 4
    assert_close(ridge * G @ theta, gradient, condition(G))


def test_theorem_5_1_damping_is_not_small():
    """At rho = M^(-1/12) a wide network's unit-wise Theta_bar is Theta / rho, with none of the alpha of (24) left."""
    M, rng = 1024, generator()
    net = rn.Network((50, M, M, 1), rn.tanh)
    s = net.signals(on(net.init(rng)), on(rng.standard_normal((5, 50)) / 50**0.5))
    rho, Theta_bar = M ** (-1 / 12), {}
    for damping in (0.0, rho):
        Theta_bar[damping] = host(rn.Unitwise().coefficient(s, s, damping))
    np.testing.assert_allclose(Theta_bar[0.0], (2 * M + 1) * np.eye(5), rtol=0, atol=1e-6 * M)
    Theta = host(rn.ntk(s, s))
    assert np.linalg.norm(rho * Theta_bar[rho] - Theta) < 0.05 * np.linalg.norm(Theta)


def test_huh_15_half_the_change_of_c_times_m_holds_for_symmetric_m():
    """dw . null(m) = c' . m / 2, c' the change of c_1 along any dw; for antisymmetric m the right side is 0."""
    rng = generator()
    w, dw = ([rng.standard_normal(shape) for shape in ((4, 3), (2, 4))] for _ in range(2))
    m, h = rng.standard_normal((4, 4)), 1e-6
    up, down = ([a + sign * h * b for a, b in zip(w, dw, strict=True)] for sign in (1, -1))
    change = (deep_linear.conserved(up)[0] - deep_linear.conserved(down)[0]) / (2 * h)
    for half, symmetric in ((m + m.T, True), (m - m.T, False)):
        dot = sum((a * b).sum() for a, b in zip(dw, deep_linear.null_update(w, [half]), strict=True))
        assert abs(dot) > 1
        assert (abs(dot - (change * half).sum() / 2) < 1e-7) == symmetric
