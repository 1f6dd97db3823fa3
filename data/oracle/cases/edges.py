"""What slips in the core had passed: modes below zero, without a target and out of balance, flows that stop, steps that
jump, extreme sizes, inputs that are nearly parallel.
"""

from .deep import INF, weights
from .problems import draw
from .second import DISTINCT, LAYERS, NTK

# ------------------------------------------------------------------------------------------------------- singular modes

POWERS = (0.0, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)


def mode_solution(book):
    t = [0.0, 0.25, 1.0, 3.0]
    for p in POWERS:
        pins = ["s_star = 0: s_bar' = -eta_bar s_bar |s_bar|^p"]
        inputs = {"t": t, "s_star": 0.0, "s0": [0.25, 1.75, 3.0, -0.75]}
        attrs = {"p": p, "eta_bar": 1.3125}
        book.add("discriminating", f"p = {p}, no target", "Huh (17)", pins, inputs, attrs)
    for p in POWERS[1:]:
        pins = ["s_bar < 0 rises: s_bar' = -eta_bar (s_bar - s_star) |s_bar|^p", "through 0 if p < 1"]
        inputs = {
            "t": [0.0, 0.0625, 0.25, 0.5, 1.0, 3.0],
            "s_star": 1.75,
            "s0": [-0.25, -0.25, -0.75, -2.5, -2.5, -1.0],
        }
        attrs = {"p": p, "eta_bar": 1.3125}
        book.add("discriminating", f"p = {p}, from below 0", "Huh (17)", pins, inputs, attrs)
    inputs = {"t": t, "s_star": [2.0, 0.0, 0.75, 1.25], "s0": [0.25, 1.5, -0.5, 3.0]}
    book.add("discriminating", "p = 0.5, every kind of mode at once", "Huh (17)", ["eta_bar is 1"], inputs, {"p": 0.5})
    inputs = {"t": [0.0, 2.0, 5.0], "s_star": [0.0, 0.0, 1.5], "s0": [0.0, 0.0, 0.0]}
    for p in (0.0, 1.0):
        pins = ["0 stays 0 without a target, and at p >= 1"]
        book.add("boundary", f"p = {p}, from 0", "Huh (17)", pins, inputs, {"p": p, "eta_bar": 1.0})
    for p, s0, t in (
        (1.0, 1e200, 1e-200),
        (2.0, -1e-80, 1e80),
        (2.0, 1e80, 1e-160),
        (0.5, -1e-200, 1.5),
        (0.5, -1e200, 1e-100),
    ):
        inputs = {"t": [t, 2 * t], "s_star": 1.5, "s0": s0}
        pins, title = ["not exact in float32"], f"p = {p}, from {s0:g}"
        book.add("stress", title, "Huh (17)", pins, inputs, {"p": p, "eta_bar": 1.0})


def mode_time(book):
    for p in POWERS[1:]:
        inputs = {"fraction": [-0.25, -0.125, 0.0, 0.5, -0.75, 1.0], "s_star": 1.75, "s0": -0.875}
        pins = ["inf before the start, at the target, and across 0 if p >= 1", "0 at the start"]
        attrs = {"p": p, "eta_bar": 1.3125}
        inputs["fraction"].insert(2, -0.5)
        book.add("discriminating", f"p = {p}, from below 0", "Huh (17)", pins, inputs, attrs)
    inputs = {"fraction": [-1.5, -0.75, 0.25, 0.875], "s_star": 1.75, "s0": [-3.5, -1.75, -0.875, -3.0]}
    book.add("discriminating", "p = 0.5, from far below 0", "Huh (17)", ["eta_bar is 1"], inputs, {"p": 0.5})
    inputs = {"fraction": [-0.25, 0.5, 1.25, 1.0], "s_star": 1.75, "s0": [-0.875, 0.25, 3.0, 1.75]}
    book.add("discriminating", "p = 0, on every side", "Huh (17)", [], inputs, {"p": 0.0, "eta_bar": 1.3125})
    inputs = {"fraction": [1.0 + 2.0**-20, 1.0 - 2.0**-20], "s_star": 2.0, "s0": [3.0, 0.25]}
    for p in (0.5, 1.5):
        pins = ["the time grows as the logarithm of the distance"]
        book.add("stress", f"p = {p}, close to the target", "Huh (17)", pins, inputs, {"p": p, "eta_bar": 1.0})


