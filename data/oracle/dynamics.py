"""Predictions, training, cross-entropy, isotropy constants and the Forster transform: THEORY 3, 7, 8."""

from mpmath import mp

from . import fisher, network
from . import linalg as la
from .fisher import Approximation, named, softmax, trained
from .kernels import limits, live_share, order_parameters, products, summed
from .network import Net, differencing


def predict(Theta_bar, cross, f0, f0_test, y, eta, t):
    """f_t by t literal steps f <- f - eta Theta_bar (f - y), or their limit for t = inf; K&O (10).

    R = eta sum_{s<t} (y - f_s) sums up the way, and f_t(x') = f_0(x') + Theta_bar(x', x) R.
    """
    C = len(f0[0])
    error = [[v] for row in la.add(y, f0, -1) for v in row]
    if mp.isinf(t):
        R = la.matmul(la.power(Theta_bar, -1), error)
    else:
        R = [[mp.mpf(0)] for _ in error]
        for _ in range(int(t)):
            R = la.add(R, error, eta)
            error = la.add(error, la.matmul(Theta_bar, error), -eta)

    def moved(f, T):
        v = [row[0] for row in la.matmul(T, R)]
        return [[a + v[n * C + c] for c, a in enumerate(row)] for n, row in enumerate(f)]

    return moved(f0, Theta_bar), moved(f0_test, cross)


def prediction(inputs, attrs, full):
    train, test = (trained(inputs, attrs, x)[2] for x in ("x", "x_test"))
    steps = fisher.basis_steps(Approximation.of(attrs, inputs), train)
    Theta_bar, cross = la.matmul(train.J, steps), la.matmul(test.J, steps)
    eta, t = mp.mpf(attrs["eta"]), mp.mpf(attrs["t"])
    f_train, f_test = predict(Theta_bar, cross, train.f, test.f, inputs["y"], eta, t)
    return {"f_train": f_train, "f_test": f_test}, {}


def wide_training(inputs, attrs, full):
    """The mean of f_t(x') at infinite width, where f_0 has the mean 0 and Theta (N, N) is that of every output."""
    x, x_test, y = inputs["x"], inputs["x_test"], inputs["y"]
    own, cross = (summed(products(*limits(attrs, x1, x, same=x1 is x), len(x))) for x1 in (x, x_test))
    zero, none = ([[mp.mpf(0)] for _ in rows] for rows in (x, x_test))
    eta, t = mp.mpf(attrs["eta"]), mp.mpf(attrs["t"])
    columns = [predict(own, cross, zero, none, [[v] for v in column], eta, t)[1] for column in la.transpose(y)]
    return {"f_test": [[column[n][0] for column in columns] for n in range(len(x_test))]}, {}


def loss_value(attrs, f, y):
    """1/(2N) sum ||f - y||^2, or the mean of -log softmax(f)[class]."""
    if attrs.get("loss", "mse") == "mse":
        return mp.fsum((a - b) ** 2 for rows in zip(f, y, strict=True) for a, b in zip(*rows, strict=True)) / 2 / len(f)
    return -mp.fsum(
        b * mp.log(p) for f_n, y_n in zip(f, y, strict=True) for p, b in zip(softmax(f_n), y_n, strict=True)
    ) / len(f)


def training(inputs, attrs, full):
    """W <- W - eta direction, literally, `steps` times."""
    net, W, _ = trained(inputs, attrs)
    a, frozen, values = Approximation.of(attrs, inputs), attrs.get("frozen", 0), []
    for _ in range(attrs["steps"]):
        s = network.signals(net, W, inputs["x"]).without(frozen)
        values.append(loss_value(attrs, s.f, inputs["y"]))
        e, H = fisher.loss_terms(attrs, s.f, inputs["y"])
        W = network.moved(W, fisher.step(a, s, H, e), s.index, mp.mpf(attrs["eta"]))
    values.append(loss_value(attrs, network.forward(net, W, inputs["x"]), inputs["y"]))
    return {**named("W", W, 1), "loss": values}, {}


def batch_training(inputs, attrs, full):
    """The same in batches: row k of `order` is the order of the samples in epoch k, of which `batch` a step are taken.

    The losses are those of the batch that the next step takes.
    """
    net, W, _ = trained(inputs, attrs)
    a, frozen, values = Approximation.of(attrs, inputs), attrs.get("frozen", 0), []
    batches = []
    for epoch in inputs["order"]:
        rows = [int(mp.nint(n)) for n in epoch]
        batches += [rows[k : k + attrs["batch"]] for k in range(0, len(rows), attrs["batch"])]
    for t, rows in enumerate(batches[: attrs["steps"] + 1]):
        x, y = ([inputs[name][n] for n in rows] for name in ("x", "y"))
        s = network.signals(net, W, x).without(frozen)
        values.append(loss_value(attrs, s.f, y))
        if t < attrs["steps"]:
            e, H = fisher.loss_terms(attrs, s.f, y)
            W = network.moved(W, fisher.step(a, s, H, e), s.index, mp.mpf(attrs["eta"]))
    return {**named("W", W, 1), "loss": values}, {}


