"""`refngd.definitions`, one function an operation. It checks no argument, so the must-fail cases are not for it.

Of the rest of the package it takes what no definition gives in a few lines: Gaussian averages, and Huh (17) in time.
"""

from itertools import count

import numpy as np

from ... import activations, modes
from ... import definitions as d

Arrays = dict[str, np.ndarray]


def run(op: str, inputs: Arrays, attrs: dict) -> Arrays:
    """The outputs of an operation."""
    if op not in OPERATIONS:
        raise NotImplementedError(op)
    dtype = next((a.dtype for a in inputs.values()), np.dtype(float))
    return {name: np.asarray(a, dtype) for name, a in OPERATIONS[op](inputs, attrs).items()}


def numbered(prefix: str, arrays, first: int | list[int] = 1) -> Arrays:
    """{"W_1": .., "W_2": .., ..} from the `first` number on, or with a list of numbers."""
    return {f"{prefix}_{l}": a for l, a in zip(count(first) if isinstance(first, int) else first, arrays, strict=False)}


def listed(prefix: str, arrays: Arrays) -> list[np.ndarray]:
    """The inverse of `numbered`."""
    return [arrays[f"{prefix}_{l}"] for l in range(1, 1 + len(arrays)) if f"{prefix}_{l}" in arrays]


def net(attrs: dict) -> d.Net:
    name = attrs["activation"]
    activation = d.shifted_relu(attrs["shift"]) if name == "shifted_relu" else getattr(d, name)
    return d.Net(activation, attrs["sigma_w"], attrs["sigma_b"], attrs.get("parameterization", "ntk"))


def fisher(inputs: Arrays, attrs: dict) -> d.Fisher:
    options = {key: attrs[f"kfac_{key}"] for key in ("bias", "last", "damping") if f"kfac_{key}" in attrs}
    return d.Fisher(attrs["fisher"], inputs.get("Sigma"), **options, rcond=attrs.get("rcond"))


def power(attrs: dict) -> dict:
    return {name: attrs[name] for name in ("rho", "q") if name in attrs}


def loss(attrs: dict) -> dict:
    return {"loss": attrs.get("loss", "mse"), "loss_rho": attrs.get("loss_rho", 0.0)}


def trained(inputs: Arrays, attrs: dict, x: str = "x") -> d.Signals:
    return d.signals(net(attrs), listed("W", inputs), inputs[x], attrs.get("frozen", 0))


def signals(inputs, attrs):
    s = trained(inputs, attrs)
    return {"f": s.f, **numbered("h", s.h, [l - 1 for l in s.layers]), **numbered("delta", s.delta, s.layers)}


def flatten(inputs, attrs):
    W = listed("W", inputs)
    return {"theta": d.flatten(W), **numbered("V", d.unflatten(inputs["theta"], [w.shape for w in W]))}


def centred(inputs, attrs):
    s = trained(inputs, attrs)
    f, *delta = (a - a.mean(1, keepdims=True) for a in (s.f, *s.delta))
    return {"f": f, **numbered("h", s.h, 0), **numbered("delta", delta)}


def init(inputs, attrs):
    """K&O (2)."""
    W = listed("Z", inputs)
    if attrs.get("parameterization", "ntk") == "standard":
        sigma_w, sigma_b = attrs.get("sigma_w", 2**0.5), attrs.get("sigma_b", 0.0)
        for w in W:
            M = w.shape[1] - (sigma_b > 0)
            w[:, :M] *= sigma_w / np.sqrt(M)
            w[:, M:] *= sigma_b
    return numbered("W", W)


def semi_orthogonal(inputs, attrs):
    """Huh S.I.3."""
    W, bias, gain = [], int(attrs.get("sigma_b", 0) > 0), attrs.get("gain", 1.0)
    for M, Z in zip(attrs["widths"][1:], listed("Z", inputs), strict=True):
        Q, R = np.linalg.qr(Z)
        Q = gain * Q * np.sign(np.diag(R))
        W.append(np.concatenate([Q if len(Q) == M else Q.T, np.zeros((M, bias), Z.dtype)], axis=1))
    return numbered("W", W)


def fisher_matrix(inputs, attrs):
    s = trained(inputs, attrs)
    if "y" in inputs:
        s, _ = d.whiten(s, inputs["y"], **loss(attrs))
    return {"G": d.matrix(s, fisher(inputs, attrs), attrs.get("rho", 0.0))}


