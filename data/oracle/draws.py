"""What is made of normal numbers Z: initial weights, and the outputs of infinitely wide networks, THEORY 1, 7."""

from mpmath import mp

from . import linalg as la
from .dynamics import predict
from .fisher import named
from .network import Net


def draws(inputs):
    return [inputs[f"Z_{l}"] for l in range(1, 1 + len(inputs)) if f"Z_{l}" in inputs]


def init(inputs, attrs, full):
    """W = Z for "ntk"; "standard": times sigma_w / sqrt(M), the biases times sigma_b: K&O (2)."""
    net = Net.of(attrs)
    if net.parameterization == "ntk":
        return named("W", draws(inputs), 1), {}
    W, sigma_w = [], net.sigma_w if "sigma_w" in attrs else mp.sqrt(2)
    for Z in draws(inputs):
        M = len(Z[0]) - (net.sigma_b > 0)
        factors = [sigma_w / mp.sqrt(M)] * M + [net.sigma_b] * (len(Z[0]) - M)
        W.append([[a * z for a, z in zip(factors, row, strict=True)] for row in Z])
    return named("W", W, 1), {}


def semi_orthogonal(inputs, attrs, full):
    """W of `gain` times the Q of Z = Q R, R_jj > 0, or its transpose where there are more inputs, and biases of 0."""
    net, W = Net.of(attrs), []
    for M, Z in zip(attrs["widths"], draws(inputs), strict=False):
        Q = orthonormalised(Z)
        rows = Q if len(Z[0]) == M else la.transpose(Q)
        W.append([[mp.mpf(attrs.get("gain", 1)) * v for v in row] + [mp.mpf(0)] * (net.sigma_b > 0) for row in rows])
    return named("W", W, 1), {}


def orthonormalised(Z):
    """The columns of Z, each less its part along those before it, over its norm."""
    columns = []
    for z in la.transpose(Z):
        for q in columns:
            share = mp.fdot(q, z)
            z = [a - share * b for a, b in zip(z, q, strict=True)]
        size = la.norm(z)
        columns.append([a / size for a in z])
    return la.transpose(columns)


def gaussian_outputs(inputs, attrs, full):
    """K^{1/2} Z with the symmetric root."""
    return {"f": la.matmul(la.power(inputs["K"], mp.mpf(1) / 2), inputs["Z"])}, {}


def predictive(inputs, attrs, full):
    """Mean and covariance of f_t(x') over f_0 ~ N(0, K): f_t is linear in f_0, whose unit vectors it is asked for."""
    own, cross, K, y = (inputs[name] for name in ("Theta_bar", "cross", "K", "y"))
    eta, t, N, tests = mp.mpf(attrs["eta"]), mp.mpf(attrs["t"]), len(own), len(cross)
    zero, none = [[mp.mpf(0)] for _ in range(N)], [[mp.mpf(0)] for _ in range(tests)]
    mean = [
        predict(own, cross, zero, none, [[v] for v in column], eta, t)[1] for column in la.transpose(y)
    ]  # C times (N', 1)
    T = []
    for k in range(tests + N):
        f0 = [[mp.mpf(k == i)] for i in range(tests + N)]
        T.append([v for (v,) in predict(own, cross, f0[tests:], f0[:tests], zero, eta, t)[1]])
    covariance = la.matmul(la.transpose(T), la.matmul(K, T))
    return {"mean": [[column[n][0] for column in mean] for n in range(tests)], "covariance": covariance}, {}
