"""What mutants of the package showed to be without a case: extreme sizes, lost digits, singular parts, averages.

`START` is where the cases of each operation begin: those of the other files come before, and no more are added there.
"""

from .directions import FISHERS, INF, PINV
from .problems import extended
from .second import DISTINCT, NTK, problem, twins, wide

START = {
    "direction": 189,
    "coefficient": 73,
    "fisher_matrix": 43,
    "kernel_coefficient": 25,
    "inverse_power": 19,
    "alpha": 26,
}
POWERS = ("Exact", "BlockDiagonal", "KFAC", "KFAC-separate", "KFAC-gram", "Unitwise", "Entrywise")
COUPLED = ("BlockTridiagonal", "Layerwise")
PRODUCT = {"kfac_damping": "product"}


def powers_of_two(inputs, x=0, W=0, y=0):
    """Inputs, weights and targets times powers of two."""
    sizes = {"x": x, "x_test": x, "y": y, **{f"W_{l}": W for l in range(1, 9)}}
    return {k: [[2.0 ** sizes.get(k, 0) * v for v in row] for row in a] for k, a in inputs.items()}


def extreme(book, fishers, N_test=0):
    """Signals of which the fourth powers leave the range of float64, and f and e that do not."""
    pins = ["no power of J, h or delta may over- or underflow", "not in the range of float32"]
    y = not N_test
    for fisher in fishers:
        powers = fisher in POWERS
        settings = ((1, 0.0, 4 if powers else 1), (-1, 0.15625, 1), (1, 0.15625, 4 if powers else 1))
        for sign, rho, q in settings[bool(N_test) :]:
            widths = (2, 3, 2, 1) if fisher in COUPLED else (2, 3, 1)
            bias = fisher in ("QuasiDiagonal", "KFAC-separate")
            x, W = (300, 0) if bias else (500, -200)
            size = x + W * (len(widths) - 2)  # the exponent of J
            options = {"sigma_b": DISTINCT["sigma_b"] * 2.0 ** (sign * x)} if bias else {}
            kfac = FISHERS[fisher][0]["fisher"] == "KFAC"  # of which one factor is huge, and the other tiny
            damping = rho * (sign > 0 if kfac else 2.0 ** (sign * 2 * size))
            inputs, attrs = problem(
                fisher, widths, 2, 540, N_test=N_test, y=y, activation="relu", bias=bias, rho=damping, q=q, **options
            )
            inputs = powers_of_two(inputs, sign * x, sign * W, sign * (size + W))
            title = f"{fisher}: J of the size 2^{sign * size}, q = {q}{', damped' if damping else ''}"
            book.add("stress", title, FISHERS[fisher][1], pins, inputs, attrs)


def close(inputs, gap):
    """The last sample is next to the first."""
    x = inputs["x"]
    return {**inputs, "x": [*x[:-1], [a + gap * k for k, a in enumerate(x[0], 1)]]}


def refined(book):
    pins = ["as accurate as from J: a Gram matrix has to be refined, or given up, kappa_gram = kappa"]
    for fisher in ("Exact", "BlockDiagonal", "KFAC", "KFAC-separate", "Unitwise"):
        for exponent in (-10, -16):
            inputs, attrs = problem(fisher, (2, 4, 1), 3, 541, rho=0.0, q=1)
            title = f"{fisher}: two samples 2^{exponent} from each other, refined"
            inputs = close(inputs, 2.0**exponent)
            book.add("stress", title, FISHERS[fisher][1], pins, inputs, attrs, strict=True)
        for exponent in (-8, -24):
            inputs, attrs = problem(fisher, (2, 4, 1), 3, 542, rho=2.0**exponent, q=1)
            title = f"{fisher}: two equal samples, rho = 2^{exponent}, refined"
            book.add("stress", title, FISHERS[fisher][1], pins, twins(inputs), attrs, strict=True)