def linearized_training(inputs, attrs, full):
    """f of both sets after `steps` steps of the network with its first J, (S.24): e and H follow f."""
    train, test = (trained(inputs, attrs, x)[2] for x in ("x", "x_test"))
    a, C, f, f_test = Approximation.of(attrs, inputs), train.size[1], train.f, test.f
    for _ in range(attrs["steps"]):
        e, H = fisher.loss_terms(attrs, f, inputs["y"])
        theta = fisher.step(a, train, H, e)
        f, f_test = (
            la.add(v, [change[k : k + C] for k in range(0, len(change), C)], -mp.mpf(attrs["eta"]))
            for v, change in ((f, la.matvec(train.J, theta)), (f_test, la.matvec(test.J, theta)))
        )
    return {"f_train": f, "f_test": f_test}, {}


def dynamics(inputs, attrs, full):
    """K&O (10) with a given Theta_bar, (NC, NC) or one (N, N) for all outputs, as that of infinite width."""
    f0, C = inputs["f"], len(inputs["f"][0])
    same = len(inputs["Theta_bar"]) == len(f0)
    own, cross = (la.kron(K, la.identity(C)) if same else K for K in (inputs["Theta_bar"], inputs["cross"]))
    eta, t = mp.mpf(attrs["eta"]), mp.mpf(attrs["t"])
    f_train, f_test = predict(own, cross, f0, inputs["f_test"], inputs["y"], eta, t)
    return {"f_train": f_train, "f_test": f_test}, {}


def isotropy(inputs, attrs, full):
    """Eigenvalues, alpha (their mean), ||Theta_bar - alpha I||_2 / |alpha|, the condition number, 1 / lambda_max."""
    w = sorted(la.eigenvalues(inputs["Theta_bar"]))
    alpha = mp.fsum(w) / len(w)
    deviation = max(abs(v - alpha) for v in w) / abs(alpha)
    condition = w[-1] / w[0] if w[0] > 0 else mp.inf
    return {"eigenvalues": w, "alpha": alpha, "deviation": deviation, "condition": condition, "rate": 1 / w[-1]}, {}


def cross_entropy_flow(inputs, attrs, full):
    """p_t = y + (p_0 - y) e^{-alpha eta t}, and the outputs that move the log p_t of the training set there."""
    f, y, C = inputs["f"], inputs["y"], len(inputs["f"][0])
    eta, alpha, t = (mp.mpf(attrs.get(name, 1)) for name in ("eta", "alpha", "t"))
    p0, decay = [softmax(row) for row in f], mp.exp(-alpha * eta * t)
    p = [[b + (a - b) * decay for a, b in zip(*rows, strict=True)] for rows in zip(p0, y, strict=True)]
    R = []
    for now, then in zip(p, p0, strict=True):
        change = [mp.log(a) - mp.log(b) for a, b in zip(now, then, strict=True)]
        R.append([(v - mp.fsum(change) / C) / alpha for v in change])
    cross = inputs["cross"]
    cross = la.kron(cross, la.identity(C)) if len(cross[0]) == len(f) else cross
    moves = la.matvec(cross, [v for row in R for v in row])
    f_test = la.add(inputs["f_test"], [moves[k : k + C] for k in range(0, len(moves), C)])
    return {"p": p, "R": R, "f_test": f_test}, {}


def standardise(inputs, attrs, full):
    """x less the mean of all entries of x_train, over their standard deviation."""
    values = [v for row in inputs.get("x_train", inputs["x"]) for v in row]
    mean = mp.fsum(values) / len(values)
    deviation = mp.sqrt(mp.fsum((v - mean) ** 2 for v in values) / len(values))
    return {"x": [[(v - mean) / deviation for v in row] for row in inputs["x"]]}, {}


@differencing
def loss_derivatives(step, f, y):
    """N times the first, and second, derivatives of the loss with respect to f_n, by differences."""
    attrs, C = {"loss": "cross-entropy"}, len(f[0])

    def moved(f_n, y_n, bumps):
        row = list(f_n)
        for c, t in bumps:
            row[c] += t
        return loss_value(attrs, [row], [y_n])

    first, second, h = [], [], step ** (mp.mpf(1) / 2)
    for f_n, y_n in zip(f, y, strict=True):
        g = [(moved(f_n, y_n, [(c, h)]) - moved(f_n, y_n, [(c, -h)])) / (2 * h) for c in range(C)]
        first.append(g)
        second.append(
            [
                [
                    (
                        moved(f_n, y_n, [(c, h), (d, h)])
                        - moved(f_n, y_n, [(c, h), (d, -h)])
                        - moved(f_n, y_n, [(c, -h), (d, h)])
                        + moved(f_n, y_n, [(c, -h), (d, -h)])
                    )
                    / (4 * h * h)
                    for d in range(C)
                ]
                for c in range(C)
            ]
        )
    return first, second