def mode_escape(book):
    inputs = {"s_star": 2.0, "s0": 0.25}
    book.add("discriminating", "eta_bar is 1", "Huh 4.2", ["absent attributes"], inputs, {"p": 1.5})
    inputs = {"s_star": 2.0, "s0": -0.25}
    attrs = {"p": 0.5, "eta_bar": 1.0}
    book.refuse("s0 < 0 with p > 0", "Huh 4.2", "a logarithm of it", inputs, attrs, "s0 is negative where p > 0")
    inputs = {"s_star": 0.0, "s0": 0.25}
    book.refuse("s_star = 0", "Huh 4.2", "a target that there is not", inputs, attrs, "s_star is 0")
    inputs = {"s_star": 2.0, "s0": [1e-6, 1e-300, 1e-12]}
    for p in (0.5, 1.0, 2.0**-20 + 1):
        book.add("stress", f"p = {p:g}, tiny starts", "Huh 4.2", ["not exact in float32"], inputs, {"p": p})


def mode_map_velocity(book):
    for p in POWERS:
        inputs = {"s_bar": [0.25, 3.0, -0.75, 1.5], "s_star": [2.0, 2.0, 1.25, 0.0]}
        pins = ["s_bar' = -eta_bar (s_bar - s_star) |s_bar|^p"]
        attrs = {"p": p, "eta_bar": 1.3125}
        book.add("discriminating", f"p = {p}", "Huh (17)", pins, inputs, attrs)
    inputs = {"s_bar": [0.25, 3.0], "s_star": 2.0}
    book.add("discriminating", "eta_bar is 1", "Huh (17)", ["absent attributes"], inputs, {"p": 1.5})
    inputs = {"s_bar": 0.25, "s_star": -1.0}
    book.refuse("s_star < 0", "Huh (17)", "a target that there is not", inputs, {"p": 1.5}, "s_star is negative")


def mode_velocity(book):
    inputs = {"s": LAYERS, "s_star": 1.25}
    book.add("discriminating", "one target for all, defaults", "Huh (10)", ["q and eta are 1, full"], inputs, {})
    attrs = {"eps": 0.375}
    book.add("discriminating", "damped, eta is 1", "Huh (S.I.16)", ["one target for all"], inputs, attrs)
    for title, s, star, eps in (
        ("tiny layers", [[1e-140], [3e-140]], [1.0], 0.0),
        ("tiny layers, less damping", [[1e-120, 2.5], [3e-120, 0.75]], [1.0, 2.0], 1e-240),
        ("tiny layers, more damping", [[1e-120, 2.5], [3e-120, 0.75]], [1.0, 2.0], 2.0**-40),
        ("huge layers", [[1e130, 1e120], [3e120, 2e-150]], [1e140, 1e-60], 1e100),
        ("a huge target", [[1e-100], [1e-150]], [1e100], 1e-180),
    ):
        pins = ["not exact in float32"]
        inputs = {"s": s, "s_star": star}
        book.add("stress", f"damped, {title}", "Huh (S.I.16)", pins, inputs, {"eps": eps, "eta": 0.75})
    for q in (1.0, 4.0, INF):
        for s1, s2, star in ((1e-140, 2e130, 1e-20), (-3e-100, 1e-90, 1e-180), (1e80, 3e90, 1e100)):
            inputs = {"s": [[s1], [s2]], "s_star": [star]}
            pins, title = ["not exact in float32"], f"layers {s1:g} and {s2:g}, q = {q}"
            book.add("stress", title, "Huh (12)", pins, inputs, {"q": q, "block": False, "eta": 0.75})


def mode_speed(book):
    inputs = {"s": LAYERS, "s_star": 1.25}
    book.add("discriminating", "one target for all, defaults", "Huh (11)", ["q and eta are 1"], inputs, {})


def mode_unbalanced(book):
    layers = [[0.25, 1.5, -0.5, -1.25, 0.5], [1.0, 0.375, 1.25, 0.5, 0.5]]
    stars, t = [2.0, 0.25, 0.75, 0.0, 1.5], [0.5, 0.75, 0.25, 0.375, 1.0]
    for q in (1, INF):
        pins = ["s_i' = -eta s_Delta j_i / ||j||^{2/q}", "s_1^2 - s_2^2 is conserved"]
        inputs, attrs = {"t": t, "s": layers, "s_star": stars}, {"q": q, "eta": 0.75}
        book.add("discriminating", f"q = {q}", "Huh (5), (6), (10)", pins, inputs, attrs)
    inputs = {"t": 0.5, "s": layers, "s_star": 1.25}
    book.add("discriminating", "one target and one time, defaults", "Huh (5)", ["q is inf, eta 1"], inputs, {})
    for q in (1, INF):
        inputs = {"t": 0.75, "s": [[0.5, -0.5, 0.75], [-0.5, -0.5, 0.0]], "s_star": [0.0, 1.25, 1.25]}
        if q == 1:
            inputs["s"][1][0] = -0.25
        pins = ["s_1 = -s_2, s_1 = s_2, and a layer of 0"]
        book.add("boundary", f"special starts, q = {q}", "Huh (5), (10)", pins, inputs, {"q": q, "eta": 0.75})
    inputs = {"t": [0.0, 0.25, 0.0, 0.5, 0.0], "s": layers, "s_star": stars}
    book.add("limit", "some at t = 0", "Huh (5)", ["s of the start"], inputs, {"q": INF, "eta": 0.75})
    inputs = {"t": 0.5, "s": [[0.5], [-0.5]], "s_star": [1.0]}
    error = "s starts with s_1 = -s_2, from where NGD runs into the saddle"
    book.refuse("s_1 = -s_2, q = 1", "Huh (10)", "what comes after the saddle", inputs, {"q": 1, "eta": 1.0}, error)
    for title, change, attrs, error in (
        ("t < 0", {"t": -1.0}, {"q": 1}, "t is negative"),
        ("q = 2", {}, {"q": 2}, "q is neither 1 nor inf"),
        ("three layers", {"s": LAYERS, "s_star": 1.0}, {"q": 1}, "s has three layers"),
    ):
        book.refuse(title, "Huh (5)", "a formula for another", inputs | change, attrs | {"eta": 1.0}, error)