def damped_products(book):
    """The damping of Huh, Fig. S.I.2."""
    test, y = 7 if book.operation == "coefficient" else 0, book.operation == "direction"
    pins = ["B* (x) A* + rho I: the damping is on the product"]
    for fisher, widths, N, rho, q in (
        ("KFAC", (5, 4, 1), 3, 0.15625, 1),
        ("KFAC-separate", (5, 4, 1), 3, 0.15625, 1.5),
        ("KFAC-gram", (5, 4, 1), 3, 0.0, 1),
        ("KFAC-gram", (2, 3, 2), 2, 0.15625, 2),
        ("KFAC", (2, 2, 1), 5, 0.15625, 1),
    ):
        options = PRODUCT | ({} if book.operation == "fisher_matrix" else {"q": q})
        inputs, attrs = problem(fisher, widths, N, 543, N_test=test, y=y, rho=rho, **options)
        kind, what = ("discriminating", "") if N == 3 else ("boundary", f", N = {N}, C = {widths[-1]}")
        title = f"{fisher}: damping of the product, rho = {rho}, q = {q}{what}"
        book.add(kind, title, "K&O (20), Huh S.I", pins, twins(inputs) if N == 5 else inputs, attrs)


SINGULAR = {  # of three layers
    "a layer that Sigma leaves out": [[1.0, 0.5, 0.0], [0.5, 1.75, 0.0], [0.0, 0.0, 0.0]],
    "two layers merged and a third coupled": [[1.0, 1.0, 0.25], [1.0, 1.0, 0.25], [0.25, 0.25, 1.5]],
    "one layer apart, with a factor": [[2.0, 0.0, 0.5], [0.0, 1.75, 0.0], [0.5, 0.0, 1.0]],
    "1 is not in the range of Sigma": [[1.0, -1.0, 0.5], [-1.0, 1.0, -0.5], [0.5, -0.5, 0.25]],
    "indefinite, and 1 is not in its range": [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    "zero": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
}


def sigmas(book):
    """Any symmetric Sigma, with and without damping, with regular and with singular kernels."""
    test = 7 if book.operation == "coefficient" else 0
    for what, Sigma in SINGULAR.items():
        for rho, equal in ((0.0, True), (32.0, False)):
            inputs, attrs = problem("Layerwise", (2, 3, 2, 1), 3, 545, N_test=test, y=not test, rho=rho, q=1)
            inputs = {**(twins(inputs) if equal else inputs), "Sigma": Sigma}
            title = f"Layerwise: {what}{', two equal samples' if equal else ''}{', damped' if rho else ''}"
            book.add("boundary", title, "K&O (15)", PINV, inputs, attrs)
    for fisher, widths, N in (("BlockTridiagonal", (1, 2, 2, 1), 7), ("Layerwise", (1, 2, 4, 1), 5))[
        : 1 if test else 2
    ]:
        inputs, attrs = problem(fisher, widths, N, 546, N_test=test, y=not test, rho=0.15625 * 32, q=1)
        pins = ["blocks of few parameters"]
        book.add("boundary", f"{fisher}: N C > P, damped", FISHERS[fisher][1], pins, inputs, attrs)


def dead(inputs):
    """No unit of the first layer, which has a bias, lives for the first sample, and the second unit for none."""
    W = [list(row) for row in inputs["W_1"]]
    W[1] = [*[0.015625 * (1 + j) for j in range(len(W[1]) - 1)], -7.5]
    x = [list(row) for row in inputs["x"]]
    for row in W:
        row[-1] = -abs(row[-1])
    x[0] = [0.0] * len(x[0])
    return {**inputs, "W_1": W, "x": x}


def dead_samples(book):
    test = 7 if book.operation == "coefficient" else 0
    for fisher in FISHERS:
        for rho in (0.0, 0.15625) if fisher in ("Unitwise", "QuasiDiagonal", "KFAC-separate") and not test else (0.0,):
            widths = (2, 5, 2)
            inputs, attrs = problem(fisher, widths, 3, 547, N_test=test, y=not test, activation="relu", rho=rho, q=1)
            title = f"{fisher}: a sample without live units{', damped' if rho else ''}"
            book.add("boundary", title, FISHERS[fisher][1], [*PINV, "phi' = 0"], dead(inputs), attrs)


def defaults(book):
    test = 7 if book.operation == "coefficient" else 0
    inputs, attrs = problem("Exact", (5, 4, 1), 3, 554, N_test=test, y=book.operation == "direction")
    book.add("discriminating", "Exact: rho and q by default", "K&O (8), (9)", ["rho = 0, q = 1"], inputs, attrs)


def direction(book):
    extreme(book, (*POWERS, *COUPLED, "QuasiDiagonal"))
    refined(book)
    damped_products(book)
    sigmas(book)
    dead_samples(book)
    for fisher in ("Exact", "BlockDiagonal", "KFAC", "Unitwise"):
        inputs, attrs = problem(fisher, (3, 4, 1), 3, 548, rho=0.0, q=1, bias=False)
        inputs["x"][1] = [0.0] * 3
        book.add("boundary", f"{fisher}: a sample of zeros", FISHERS[fisher][1], PINV, inputs, attrs)
    for rho in (0.0, 0.15625):
        inputs, attrs = problem("QuasiDiagonal", (3, 2, 1), 3, 549, rho=rho, q=1)
        inputs["x"] = [[1.25, *row[1:]] for row in inputs["x"]]
        pins = [*PINV, "an input that is a multiple of the bias"]
        title = f"QuasiDiagonal: an input that is constant{', damped' if rho else ''}"
        book.add("boundary", title, "THEORY 5 (Ollivier)", pins, inputs, attrs)
    defaults(book)
    for what in ("1 is not in the range of Sigma", "indefinite, and 1 is not in its range"):
        inputs, attrs = problem("Layerwise", (2, 3, 2, 1), 3, 545, rho=0.0, q=1)
        inputs["Sigma"] = SINGULAR[what]
        book.add("boundary", f"Layerwise: {what}, undamped", "K&O (15)", PINV, inputs, attrs)
    inputs, attrs = problem("Layerwise", (2, 5, 1), 3, 547, activation="relu", rho=0.0, q=1)
    inputs = {**dead(inputs), "Sigma": [[2.0, 0.5], [0.5, 1.5]]}
    title = "Layerwise, coupled: a sample without live units in one layer alone"
    book.add("boundary", title, "K&O (15)", PINV, inputs, attrs)


def coefficient(book):
    extreme(
        book, ("Exact", "BlockDiagonal", "KFAC", "KFAC-separate", "Unitwise", "Entrywise", *COUPLED, "QuasiDiagonal"), 5
    )
    damped_products(book)
    sigmas(book)
    dead_samples(book)
    defaults(book)


def kernel_coefficient(book):
    for fisher in (*POWERS[:5], *COUPLED, "Identity"):
        inputs, attrs = wide(3, 7, 4, 550, 3, "relu", **FISHERS[fisher][0], rho=0.0, q=1)
        inputs = (
            {**inputs, "Sigma": [[2.0, 0.5, 0.0], [0.5, 1.5, -0.25], [0.0, -0.25, 1.0]]}
            if fisher == "Layerwise"
            else inputs
        )
        title = f"{fisher}: two equal samples"
        book.add("boundary", title, f"K&O (11), (21); {FISHERS[fisher][1]}", PINV, twins(inputs), attrs)
    for fisher, rho, q in (
        ("Exact", 0.0, 2),
        ("BlockDiagonal", 0.0, 1.5),
        ("KFAC-gram", 0.0, 2),
        ("KFAC-separate", 0.0, 2),
    ):
        inputs, attrs = wide(2, 3, 4, 551, 2, "relu", **FISHERS[fisher][0], rho=rho, q=q)
        pins = [*PINV, "a root of G of which the null space stays null"]
        title = f"{fisher}: q = {q}, undamped, two equal samples"
        book.add("boundary", title, "K&O (11), (21)", pins, twins(inputs), attrs)
    for fisher, rho, q in (
        ("KFAC", 0.15625, 1),
        ("KFAC-gram", 0.15625, 1.5),
        ("KFAC-separate", 0.15625, 2),
        ("KFAC", 0.0, 1),
    ):
        inputs, attrs = wide(3, 7, 4, 552, 2, "relu", **FISHERS[fisher][0], **PRODUCT, rho=rho, q=q)
        pins = ["B* (x) A* + rho I: the damping is on the product"]
        book.add(
            "discriminating", f"{fisher}: damping of the product, rho = {rho}, q = {q}", "Huh S.I", pins, inputs, attrs
        )
    for fisher in ("Exact", "KFAC-separate"):
        inputs, attrs = wide(3, 7, 4, 553, 2, "relu", **FISHERS[fisher][0], rho=2.0**-12, q=1)
        title = f"{fisher}: samples nearly parallel, tiny damping"
        inputs["x"][2] = [2 * v for v in inputs["x"][0]]
        book.add("stress", title, "K&O (11), (21)", PINV, inputs, attrs)
    inputs, attrs = wide(3, 7, 4, 552, 2, "relu", fisher="Exact")
    book.add("discriminating", "Exact: rho and q by default", "K&O (11), (13)", ["rho = 0, q = 1"], inputs, attrs)


def fisher_matrix(book):
    damped_products(book)
    defaults(book)


def inverse_power(book):
    K = [[2.0, 0.5, -0.25], [0.5, 1.0, 0.125], [-0.25, 0.125, 0.75]]
    for exponent, q in ((-600, 1), (600, 4), (-600, 2), (-1000, 1)):
        inputs = {"K": [[2.0**exponent * v for v in row] for row in K]}
        title = f"times 2^{exponent}, q = {q}"
        attrs = {"rho": 0.15625 * 2.0**exponent, "q": q}
        book.add("stress", title, "THEORY 12", ["not in the range of float32"], inputs, attrs)
    singular = {"K": [[-0.25, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.5, 1.0]]}
    book.add("boundary", "K + rho I is singular", "THEORY 1", PINV, singular, {"rho": 0.25, "q": 1})
    inputs = {"K": [[1.0, 2.0], [2.0, 4.0]]}
    book.add("limit", "rank one, q = inf: the projector", "THEORY 1", ["0^0 = 0"], inputs, {"rho": 0.0, "q": INF})
    inputs = {"K": [[1.0, 2.0], [2.0, 1.0]]}
    book.add("limit", "indefinite, q = inf", "THEORY 1", ["0^0 = 0"], inputs, {"rho": 0.0, "q": INF})
    inputs = {"K": [[-1.0, 0.5], [0.5, -2.0]]}
    book.add("boundary", "negative definite", "THEORY 1", [], inputs, {"rho": 0.25, "q": 1})
    book.add("discriminating", "rho and q by default", "THEORY 1", ["rho = 0, q = 1"], {"K": K}, {})
    error = "K + rho I has a negative eigenvalue and no real power"
    book.refuse("K + rho I is indefinite, q = 3", "THEORY 1", "a power of |w|", inputs, {"rho": 0.25, "q": 3}, error)


# ------------------------------------------------------------------------------------------------------------ alpha

FRAME = [[0.75, 1.0], [1.0, -0.75], [1.25, 0.0], [0.0, 1.25]]  # x^T x is a multiple of I, and all norms are 5/4
UNEVEN = [[0.75, 1.0], [1.0, -0.75], [1.25, 0.0], [0.5, 1.25]]


def alpha(book):
    tanh, relu = {"activation": "tanh", **NTK, **DISTINCT}, {"activation": "relu", **NTK, **DISTINCT, "sigma_b": 0.0}
    linear = relu | {"activation": "linear"}
    biased, plain = tanh | {"sigma_b": 0.40625}, tanh | {"sigma_b": 0.0}
    for title, fisher, attrs, inputs in (
        (
            "BlockTridiagonal, layers without weight are too narrow",
            "BlockTridiagonal",
            plain | {"n": 4, "widths": [2, 6, 3, 1]},
            {},
        ),
        (
            "Layerwise, a layer left out is too narrow",
            "Layerwise",
            plain | {"n": 4, "widths": [2, 5, 1]},
            {"Sigma": [[0.0, 0.0], [0.0, 1.75]]},
        ),
        (
            "Layerwise, a zero Sigma",
            "Layerwise",
            plain | {"n": 2, "widths": [3, 3, 1]},
            {"Sigma": [[0.0, 0.0], [0.0, 0.0]]},
        ),
        (
            "Layerwise, two parts",
            "Layerwise",
            plain | {"n": 2, "widths": [3, 3, 3, 1]},
            {"Sigma": [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.75]]},
        ),
        ("Exact, linear: the first layer has full rank", "Exact", linear | {"n": 3, "widths": [4, 3, 5, 2]}, {}),
        (
            "BlockDiagonal, linear without bias, just wide enough",
            "BlockDiagonal",
            linear | {"n": 3, "widths": [4, 3, 5, 2]},
            {},
        ),
        ("BlockDiagonal, relu without bias", "BlockDiagonal", relu | {"n": 2, "widths": [3, 9, 8, 1]}, {}),
        ("Exact, a bottleneck as wide as the outputs", "Exact", plain | {"n": 3, "widths": [4, 2, 2]}, {}),
        ("Exact, a bottleneck before the last layer", "Exact", biased | {"n": 2, "widths": [4, 5, 1, 2]}, {}),
        ("KFAC, an orthogonal frame of inputs", "KFAC", plain | {"n": 4, "widths": [2, 6, 1]}, {"x": FRAME}),
        (
            "KFAC-gram, an orthogonal frame of inputs",
            "KFAC-gram",
            plain | {"n": 4, "widths": [2, 6, 5, 1]},
            {"x": FRAME},
        ),
        ("Unitwise, inputs of norm 5/4", "Unitwise", tanh | {"n": 2, "widths": [2, 40, 30, 1]}, {"x": FRAME[:2]}),
        (
            "Unitwise, relu, inputs of norm 5/4",
            "Unitwise",
            relu | {"n": 2, "widths": [2, 40, 30, 1], "activation": "shifted_relu", "shift": 0.75},
            {"x": FRAME[:2]},
        ),
    ):
        pins = ["generic weights and inputs"]
        book.add("boundary", title, "K&O (12)", pins, inputs, FISHERS[fisher][0] | attrs)
    for title, fisher, attrs, inputs in (
        (
            "Layerwise, 1 is not in the range of Sigma",
            "Layerwise",
            plain | {"n": 2, "widths": [3, 3, 1]},
            {"Sigma": [[1.0, -1.0], [-1.0, 1.0]]},
        ),
        ("Exact, too narrow together", "Exact", plain | {"n": 9, "widths": [2, 2, 1]}, {}),
        ("BlockDiagonal, a bottleneck", "BlockDiagonal", biased | {"n": 2, "widths": [4, 5, 1, 2]}, {}),
        ("BlockDiagonal, linear, one layer too narrow", "BlockDiagonal", linear | {"n": 4, "widths": [5, 3, 5, 2]}, {}),
        ("Exact, linear, all layers too narrow", "Exact", linear | {"n": 4, "widths": [3, 5, 5, 2]}, {}),
        ("BlockDiagonal, relu, inputs on two rays", "BlockDiagonal", relu | {"n": 3, "widths": [1, 9, 8, 1]}, {}),
        (
            "BlockDiagonal, relu, a layer of one unit makes a ray",
            "BlockDiagonal",
            relu | {"n": 2, "widths": [3, 1, 8, 1]},
            {},
        ),
        (
            "BlockTridiagonal, the layer with the weight is too narrow",
            "BlockTridiagonal",
            linear | {"n": 4, "widths": [6, 3, 6, 1]},
            {},
        ),
        ("KFAC, fewer signals than samples and outputs", "KFAC", plain | {"n": 3, "widths": [4, 5, 2]}, {}),
        ("KFAC, a frame that is none", "KFAC", plain | {"n": 4, "widths": [2, 6, 1]}, {"x": UNEVEN}),
        ("KFAC, a frame, and a bias that is augmented", "KFAC", tanh | {"n": 4, "widths": [2, 6, 1]}, {"x": UNEVEN}),
        ("KFAC-separate, with bias", "KFAC-separate", tanh | {"n": 2, "widths": [4, 5, 1]}, {}),
        ("KFAC-gram, one layer of too few inputs", "KFAC-gram", plain | {"n": 4, "widths": [2, 1]}, {"x": FRAME}),
        ("Unitwise, inputs of several norms", "Unitwise", tanh | {"n": 2, "widths": [2, 40, 1]}, {"x": UNEVEN[2:]}),
        ("Unitwise, too few inputs", "Unitwise", plain | {"n": 3, "widths": [2, 40, 1]}, {}),
    ):
        error = "there is no alpha for these widths and this fisher: Theta_bar is not alpha I"
        book.refuse(
            title, "K&O (12)", "an alpha where there is none", inputs, FISHERS[fisher][0] | attrs, error, "must-fail"
        )
    attrs = FISHERS["Exact"][0] | plain | {"n": 7, "widths": [3, 3, 2]}
    book.add(
        "boundary", "Exact: all layers together just suffice", "K&O (12)", ["generic weights and inputs"], {}, attrs
    )
    attrs = FISHERS["BlockDiagonal"][0] | relu | {"n": 2, "widths": [1, 9, 8, 1]}
    book.add("boundary", "BlockDiagonal, relu: one input, of both signs", "K&O (12)", ["two rays"], {}, attrs)
    attrs = FISHERS["Layerwise"][0] | relu | {"n": 2, "widths": [3, 1, 8, 1]}
    inputs, title = (
        {"Sigma": [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]},
        "Layerwise, relu: the last layer has one ray",
    )
    book.refuse(title, "K&O (12)", "an alpha where there is none", inputs, attrs, error)
    attrs = FISHERS["KFAC"][0] | plain | {"n": 2, "widths": [3, 2, 4, 2], "frozen": 1}
    title = "KFAC, two outputs: a frozen layer may be narrow"
    book.add("boundary", title, "K&O (12)", ["generic weights and inputs"], {}, attrs)
    for title, attrs, inputs in (
        ("KFAC, two outputs: the second layer is narrow", plain | {"n": 3, "widths": [4, 7, 5, 2]}, {}),
        ("KFAC, linear, an orthogonal frame of inputs", linear | {"n": 4, "widths": [2, 6, 1]}, {"x": FRAME}),
    ):
        attrs = FISHERS["KFAC"][0] | attrs
        book.refuse(title, "K&O (12)", "an alpha where there is none", inputs, attrs, error)