def direction(inputs, attrs):
    s, e = d.whiten(trained(inputs, attrs), inputs["y"], **loss(attrs))
    return numbered("dW", d.direction(s, e, fisher(inputs, attrs), **power(attrs)), s.layers)


def coefficient(inputs, attrs):
    test, train = (trained(inputs, attrs, x) for x in ("x_test", "x"))
    if "y" not in inputs:
        return {"Theta_bar": d.coefficient(test, train, fisher(inputs, attrs), **power(attrs))}
    white, _ = d.whiten(train, inputs["y"], **loss(attrs))
    R, (N, C) = d.hessian_root(train.f), train.f.shape
    Theta_bar = d.coefficient(test, white, fisher(inputs, attrs), **power(attrs)).reshape(-1, N, C)
    roots = [d.inverse_power(R_n.T @ R_n, attrs["loss_rho"], 2) for R_n in R]  # H_n^{-1/2}
    return {"Theta_bar": np.einsum("anc,ncd->and", Theta_bar, roots).reshape(-1, N * C)}


def training(inputs, attrs):
    problem = net(attrs), listed("W", inputs), inputs["x"], inputs["y"], fisher(inputs, attrs)
    options = {**power(attrs), **loss(attrs), "frozen": attrs.get("frozen", 0)}
    W, losses = d.training(*problem, attrs["eta"], attrs["steps"], **options)
    return {**numbered("W", W), "loss": losses}


def prediction(inputs, attrs):
    test, train = (trained(inputs, attrs, x) for x in ("x_test", "x"))
    problem = test, train, inputs["y"], fisher(inputs, attrs)
    f_train, f_test = d.prediction(*problem, attrs["eta"], attrs["t"], **power(attrs))
    return {"f_train": f_train, "f_test": f_test}


def batch_training(inputs, attrs):
    steps, size, batches = attrs["steps"], attrs["batch"], []
    for epoch in np.rint(inputs["order"]).astype(int):
        batches += [epoch[k : k + size] for k in range(0, len(epoch), size)]
    problem = net(attrs), listed("W", inputs), inputs["x"], inputs["y"], fisher(inputs, attrs)
    options = {**power(attrs), **loss(attrs), "frozen": attrs.get("frozen", 0)}
    W, losses = d.batch_training(*problem, attrs["eta"], batches[: steps + 1], **options)
    return {**numbered("W", W), "loss": losses}


def linearized_training(inputs, attrs):
    test, train = (trained(inputs, attrs, x) for x in ("x_test", "x"))
    problem = test, train, inputs["y"], fisher(inputs, attrs), attrs["eta"], attrs["steps"]
    return dict(zip(("f_train", "f_test"), d.linearized_training(*problem, **power(attrs), **loss(attrs)), strict=True))


def linearized(inputs, attrs):
    s = trained(inputs, attrs)
    changes = [v - w for v, w in zip(listed("V", inputs), listed("W", inputs), strict=True)]
    return {"f": s.f + d.push(s, changes)}


def empirical_kernels(inputs, attrs):
    test, train = (trained(inputs, attrs, x) for x in ("x_test", "x"))
    A = [h @ k.T for h, k in zip(test.h, train.h, strict=True)]
    C = train.f.shape[1]
    flat = [[delta.reshape(len(s.f) * C, -1) for delta in s.delta] for s in (test, train)]
    return {**numbered("A", A, 0), **numbered("B", [a @ b.T for a, b in zip(*flat, strict=True)])}


def dynamics(inputs, attrs):
    """K&O (10) through the eigenvalues of a given Theta_bar, which may serve all outputs alike."""
    own, cross, f, y, eta, t = *(inputs[name] for name in ("Theta_bar", "cross", "f", "y")), attrs["eta"], attrs["t"]
    error = (y - f).reshape(len(own), -1)
    if np.isinf(t):
        total = d.inverse_power(own) @ error
    else:
        total = 0 * error
        for _ in range(int(t)):
            total, error = total + eta * error, error - eta * own @ error
    moved = [(kernel @ total).reshape(-1, f.shape[1]) for kernel in (own, cross)]
    return {"f_train": f + moved[0], "f_test": inputs["f_test"] + moved[1]}