# ------------------------------------------------------------------------------------------------- deep linear networks


def deep_linear_step(book):
    ngd = {"q": 1, "block": False, "steps": 1}
    pins = ["a step that is large, but jumps over no point at which u is infinite, is not refused"]
    for title, widths, stream, attrs in (
        ("NGD: one determinant changes sign", (2, 2, 2), 504, ngd | {"eta": 0.5}),
        ("NGD: both determinants are negative", (2, 2, 2), 507, ngd | {"eta": 0.25}),
        ("sqrt-NGD: two determinants change sign", (2, 2, 2), 500, ngd | {"q": 2, "eta": 0.75}),
        ("NGD, damped: two determinants change sign", (2, 2, 2), 500, ngd | {"rho": 0.125, "eta": 0.75}),
        ("NGD, clipped: two determinants change sign", (2, 2, 2), 500, ngd | {"clip": 1.5, "eta": 0.75}),
        ("NGD: two determinants change sign, a third layer is not square", (2, 2, 2, 1), 505, ngd | {"eta": 0.75}),
        ("q = 1.5: the error grows to 1.6 of it", (3, 2, 3), 504, ngd | {"q": 1.5, "eta": 1.0}),
        ("SGD: the error grows to more than three times", (3, 2, 3), 509, ngd | {"q": INF, "eta": 1.25}),
        ("NGD, damped: the error grows to more than twice", (3, 2, 3), 501, ngd | {"rho": 0.25, "eta": 3.0}),
    ):
        book.add("boundary", title, "Huh (9), (12)", pins, weights(widths, stream), attrs)


def flow(book):
    inputs = weights((1, 2, 1), 507)
    pins = ["the start is a state", "it stops where ||E|| is `converged` of its first value"]
    for converged in (0.5, 0.0625):
        attrs = {"q": 1, "block": False, "eta": 0.75, "converged": converged}
        title = f"NGD, to {converged} of the error"
        more = {"times": [0.0, 0.25, 1.0]}
        book.add("discriminating", title, "Huh (9)", pins, inputs | more, attrs)
    book.add("limit", "SGD: t = 0", "Huh (5)", pins[:1], inputs | {"times": [0.0]}, {"q": INF, "eta": 0.75})
    title, more = "NGD-d, inputs not white, eta is 1", {"times": [0.0, 0.125]}
    inputs = weights((2, 1, 1), 508, Sigma_x=[[1.5, 0.25], [0.25, 0.75]])
    book.add("discriminating", title, "Huh (19)", ["absent attributes"], inputs | more, {"block": True})
    for title, times, attrs, error in (
        ("times that do not ascend", [0.25, 0.25], {}, "times do not ascend"),
        ("a time before the start", [-0.25, 0.25], {}, "times are below 0"),
        ("converged = 1", [0.25], {"converged": 1.0}, "converged is not below 1"),
        ("converged < 0", [0.25], {"converged": -0.5}, "converged is negative"),
        ("eta < 0", [0.25], {"eta": -1.0}, "eta is negative"),
    ):
        book.refuse(title, "Huh (5)", "a flow that is none", inputs | {"times": times}, {"q": INF, **attrs}, error)
    zeros = inputs | {"w_1": [[0.0, 0.0]], "w_2": [[0.0]], "times": [0.25]}
    error = "w_1 and w_2 are zero: w is a saddle, where every update is 0"
    book.refuse("from a saddle", "Huh (5)", "a flow that goes nowhere", zeros, {"q": INF}, error)