# ------------------------------------------------------------------------------------------------- Gaussian averages

FAR, NEAR = [[0.25, 2.75, 1.5]], [[2.0**-16, 0.5, 2.0**-8]]


def averages(book):
    sizes = {"a": [0.75], "b": [0.5, 2.0, 1.125]}
    for activation, shift, angle, what in (
        ("relu", 0.0, FAR, "angles of all sizes"),
        ("erf", 0.0, FAR, "angles of all sizes"),
        ("shifted_relu", 0.5, FAR, "angles of all sizes"),
        ("shifted_relu", 0.5, NEAR, "small angles"),
        ("shifted_relu", -0.5, FAR, "angles of all sizes"),
        ("shifted_relu", -0.5, NEAR, "small angles"),
        ("relu", 0.0, None, "correlations"),
        ("linear", 0.0, None, "correlations"),
    ):
        given = {"theta": angle} if angle else {"r": [[0.5, -0.75, 0.875]]}
        pins = ["u ~ N(0, a^2), v ~ N(0, b^2), of the correlation r = cos(theta)"]
        attrs = {"activation": activation} | ({"shift": shift} if shift else {})
        title = f"{activation}{f', shift {shift}' if shift else ''}: {what}"
        book.add("stress" if angle else "discriminating", title, "K&O (S.171) to (S.178)", pins, given | sizes, attrs)