def predictive(inputs, attrs):
    problem = *(inputs[name] for name in ("Theta_bar", "cross", "K", "y")), attrs["eta"], attrs["t"]
    return dict(zip(("mean", "covariance"), d.predictive(*problem), strict=True))


def gaussian_outputs(inputs, attrs):
    return {"f": d.covariance_root(inputs["K"]) @ inputs["Z"]}


def isotropy(inputs, attrs):
    w = np.linalg.eigvalsh(inputs["Theta_bar"])
    alpha = w.mean()
    deviation, condition = abs(w - alpha).max() / abs(alpha), w[-1] / w[0] if w[0] > 0 else np.inf
    return {"eigenvalues": w, "alpha": alpha, "deviation": deviation, "condition": condition, "rate": 1 / w[-1]}


def cross_entropy_flow(inputs, attrs):
    f, y, alpha = inputs["f"], inputs["y"], attrs.get("alpha", 1.0)
    x = alpha * attrs["eta"] * attrs["t"]
    p0 = d.softmax(f)[0]
    p = np.exp(-x) * p0 - np.expm1(-x) * y
    change = np.where(y > 0, np.log1p(np.expm1(x) / p0), 0)  # of the target's logit, the others staying
    R = change.sum(1, keepdims=True) * (y - 1 / y.shape[1]) / alpha
    total = R.reshape(inputs["cross"].shape[1], -1)
    return {"p": p, "R": R, "f_test": inputs["f_test"] + (inputs["cross"] @ total).reshape(inputs["f_test"].shape)}


def standardise(inputs, attrs):
    train = inputs.get("x_train", inputs["x"])
    return {"x": (inputs["x"] - train.mean()) / train.std()}


def unit_norm(inputs, attrs):
    x = inputs["x"] / abs(inputs["x"]).max(1, keepdims=True)  # squares of which neither overflow nor underflow
    return {"x": x / np.linalg.norm(x, axis=1, keepdims=True)}


def gaussian(attrs):
    """E[phi phi] and the like in closed form: those of the package."""
    name = attrs["activation"]
    return activations.shifted_relu(attrs["shift"]) if name == "shifted_relu" else activations.named(name)


def kernels(inputs, attrs):
    x1, x = inputs.get("x_test", inputs["x"]), inputs["x"]
    A, B = d.wide_kernels(net(attrs), gaussian(attrs), attrs["depth"], x1, x, 0)
    return {**numbered("A", A, 0), **numbered("B", B), "Theta": sum(d.wide_ntk(A, B))}


def kernel_coefficient(inputs, attrs):
    x, problem = inputs["x"], (net(attrs), gaussian(attrs), attrs["depth"])
    cross, train = (d.wide_kernels(*problem, x1, x, 0) for x1 in (inputs["x_test"], x))
    which = *d.trained(0, attrs["depth"], attrs["sigma_b"]), attrs["depth"]
    options = attrs.get("rho", 0.0), attrs.get("q", 1)
    return {"Theta_bar": d.wide_coefficient(cross, train, fisher(inputs, attrs), *options, *which)}


def wide_training(inputs, attrs):
    x, y, problem = inputs["x"], inputs["y"], (net(attrs), gaussian(attrs), attrs["depth"])
    own, cross = (sum(d.wide_ntk(*d.wide_kernels(*problem, x1, x, 0))) for x1 in (x, inputs["x_test"]))
    K = np.zeros((len(cross) + len(x),) * 2, x.dtype)
    return {"f_test": d.predictive(own, cross, K, y, attrs["eta"], attrs["t"])[0]}


def averages(inputs, attrs):
    phi = gaussian(attrs)
    a, b = inputs["a"], inputs["b"]

    def dual(r, a, b):
        return phi.dual(r, phi.features(a), phi.features(b))

    A, Xi = dual(inputs["r"] if "r" in inputs else np.cos(inputs["theta"]), a, b)
    own = [dual(np.ones((1, 1)), s, s) for s in a[:, None]]
    squares = [[pair[k][0, 0] for pair in own] for k in (0, 1)]
    return {"A": A, "Xi": Xi, "mean_square": squares[0], "mean_square_derivative": squares[1]}


def angles(inputs, attrs):
    phi = gaussian(attrs)
    sides = [phi.features(inputs[name]) for name in ("a", "b")]
    gap, square = phi.gap(np.cos(inputs["theta"]), np.sin(inputs["theta"]), *sides)
    return {"gap": gap, "square": square}


