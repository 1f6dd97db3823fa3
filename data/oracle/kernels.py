"""Infinite width: order parameters, A_l, B_l, Theta_l and Theta_bar, by quadrature: THEORY 6.

E[phi(u)^2] and the like are one-dimensional integrals. For two variables, piecewise linear phi take Price's theorem,
d/dc E[phi(u) phi(v)] = E[phi'(u) phi'(v)] and its derivative, the density at the kink, integrated over the covariance
c = a b sin(theta); erf is averaged over u given v, in closed form, and then over v; tanh takes the trapezoid rule in
two independent variables, with its addition theorem. The trapezoid rule converges geometrically for analytic functions.
"""

from functools import cache, lru_cache

from mpmath import mp

from . import linalg as la
from .fisher import Approximation, multipliers, named, regular
from .network import Net, erf, remembered


@remembered
def density(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def trapezoid(function, strip):
    """E[function(z)] for z ~ N(0, 1), an even function, analytic for |Im z| < strip."""
    return mp.fsum(w * function(z) for z, w in trapezoid_nodes(mp.dps, min(strip, mp.mpf(6))))


@lru_cache(maxsize=256)
def trapezoid_nodes(dps, strip):
    """Nodes z >= 0 and weights, those of -z with them, with errors of 10^-(dps + 5), at the working precision."""
    digits = (dps + 5) * mp.log(10)
    step = 2 * mp.pi * strip / (digits + strip**2 / 2)
    reach = int(mp.ceil(mp.sqrt(2 * digits) / step))
    return [(k * step, (2 if k else 1) * step * density(k * step)) for k in range(reach + 1)]


def strip_of(net, scale):
    """phi(scale z) is analytic, and of moderate size, for |Im z| below this."""
    if net.activation == "tanh":
        return mp.pi / 2 / scale * mp.mpf("0.9")
    return 2 / scale if net.activation == "erf" else mp.mpf(6)


def kinked(net):
    return net.activation in ("relu", "shifted_relu")


def average(net, function, scale):
    """E[function(u)] for u ~ N(0, scale^2), where function is as smooth as phi, and even if that is smooth."""
    if not kinked(net):
        return trapezoid(lambda z: function(scale * z), strip_of(net, scale))
    kink, reach = -net.shift / scale, mp.sqrt(2 * (mp.dps + 5) * mp.log(10))
    ends = [-reach, 0, reach] if abs(kink) > reach else [-reach - abs(kink), kink, reach + abs(kink)]
    return mp.quad(lambda z: function(scale * z) * density(z), ends)


def live_share(attrs, q):
    """gamma = P(phi'(u) != 0) for u ~ N(0, q): the share of the density beyond the kink."""
    net = Net.of(attrs)
    if not kinked(net):
        return mp.mpf(1)
    kink = -net.shift / mp.sqrt(q)
    return mp.mpf(1) / 2 + mp.quad(density, [kink, 0])


def order_parameters(attrs, mean_square, depth):
    """q_1, .., q_depth (S.138) from ||x||^2 / M_0."""
    return _order_parameters(Net.of(attrs), mean_square, depth, mp.dps)


@lru_cache(maxsize=512)
def _order_parameters(net, mean_square, depth, dps):
    q = []
    while True:
        q.append(net.sigma_w**2 * mean_square + net.sigma_b**2)
        if len(q) == depth:
            return q
        mean_square = average(net, lambda u: net.phi(u) ** 2, mp.sqrt(q[-1]))


def derivative(net, u):
    """phi' of the smooth activations."""
    return {
        "tanh": lambda: mp.sech(u) ** 2,
        "erf": lambda: 2 / mp.sqrt(mp.pi) * mp.exp(-u * u),
        "linear": lambda: mp.mpf(1),
    }[net.activation]()


@remembered
def dual(net, a, b, c):
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for variances a^2, b^2 and covariance c."""
    if net.activation == "linear":
        return c, mp.mpf(1)
    if kinked(net):
        return price(net, a, b, c)
    if parallel(a, b, c):
        ratio = mp.sign(c) * b / a
        return tuple(
            trapezoid(lambda z, g=g: g(net, a * z) * g(net, ratio * a * z), strip_of(net, max(a, b)))
            for g in (Net.phi, derivative)
        )
    return erf_dual(a, b, c) if net.activation == "erf" else tanh_dual(a, b, c)


def price(net, a, b, c):
    """By d A / dc = Xi, d Xi / dc = the joint density at the kink, from c = 0."""
    s = net.shift
    theta = mp.sign(c) * mp.pi / 2 if parallel(a, b, c) else mp.asin(c / (a * b))

    @cache
    def at_kink(t):  # the density times a b cos(t), so that it is integrated over t
        if s == 0:
            return 1 / (2 * mp.pi)
        if mp.sin(t) == -1:
            return mp.mpf(0)
        gap = (s / a - s / b) ** 2
        apart = gap / (2 * mp.cos(t) ** 2) if gap else mp.mpf(0)
        return mp.exp(-apart - s * s / (a * b) / (1 + mp.sin(t))) / (2 * mp.pi)

    tails = [live_share({"activation": "shifted_relu", "shift": s}, v**2) for v in (a, b)]
    means = [average(net, net.phi, v) for v in (a, b)]
    Xi = tails[0] * tails[1] + mp.quad(at_kink, [0, theta])
    moment = mp.quad(lambda t: (c - a * b * mp.sin(t)) * at_kink(t), [0, theta])
    return means[0] * means[1] + c * tails[0] * tails[1] + moment, Xi


def parallel(a, b, c):
    """Whether the correlation is 1 or -1, but for rounding, which arcsin would magnify."""
    return a * b - abs(c) < mp.mpf(10) ** (10 - mp.dps) * a * b


def erf_dual(a, b, c):
    """Averages of E[phi(u) | v], which is another erf, and of E[phi'(u) | v], over v = b z."""
    spread = 1 + 2 * (a * a - (c / b) ** 2)
    slope = c / b / mp.sqrt(spread)
    strip = 2 / max(b, slope)
    A = trapezoid(lambda z: erf(slope * z) * erf(b * z), strip)
    Xi = trapezoid(lambda z: mp.exp(-((slope * z) ** 2) - (b * z) ** 2), strip)
    return A, 4 / mp.pi / mp.sqrt(spread) * Xi


def tanh_dual(a, b, c):
    """Over u = a z_1 and v = (c / a) z_1 + r z_2 = p + q, first over q and -q together.

    With P = tanh p and T = tanh^2 q the mean of tanh(p +- q) is P (1 - T) / (1 - P^2 T), and that of sech^2(p +- q)
    is (1 - P^2) (1 - T) (2 / (1 - P^2 T)^2 - 1 / (1 - P^2 T)).
    """
    r = mp.sqrt(b * b - (c / a) ** 2)
    strips = mp.pi / 2 / max(a, abs(c / a)), mp.pi / 2 / r
    first, second = (trapezoid_nodes(mp.dps, min(s * mp.mpf("0.9"), mp.mpf(6))) for s in strips)
    squares, weights = [mp.tanh(r * z) ** 2 for z, _ in second], [w for _, w in second]
    ends = [w * (1 - t) for w, t in zip(weights, squares, strict=True)]
    A, Xi, one = [], [], mp.mpf(1)
    for z, weight in first:
        u, p = mp.tanh(a * z), mp.tanh(c / a * z)
        square = p * p
        parts = [one / (one - square * t) for t in squares]
        mean, slope = mp.fdot(ends, parts), mp.fdot(ends, [x * x for x in parts])
        A.append(weight * u * p * mean)
        Xi.append(weight * (1 - u * u) * (1 - square) * (2 * slope - mean))
    return mp.fsum(A), mp.fsum(Xi)


def limits(attrs, x1, x, same=False):
    """A_0, .., A_{L-1} and B_1, .., B_L (N', N): limits of h' h^T and delta' delta^T."""
    net, depth, M = Net.of(attrs), attrs["depth"], len(x[0])
    q1, q = ([order_parameters(attrs, mp.fsum(v * v for v in row) / M, depth) for row in rows] for rows in (x1, x))
    shape = range(len(x1)), range(len(x))
    A = [[[mp.mpf(0) for _ in shape[1]] for _ in shape[0]] for _ in range(depth)]
    Xi = [[[mp.mpf(0) for _ in shape[1]] for _ in shape[0]] for _ in range(depth - 1)]
    for i in shape[0]:
        for j in shape[1]:
            if same and j < i:
                continue
            value = mp.fdot(x1[i], x[j]) / M
            for l in range(depth):
                A[l][i][j] = net.sigma_w**2 * value + net.sigma_b**2
                if l < depth - 1:
                    a, b = mp.sqrt(q1[i][l]), mp.sqrt(q[j][l])
                    value, Xi[l][i][j] = dual(net, a, b, A[l][i][j])
    if same:
        for matrix in A + Xi:
            for i in shape[0]:
                for j in range(i):
                    matrix[i][j] = matrix[j][i]
    B = [[[mp.mpf(1) for _ in shape[1]] for _ in shape[0]]]
    for Xi_l in reversed(Xi):
        B.insert(
            0, [[net.sigma_w**2 * a * b for a, b in zip(*rows, strict=True)] for rows in zip(Xi_l, B[0], strict=True)]
        )
    return A, B


def products(A, B, N):
    """Theta_l = B_l * A_{l-1} / N."""
    return [
        [[a * b / N for a, b in zip(*rows, strict=True)] for rows in zip(A_l, B_l, strict=True)]
        for A_l, B_l in zip(A, B, strict=True)
    ]


def summed(matrices):
    total = matrices[0]
    for matrix in matrices[1:]:
        total = la.add(total, matrix)
    return total


def kernels(inputs, attrs, full):
    x = inputs["x"]
    A, B = limits(attrs, inputs.get("x_test", x), x, same="x_test" not in inputs)
    return {**named("A", A, 0), **named("B", B, 1), "Theta": summed(products(A, B, len(x)))}, {}


def kernel_coefficient(inputs, attrs, full):
    """Theta_bar(x', x) (N', N) from the limits: layer-wise by the coupled system, K-FAC by (21), (S.96)."""
    x, a = inputs["x"], Approximation.of(attrs, inputs)
    N = len(x)
    A, B = limits(attrs, x, x, same=True)
    A1, B1 = limits(attrs, inputs["x_test"], x)
    cross = products(A1, B1, N)
    if a.name == "KFAC":
        return {"Theta_bar": kfac_coefficient(a, A, B, A1, B1, Net.of(attrs).bias)}, {}
    if a.name == "Identity" or mp.isinf(a.q):
        return {"Theta_bar": la.scale(summed(cross), (1 + a.rho) ** (-1 / a.q))}, {}
    Theta, layers = products(A, B, N), range(1, len(A) + 1)
    if a.rho == 0 and a.coupling(layers) is not None and not all(map(regular, Theta)):
        return {"Theta_bar": coupled_coefficient(a, layers, Theta, cross)}, {}
    lam = multipliers(a, layers, Theta, la.identity(N))
    return {"Theta_bar": summed([la.matmul(T, v) for T, v in zip(cross, lam, strict=True)])}, {}


def coupled_coefficient(a, layers, Theta, cross):
    """With roots T_l = Theta_l^{1/2} in place of J_l / N^{1/2}: by the pseudo-inverse of G = [Sigma_lm T_l T_m]."""
    N, Sigma = len(Theta[0]), a.coupling(layers)
    roots = [la.root(K) for K in Theta]
    blocks = [[la.scale(la.matmul(S, T), Sigma[l][m]) for m, T in enumerate(roots)] for l, S in enumerate(roots)]
    G = [[v for block in row for v in block[i]] for row in blocks for i in range(N)]
    d = la.matmul(la.power(G, -1 / a.q), [row for T in roots for row in T])
    parts = [la.matmul(la.power(T, -1), d[l * N : (l + 1) * N]) for l, T in enumerate(roots)]
    return summed([la.matmul(T, lam) for T, lam in zip(cross, parts, strict=True)])


def worst_gram(inputs, attrs):
    """The largest condition number of the Gram matrices that Theta_bar takes the inverse of."""
    a, x = Approximation.of(attrs, inputs), inputs["x"]
    if a.name == "Identity" or mp.isinf(a.q):
        return mp.mpf(1)
    A, B = limits(attrs, x, x, same=True)
    Theta = products(A, B, len(x))
    if a.name == "Exact":
        Theta = [summed(Theta)]
    grams = [la.scale(K, mp.mpf(1) / len(x)) for K in A + B[:-1]] if a.name == "KFAC" else Theta
    if a.name == "KFAC" and a.kfac_damping == "product":
        grams = [
            la.kron(B_l, A_l)
            for A_l, B_l in zip(grams, [*grams[len(A) :], la.identity(1, mp.mpf(1) / len(x))], strict=False)
        ]
    return max(la.condition(la.damped(K, a.rho)) for K in grams)


def kfac_coefficient(a, A, B, A1, B1, bias):
    """(1/N) sum_l [B_l' (B_l/N + rho)^{-1/q}] * [A_{l-1}' (A_{l-1}/N + rho)^{-1/q}], and the biases' blocks."""
    N, terms = len(A[0]), []

    def factor(cross, K, n):
        return la.transpose(la.apply_power(la.scale(K, mp.mpf(1) / n), a.rho, a.q, la.transpose(cross)))

    for l, (A_l, B_l, A1_l, B1_l) in enumerate(zip(A, B, A1, B1, strict=True), 1):
        if a.kfac_bias == "separate" and bias:
            A_l, A1_l = ([[v - bias**2 for v in row] for row in K] for K in (A_l, A1_l))
            terms.append(la.scale(factor(la.scale(B1_l, bias**2), la.scale(B_l, bias**2 / N), N), mp.mpf(1) / N))
        fixed = l == len(A) and a.kfac_last == "identity"
        if a.kfac_damping == "product":
            terms.append(kfac_of_product(a, A_l, la.identity(1) if fixed else B_l, A1_l, B1_l))
            continue
        left = la.scale(B1_l, (mp.mpf(1) / N + a.rho) ** (-1 / a.q)) if fixed else factor(B1_l, B_l, N)
        terms.append(products([factor(A1_l, A_l, N)], [left], N)[0])
    return summed(terms)


def kfac_of_product(a, A, B, A1, B1):
    """With roots D of B and H of A, G = (D (x) H)^T (D (x) H) / N^2 + rho, and D_n (x) H_n is a row of D (x) H.

    Where B* is I / N, D is 1 for every sample: B is (1, 1).
    """
    N, fixed = len(A), len(B) < len(A)
    K = la.scale(la.kron(B, A), mp.mpf(1) / N**2)
    rows = [[b * v for b in ([mp.mpf(1)] if fixed else b_n) for v in a_n] for a_n, b_n in zip(A1, B1, strict=True)]
    own = [[mp.mpf(i == n if fixed else i == n * N + n) for n in range(N)] for i in range(len(K))]
    return la.scale(la.matmul(rows, la.apply_power(K, a.rho, a.q, own)), mp.mpf(1) / N)


def order(inputs, attrs, full):
    mean_square = mp.mpf(attrs.get("norm", 1)) ** 2 / attrs["M_0"]
    return {"q": order_parameters(attrs, mean_square, attrs["depth"])}, {}


def averages(inputs, attrs, full):
    """E[phi phi], E[phi' phi'] for u, v of standard deviations a, b at an angle theta, and at theta = 0 of u alone."""
    net, a, b = Net.of(attrs), inputs["a"], inputs["b"]
    cosines = inputs["r"] if "r" in inputs else [[mp.cos(t) for t in row] for row in inputs["theta"]]
    pairs = [
        [dual(net, s, t, s * t * r) for t, r in zip(b, row, strict=True)] for s, row in zip(a, cosines, strict=True)
    ]
    squares = [average(net, lambda u: net.phi(u) ** 2, s) for s in a]
    slopes = [
        live_share(attrs, s * s) if kinked(net) else average(net, lambda u: derivative(net, u) ** 2, s) for s in a
    ]
    A, Xi = ([[pair[k] for pair in row] for row in pairs] for k in (0, 1))
    return {"A": A, "Xi": Xi, "mean_square": squares, "mean_square_derivative": slopes}, {}


def angles(inputs, attrs, full):
    """1 - rho and 1 - rho^2, rho = E[phi(u) phi(v)] / sqrt(E[phi(u)^2] E[phi(v)^2]), of pairs as in `averages`."""
    net, gaps = Net.of(attrs), []
    for a, b, theta in zip(inputs["a"], inputs["b"], inputs["theta"], strict=True):
        sizes = [average(net, lambda u: net.phi(u) ** 2, s) for s in (a, b)]
        gaps.append(1 - dual(net, a, b, a * b * mp.cos(theta))[0] / mp.sqrt(sizes[0] * sizes[1]))
    return {"gap": gaps, "square": [gap * (2 - gap) for gap in gaps]}, {}


def gamma(inputs, attrs, full):
    return {"gamma": live_share(attrs, mp.mpf(attrs["q"]))}, {}