def angles(book):
    theta = [2.0**-16, 1.25, 3.125]
    for activation, shift in (("relu", 0.0), ("erf", 0.0), ("shifted_relu", 0.5), ("shifted_relu", -0.5)):
        for title, a, b in (
            ("equal deviations", [0.75, 0.25, 1.5], None),
            ("deviations that differ", [0.75, 0.5, 1.5], [0.8125, 0.25, 2.0]),
        ):
            inputs = {"theta": theta, "a": a, "b": b or a}
            attrs = {"activation": activation} | ({"shift": shift} if shift else {})
            pins = ["1 - rho and 1 - rho^2 to all digits where rho is next to 1"]
            name = f"{activation}{f', shift {shift}' if shift else ''}"
            book.add("stress", f"{name}: {title}", "K&O (S.171) to (S.178)", pins, inputs, attrs)
    inputs = {"theta": [0.0625, 1.25, 3.125], "a": [0.75, 0.5, 1.5], "b": [0.8125, 0.25, 2.0]}
    book.add(
        "discriminating",
        "relu: moderate angles",
        "K&O (S.177)",
        ["rho of phi(u), phi(v)"],
        inputs,
        {"activation": "relu"},
    )
    for activation in ("erf", "relu"):
        inputs = {"theta": [2.0**-16, 2.0**-14, 2.0**-17], "a": [0.75, 0.5, 1.5], "b": [0.75, 0.5, 1.5]}
        pins = ["1 - rho is of the size of theta^2, and has all digits"]
        title = f"{activation}: small angles alone"
        book.add("stress", title, "K&O (S.171) to (S.178)", pins, inputs, {"activation": activation})


NEW = (
    (
        averages,
        "E[phi(u) phi(v)], E[phi'(u) phi'(v)] of normal u, v, and E[phi^2], E[phi'^2] of u, K&O (S.171) to (S.178).",
    ),
    (angles, "1 - rho and 1 - rho^2 of rho = E[phi(u) phi(v)] / (E[phi(u)^2] E[phi(v)^2])^{1/2}, of pairs."),
)
EXTENDED = {
    f.__name__: f
    for f in (direction, coefficient, fisher_matrix, kernel_coefficient, inverse_power, alpha, averages, angles)
}
ABOUT = {make.__name__: about for make, about in NEW}


def extend(book):
    """The book with its later cases."""
    return extended(book, EXTENDED, START)