def order_parameters(inputs, attrs):
    x = np.zeros((1, attrs["M_0"]))
    x[0, 0] = attrs.get("norm", 1.0)
    A, _ = d.wide_kernels(net(attrs), gaussian(attrs), attrs["depth"], x, x, 0)
    return {"q": [A_l[0, 0] for A_l in A]}


def alpha(inputs, attrs):
    widths, L = attrs["widths"], len(attrs["widths"]) - 1
    biases, layers = d.trained(attrs.get("frozen", 0), L, attrs["sigma_b"])
    if attrs["fisher"] != "Unitwise":
        own = sum(map(bool, biases)) if attrs.get("kfac_bias") == "separate" else 0
        sizes = layers, L, attrs["n"], attrs["activation"] == "linear", own
        lost = 0  # of the first layer of K-FAC, which has no more independent inputs
        if attrs["fisher"] == "KFAC" and "x" in inputs:
            ones = np.ones((len(inputs["x"]), int(attrs["sigma_b"] > 0 and not own)))
            lost = attrs["n"] - np.linalg.matrix_rank(np.concatenate([inputs["x"], ones], axis=1))
        return {"alpha": d.isotropy_constant(fisher(inputs, attrs), *sizes) - lost}
    norm = np.linalg.norm(inputs["x"][0]) if "x" in inputs else 1.0
    q = order_parameters({}, {**attrs, "M_0": widths[0], "norm": norm, "depth": L})["q"]
    live = [gaussian(attrs).gamma(float(q_l)) * M for q_l, M in zip(q, widths[1:-1], strict=False)]
    return {"alpha": sum(live[l - 1] for l in layers if l < L) / widths[-1] + (L in layers)}


def forster(inputs, attrs):
    """Y Y^T of Y = unit_norm(x A), A <- A S^{-1/2}, S = (M_0 / N) Y^T Y."""
    Y, (N, M_0), gap = inputs["x"].astype(float), inputs["x"].shape, np.inf
    for _ in range(3_000):  # convergence is linear
        Y = Y / np.linalg.norm(Y, axis=1, keepdims=True)
        S = Y.T @ Y * (M_0 / N)
        gap, last = np.linalg.norm(S - np.eye(M_0)), gap
        if last <= gap <= 1e-10:
            break
        Y = Y @ d.inverse_power(S, 0.0, 2)
    return {"gram": Y @ Y.T}


def cross_entropy(inputs, attrs):
    f, y, rho = inputs["f"], inputs["y"], attrs.get("loss_rho", 0.0)
    g, R = d.residual(f, y, "cross-entropy"), d.hessian_root(f)
    change = d.power_of_root(R, 1, rho, 1) @ (R @ g[:, :, None])  # (Lambda + rho I)^{-1} Lambda g
    return {
        "value": d.loss_value(f, y, "cross-entropy"),
        "residual": g,
        "hessian": R.mT @ R,
        "velocity": -attrs.get("alpha", 1.0) * change[:, :, 0],
    }