def cross_entropy(inputs, attrs, full):
    """Its value, residual p - y, Hessian Lambda_n, and dp/dt (S.168) where Theta_bar = alpha I."""
    f, y, rho = inputs["f"], inputs["y"], mp.mpf(attrs.get("loss_rho", 0))
    residual, hessian = loss_derivatives(f, y)
    velocity = []
    for g, Lambda in zip(residual, hessian, strict=True):
        solved = la.apply_power(Lambda, rho, 1, [[-v] for v in g])
        velocity.append([mp.mpf(attrs.get("alpha", 1)) * row[0] for row in la.matmul(Lambda, solved)])
    value = loss_value({"loss": "cross-entropy"}, f, y)
    return {"value": value, "residual": residual, "hessian": hessian, "velocity": velocity}, {}


def inverse_power(inputs, attrs, full):
    K, rho, q = inputs["K"], mp.mpf(attrs.get("rho", 0)), mp.mpf(attrs.get("q", 1))
    return {"power": la.power(la.damped(K, rho), -1 / q)}, {}


def range_of_power(inputs, attrs):
    return la.condition(la.damped(inputs["K"], mp.mpf(attrs.get("rho", 0))))


def normalised(Y):
    return [[v / la.norm(row) for v in row] for row in Y]


def unit_norm(inputs, attrs, full):
    return {"x": normalised(inputs["x"])}, {}


def forster(inputs, attrs, full):
    """Y Y^T at the fixed point of A <- A S^{-1/2}, S = (M_0 / N) Y^T Y, Y = unit_norm(x A): K&O B.3.

    S^{-1/2} is replaced by L^{-T}, S = L L^T, which turns Y by a rotation that Y Y^T does not see.
    """
    x = inputs["x"]
    N, M = len(x), len(x[0])
    Y = normalised(x)
    for _ in range(20000):
        S = la.scale(la.matmul(la.transpose(Y), Y), mp.mpf(M) / N)
        if la.norm([v for row in la.add(S, la.identity(M), -1) for v in row]) < mp.mpf(10) ** (3 - mp.dps):
            return {"gram": la.matmul(Y, la.transpose(Y))}, {}
        Y = normalised(la.transpose(la.solve(cholesky(S), la.transpose(Y))))
    raise ArithmeticError("the Forster iteration has not converged")


def gram_of_inputs(inputs, attrs):
    return la.condition(la.matmul(la.transpose(inputs["x"]), inputs["x"]))


def cholesky(S):
    """Lower triangular L with L L^T = S."""
    n = len(S)
    L = [[mp.mpf(0)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = S[i][j] - mp.fsum(L[i][k] * L[j][k] for k in range(j))
            L[i][j] = mp.sqrt(rest) if i == j else rest / L[j][j]
    return L


def alpha(inputs, attrs, full):
    """The isotropy constant, read off Theta_bar of one network with n samples; the wide limit for units (S.128)."""
    widths, n = attrs["widths"], attrs["n"]
    if attrs["fisher"] == "Unitwise":
        norm = mp.fsum(v * v for v in inputs["x"][0]) if "x" in inputs else mp.mpf(1)
        q = order_parameters(attrs, norm / widths[0], len(widths) - 1)
        L, fixed = len(widths) - 1, attrs.get("frozen", 0)
        fixed = range(1, fixed + 1) if isinstance(fixed, int) else fixed
        hidden = [(M, v) for l, (M, v) in enumerate(zip(widths[1:-1], q, strict=False), 1) if l not in fixed]
        return {"alpha": mp.fsum(live_share(attrs, v) * M for M, v in hidden) / widths[-1] + (L not in fixed)}, {}
    W, x = generic(widths, n, Net.of(attrs).sigma_b > 0)
    s = network.signals(Net.of(attrs), W, inputs.get("x", x)).without(attrs.get("frozen", 0))
    Theta_bar = fisher.coefficient(Approximation.of({**attrs, "rho": 0, "q": 1}, inputs), s, s)
    value = mp.fsum(Theta_bar[i][i] for i in range(len(Theta_bar))) / len(Theta_bar)
    gap = max(abs(v) for row in la.add(Theta_bar, la.identity(len(Theta_bar)), -value) for v in row)
    if gap > mp.mpf(10) ** (-mp.dps // 2):
        raise ArithmeticError(f"Theta_bar is not isotropic: it differs from alpha I by {mp.nstr(gap, 3)}")
    return {"alpha": value}, {}


def generic(widths, n, bias):
    """Weights and inputs without accidental symmetries, so that every Gram matrix that can be regular is."""

    def numbers(rows, columns, k):
        return [[mp.sin((k + 3 * i + columns * i * i + 2 * j) ** 2) for j in range(columns)] for i in range(rows)]

    W = [numbers(M, widths[l] + bias, 5 * l + 1) for l, M in enumerate(widths[1:])]
    return W, numbers(n, widths[0], 77)