# ------------------------------------------------------------------------------------------------------- infinite width

X = [[1.0, -0.5, 0.75, 0.25], [-0.25, 1.25, 0.5, -1.0], [0.75, 0.5, -1.5, 0.375]]


def moved(row, size, sign=1.0):
    """A row next to it, or to its opposite."""
    return [sign * v + size * k for v, k in zip(row, (1.0, -1.0, 0.5, 2.0), strict=True)]


def wide(activation, bias, depth=3, **more):
    attrs = {"activation": activation, **DISTINCT, **NTK, "depth": depth} | more
    return attrs | {"sigma_b": DISTINCT["sigma_b"] * bias}


def kernels(book):
    pins = ["angles of nearly parallel samples are made of their differences, and 1 - r^2 of theirs"]
    for activation, bias, more in (
        ("relu", True, {}),
        ("relu", False, {}),
        ("erf", False, {}),
        ("shifted_relu", True, {"shift": 0.75}),
    ):
        attrs = wide(activation, bias, **more)
        for size, kind in ((2.0**-10, "discriminating"), (2.0**-40, "stress"))[: 1 + (activation == "relu")]:
            rows = [moved(X[0], size), moved(X[1], -size, -1.0), [2.0 * v for v in moved(X[2], size)]]
            title = f"{activation}, {'with' if bias else 'without'} bias: samples that are {size:.0e} apart"
            inputs = {"x": X, "x_test": rows}
            book.add(kind, title, "K&O (S.173), THEORY 6", pins, inputs, attrs)
    rows = [X[0], moved(X[0], 2.0**-10), X[1], [-v for v in X[1]], moved(X[1], 2.0**-8, -1.0), [1.5 * v for v in X[1]]]
    title = "relu: the training set itself, with samples that are nearly parallel, or opposite"
    pins = ["symmetric", "correlation 1 on the diagonal, and -1"]
    book.add("boundary", title, "K&O (S.70)", pins, {"x": rows}, wide("relu", True))
    rows = [[1.0, 2.0, -0.5, 0.0], [2.0, -0.5, 0.0, 1.0], [-0.5, 0.0, 1.0, -2.0]]
    title, pins = "relu: samples of one norm", ["all variances of a layer are the same"]
    book.add("discriminating", title, "K&O (S.70)", pins, {"x": rows, "x_test": rows[::-1] + X[:1]}, wide("relu", True))
    rows = [[2.0**30 * v for v in X[0]], [2.0**-30 * v for v in X[1]], X[2]]
    pins = ["the bias weighs as little, or as much, as a sample is large, or small"]
    inputs = {"x": rows, "x_test": [moved(rows[0], 2.0**20), [0.0] * 4]}
    book.add("stress", "relu: samples of all sizes", "K&O (S.169)", pins, inputs, wide("relu", True))


# --------------------------------------------------------------------------------------------------------------- inputs


def unit_norm(book):
    inputs = {"x": draw(50960, (4, 3))}
    book.add("discriminating", "rows", "K&O 3", ["||x_n|| = 1"], inputs, {})
    rows = [[2.0**-90, 2.0**-91, 0.0], [2.0**100, -(2.0**101), 2.0**99], [1.0, -(2.0**-70), 2.0**-3]]
    book.add("stress", "rows of all sizes", "K&O 3", ["squares leave the range"], {"x": rows}, {})
    rows = [[1e-200, 3e-200], [1e300, 2e300]]
    book.add("stress", "rows of extreme size", "K&O 3", ["not exact in float32"], {"x": rows}, {})
    inputs = {"x": [[1.0, 2.0], [0.0, 0.0]]}
    book.refuse("a row of zeros", "K&O 3", "0/0", inputs, {}, "x has a row of zeros")


def standardise(book):
    inputs = {"x": draw(51060, (4, 3))}
    book.add("discriminating", "the training inputs themselves", "K&O, published code", ["x_train is x"], inputs, {})


EXTENDED = {f.__name__: f for f in (mode_solution, mode_time, mode_escape, mode_velocity, mode_speed)}
EXTENDED |= {f.__name__: f for f in (deep_linear_step, flow, kernels, standardise)}
NEW = (
    (unit_norm, "Inputs with every row scaled to norm 1, K&O 3."),
    (mode_map_velocity, "s_bar' of balanced layers, Huh (17)."),
    (mode_unbalanced, "s(t) of two layers, balanced or not, under SGD or NGD, Huh (5), (10)."),
)
ABOUT = {make.__name__: about for make, about in NEW}


def extend(book):
    """The book with its latest cases."""
    for make in [make for make, _ in NEW] + list(EXTENDED.values()):
        if make.__name__ == book.operation:
            make(book)
    return book