def statistics(inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    w_star = inputs["w_star"]
    white = np.eye(w_star.shape[1], dtype=w_star.dtype)
    return w_star, d.covariance_root(inputs["Sigma_x"]) if "Sigma_x" in inputs else white


def rule(attrs: dict) -> dict:
    return {key: attrs[key] for key in ("q", "block", "rho", "clip", "regularised", "rcond") if key in attrs}


def deep_linear(inputs, attrs):
    w, dw, (w_star, S) = listed("w", inputs), listed("dw", inputs), statistics(inputs)
    E, J = d.displacement(w, w_star, S), d.linear_jacobian(w, S)
    outputs = {"loss": d.linear_loss(w, w_star, S), "K": J @ J.T, **numbered("g", d.linear_pull(w, E, S))}
    if dw:
        outputs |= numbered("gn", d.linear_pull(w, d.linear_push(w, dw, S), S))
        outputs |= numbered("hv", d.hessian_product(w, dw, w_star, S))
    return {**outputs, **numbered("c", d.conserved(w))}


def deep_linear_update(inputs, attrs):
    return numbered("u", d.update(listed("w", inputs), *statistics(inputs), **rule(attrs)))


def multiplier(inputs, attrs):
    options = {key: attrs[key] for key in ("q", "rho", "rcond") if key in attrs}
    return {"Lambda": d.multiplier(listed("w", inputs), *statistics(inputs), **options)}


def deep_linear_step(inputs, attrs):
    problem = listed("w", inputs), *statistics(inputs), attrs["eta"], attrs["steps"]
    w, losses = d.descent(*problem, **rule(attrs))
    return {**numbered("w", w), "loss": losses, **numbered("c", d.conserved(w))}


def integrated(velocity, theta, times, event=None):
    """theta (times, P) under theta' = velocity(theta), to where the event is 0 if it is; and the times.

    Raises RuntimeError after 10,000 values of the velocity: no case takes a tenth of them, a wrong one may never end.
    """
    from scipy.integrate import solve_ivp

    if times[-1] == 0:
        return theta[None], times
    left = iter(range(10_000))

    def counted(_, theta):
        if next(left, None) is None:
            raise RuntimeError("the velocity is too stiff to be integrated")
        return velocity(theta)

    options = {"method": "DOP853", "t_eval": times, "rtol": 1e-13, "events": event}
    solution = solve_ivp(counted, (0.0, times[-1]), theta, atol=1e-15 * (abs(theta).max() or 1), **options)
    if solution.status < 1:
        return solution.y.T, solution.t
    return np.array([*np.transpose(solution.y), solution.y_events[0][0]]), [*solution.t, solution.t_events[0][0]]


def flow(inputs, attrs):
    w, (w_star, S), times = listed("w", inputs), statistics(inputs), inputs["times"]
    shapes, eta, goal = [w_i.shape for w_i in w], attrs.get("eta", 1.0), attrs.get("converged", 0.0)
    start = d.linear_loss(w, w_star, S)

    def velocity(theta):
        return -eta * d.flatten(d.update(d.unflatten(theta, shapes), w_star, S, **rule(attrs)))

    def excess(_, theta):
        return d.linear_loss(d.unflatten(theta, shapes), w_star, S) - goal**2 * start

    excess.terminal = True
    thetas, times = integrated(velocity, d.flatten(w), times, excess if goal * start else None)
    states = [d.unflatten(theta, shapes) for theta in thetas]
    losses = [d.linear_loss(state, w_star, S) for state in states]
    outputs = {**numbered("w", states[-1]), "loss": losses, **numbered("c", d.conserved(states[-1]))}
    return outputs | ({"t": times[-1]} if goal else {})


def sample_statistics(inputs, attrs):
    return dict(zip(("w_star", "Sigma_x", "const"), d.statistics(inputs["x"], inputs["y"]), strict=True))


def sample_loss(inputs, attrs):
    w, (w_star, Sigma_x, const) = listed("w", inputs), d.statistics(inputs["x"], inputs["y"])
    S = d.covariance_root(Sigma_x)
    return {
        "loss": d.linear_loss(w, w_star, S) + const,
        **numbered("g", d.linear_pull(w, d.displacement(w, w_star, S), S)),
    }


def euler_drift(inputs, attrs):
    w, Lambda = listed("w", inputs), inputs["Lambda"]
    u = d.linear_pull(w, Lambda, np.eye(Lambda.shape[1], dtype=Lambda.dtype))
    return {**numbered("u", u), **numbered("drift", d.euler_drift(u, attrs["h"]))}


def mode_moves(s, s_star, attrs):
    """s' (d, ..)."""
    eta = attrs.get("eta", 1.0)
    if "eps" in attrs:
        return d.damped_mode_velocity(s, s_star, attrs["eps"], eta)
    return d.mode_velocity(s, s_star, attrs.get("q", 1), attrs.get("block", False), eta)


def mode_velocity(inputs, attrs):
    invariants = d.mode_invariants(inputs["s"], attrs.get("q", 1), attrs.get("block", False))
    return {"velocity": mode_moves(inputs["s"], inputs["s_star"], attrs), "invariants": invariants}


def mode_speed(inputs, attrs):
    velocity = mode_moves(inputs["s"], inputs["s_star"], attrs)
    speed = np.where(abs(velocity).max(0) > 0, d.mode_norm(velocity), 0)
    return {"speed": speed, "product": (d.others(inputs["s"]) * velocity).sum(0)}


def mode_unbalanced(inputs, attrs):
    """Mode by mode, since each has its time."""
    s, attrs = inputs["s"], {"q": np.inf, **attrs}
    stars, times = (np.broadcast_to(inputs[name], s.shape[1:]) for name in ("s_star", "t"))
    after = [
        integrated(lambda start, star=star: mode_moves(start, star, attrs), start, np.array([t]))[0][-1]
        for start, star, t in zip(s.T, stars, times, strict=True)
    ]
    return {"s": np.stack(after, axis=1)}


def mode_map_velocity(inputs, attrs):
    return {"velocity": d.mode_map_velocity(inputs["s_bar"], inputs["s_star"], attrs["p"], attrs.get("eta_bar", 1.0))}


def mode_exponents(inputs, attrs):
    values = d.mode_exponents(attrs["d"], attrs["q"], attrs.get("eta", 1.0))
    return dict(zip(("p", "d_eff", "eta_bar"), values, strict=True))


def mode_problem(inputs, attrs):
    return inputs["s_star"], inputs["s0"], attrs["p"], attrs.get("eta_bar", 1.0)


def mode_solution(inputs, attrs):
    """By the closed form where there is one, and it does not cancel."""
    s_star, s0, p, _ = problem = mode_problem(inputs, attrs)
    moderate = (abs(s0) > 1e-3) & (abs(s0) < 1e3)
    closed = p in (0, 0.5, 1, 2) and (moderate & ((s0 < s_star) | (s_star == 0))).all()
    solve = modes.closed_form if closed else modes.solution
    return {"s_bar": solve(inputs["t"], *problem)}


def mode_time(inputs, attrs):
    return {"t": modes.time_to(inputs["fraction"], *mode_problem(inputs, attrs))}


def mode_escape(inputs, attrs):
    return {"t": modes.escape_time(*mode_problem(inputs, attrs))}


OPERATIONS = {
    "forward": lambda inputs, attrs: {"f": trained(inputs, attrs).f},
    "signals": signals,
    "jacobian": lambda inputs, attrs: {"J": d.jacobian(trained(inputs, attrs))},
    "push": lambda inputs, attrs: {"Jv": d.push(trained(inputs, attrs), listed("dW", inputs))},
    "pull": lambda inputs, attrs: numbered("dW", d.pull(trained(inputs, attrs), inputs["v"])),
    "ntk": lambda inputs, attrs: {"Theta": d.ntk(trained(inputs, attrs, "x_test"), trained(inputs, attrs))},
    "fisher_matrix": fisher_matrix,
    "direction": direction,
    "coefficient": coefficient,
    "training": training,
    "prediction": prediction,
    "averages": averages,
    "angles": angles,
    "cross_entropy": cross_entropy,
    "inverse_power": lambda inputs, attrs: {"power": d.inverse_power(inputs["K"], **power(attrs))},
    "deep_linear": deep_linear,
    "deep_linear_update": deep_linear_update,
    "deep_linear_step": deep_linear_step,
    "alpha": alpha,
    "kernels": kernels,
    "kernel_coefficient": kernel_coefficient,
    "order_parameters": order_parameters,
    "gamma": lambda inputs, attrs: {"gamma": gaussian(attrs).gamma(attrs["q"])},
    "forster": forster,
    "unit_norm": unit_norm,
    "mode_velocity": mode_velocity,
    "mode_solution": mode_solution,
    "mode_time": mode_time,
    "mode_exponents": mode_exponents,
    "empirical_kernels": empirical_kernels,
    "linearized": linearized,
    "linearized_training": linearized_training,
    "batch_training": batch_training,
    "dynamics": dynamics,
    "isotropy": isotropy,
    "cross_entropy_flow": cross_entropy_flow,
    "standardise": standardise,
    "statistics": sample_statistics,
    "flow": flow,
    "null_update": lambda inputs, attrs: numbered("dw", d.null_update(listed("w", inputs), listed("m", inputs))),
    "euler_drift": euler_drift,
    "mode_speed": mode_speed,
    "mode_escape": mode_escape,
    "mode_map_velocity": mode_map_velocity,
    "mode_unbalanced": mode_unbalanced,
    "predictive": predictive,
    "wide_training": wide_training,
    "gaussian_outputs": gaussian_outputs,
    "centred": centred,
    "flatten": flatten,
    "init": init,
    "semi_orthogonal": semi_orthogonal,
    "direction_truncated": direction,
    "deep_linear_truncated": deep_linear_update,
    "multiplier": multiplier,
    "sample_loss": sample_loss,
    "empirical_coefficient": coefficient,
}
