"""Deep linear networks and their singular modes: Huh, THEORY 9."""

from .problems import Book, draw

INF = float("inf")
WHITE = "inputs are white unless Sigma_x is given"
SIGMA_X = [[1.5, 0.25, -0.5], [0.25, 0.75, 0.125], [-0.5, 0.125, 1.25]]


def weights(widths, stream, amplitude=1.0, Sigma_x=None, dw=False):
    """w_1 .. w_d, w_star, and on request Sigma_x and dw_i."""
    shapes = list(zip(widths[1:], widths, strict=False))
    inputs = {f"w_{i}": draw(100 * stream + i, shape, amplitude) for i, shape in enumerate(shapes, 1)}
    inputs["w_star"] = draw(100 * stream + 50, (widths[-1], widths[0]))
    if Sigma_x:
        inputs["Sigma_x"] = Sigma_x
    if dw:
        inputs |= {f"dw_{i}": draw(100 * stream + 60 + i, shape) for i, shape in enumerate(shapes, 1)}
    return inputs


SHAPES = (
    (
        "discriminating",
        "three layers",
        dict(widths=(3, 4, 3, 2), stream=101),
    ),
    (
        "discriminating",
        "two layers, inputs not white",
        dict(widths=(3, 4, 2), stream=102, Sigma_x=SIGMA_X),
    ),
    (
        "discriminating",
        "three layers, inputs not white",
        dict(widths=(3, 3, 2, 2), stream=103, Sigma_x=SIGMA_X),
    ),
    (
        "boundary",
        "a bottleneck of one unit",
        dict(widths=(3, 1, 2), stream=104),
    ),
    (
        "limit",
        "one layer",
        dict(widths=(3, 2), stream=105),
    ),
    (
        "limit",
        "scalars",
        dict(widths=(1, 1, 1), stream=106),
    ),
)


def deep_linear():
    book = Book("deep_linear")
    pins = [
        WHITE,
        "K: input-major, n_in x n_out entries",
        "c_i = w_i w_i^T - w_{i+1}^T w_{i+1}",
        "loss = Tr(Delta Sigma_x Delta^T)/2",
    ]
    for kind, title, options in SHAPES:
        book.add(
            kind,
            title,
            "Huh (1) to (4), (15)",
            pins,
            weights(**options, dw=True),
            {},
        )
    wrong = weights((3, 4, 2), 102)
    book.refuse(
        "widths that do not chain",
        "Huh (1)",
        "broadcasting",
        {**wrong, "w_2": draw(1, (2, 3))},
        {},
        "w_2 takes 3 inputs, w_1 gives 4",
    )
    singular = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    book.refuse(
        "singular Sigma_x",
        "Huh (1)",
        "a map wanted that is not unique",
        {**wrong, "Sigma_x": singular},
        {},
        "Sigma_x is singular: rank 2 with 3 inputs",
    )
    book.supersede(8, "the loss of a singular Sigma_x is that of any w_star which solves the normal equations")
    return book


RULES = (
    # title, attributes
    (
        "SGD",
        {"q": INF, "block": False},
    ),
    (
        "NGD",
        {"q": 1, "block": False},
    ),
    (
        "sqrt-NGD",
        {"q": 2, "block": False},
    ),
    (
        "cube root",
        {"q": 3, "block": False},
    ),
    (
        "NGD-d",
        {"q": 1, "block": True},
    ),
    (
        "sqrt-NGD-d",
        {"q": 2, "block": True},
    ),
    (
        "SGD-d",
        {"q": INF, "block": True},
    ),
    (
        "NGD, damped",
        {"q": 1, "block": False, "rho": 0.125},
    ),
    (
        "NGD-d, damped",
        {"q": 1, "block": True, "rho": 0.125},
    ),
    (
        "regularised NGD",
        {"q": 1, "block": False, "rho": 0.5, "regularised": True},
    ),
    (
        "regularised sqrt-NGD",
        {"q": 2, "block": False, "rho": 0.5, "regularised": True},
    ),
    (
        "NGD, clipped",
        {"q": 1, "block": False, "clip": 0.25},
    ),
    (
        "NGD-d, clip not reached",
        {"q": 1, "block": True, "clip": 1024.0},
    ),
)


def deep_linear_update():
    book = Book("deep_linear_update")
    pins = [WHITE, "w' = -eta u: u has no eta", "rho is absolute", "Lambda (n_out, n_in)"]
    for title, attrs in RULES:
        book.add(
            "discriminating",
            f"{title}: three layers",
            "Huh (9), (12), (19), (S.I.15)",
            pins,
            weights((3, 4, 3, 2), 111),
            attrs,
        )
    for title, attrs in RULES[:6]:
        book.add(
            "discriminating",
            f"{title}: inputs not white",
            "Huh (9), (12), (19)",
            pins,
            weights((3, 4, 3), 112, Sigma_x=SIGMA_X),
            attrs,
        )
    for k in (1, 2, 4, 5):
        title, attrs = RULES[k]
        book.add(
            "boundary",
            f"{title}: a bottleneck of one unit",
            "Huh (9), (12), (19)",
            ["the pseudo-inverse where J has no full rank"],
            weights((3, 1, 2), 113),
            attrs,
        )
    for k in (1, 2, 5):
        title, attrs = RULES[k]
        book.add(
            "discriminating",
            f"{title}: four layers",
            "Huh (9), (12), (19)",
            pins,
            weights((2, 3, 2, 3, 2), 114),
            attrs,
        )
    book.add(
        "stress",
        "sqrt-NGD-d: small weights",
        "Huh (21)",
        ["scale-free in w"],
        weights((3, 4, 3, 2), 115, amplitude=0.015625),
        RULES[5][1],
    )
    book.add("limit", "NGD: one layer", "Huh (9)", ["d = 1: u = Delta"], weights((3, 2), 105), RULES[1][1])
    book.add(
        "limit",
        "NGD-d: one layer, not white",
        "Huh (19)",
        ["d = 1"],
        weights((3, 2), 105, Sigma_x=SIGMA_X),
        RULES[4][1],
    )
    base = weights((3, 4, 2), 102)
    for title, attrs, error in (
        ("q < 1", {"q": 0.5, "block": False}, "q is below 1"),
        ("rho < 0", {"q": 1, "block": False, "rho": -0.5}, "rho is negative"),
        ("clip = 0", {"q": 1, "block": False, "clip": 0.0}, "clip must be positive"),
    ):
        book.refuse(title, "Huh (12)", "a rule that is none", base, attrs, error)
    book.refuse(
        "w_star of the wrong shape",
        "Huh (12)",
        "broadcasting",
        {**base, "w_star": draw(3, (3, 2))},
        {"q": 1, "block": False},
        "w_star has shape (3, 2); expected (2, 3)",
    )
    for block in (False, True):
        book.add(
            "discriminating",
            f"regularised and clipped, {'blocks' if block else 'full'}",
            "Huh (S.I.15)",
            pins,
            weights((3, 4, 3, 2), 111),
            {"q": 1, "block": block, "rho": 0.5, "regularised": True, "clip": 0.25},
        )
    return book


def deep_linear_step():
    book = Book("deep_linear_step")
    for title, attrs in (RULES[0], RULES[1], RULES[2], RULES[4], RULES[5], RULES[8], RULES[11]):
        book.add(
            "discriminating",
            f"{title}: two steps",
            "Huh (9), (12), (15), (19)",
            ["w <- w - eta u", "all layers at once", "clip before eta", "losses of all states"],
            weights((3, 4, 3, 2), 111),
            attrs | {"eta": 0.125, "steps": 2},
        )
    book.add(
        "discriminating",
        "sqrt-NGD: not white, three steps",
        "Huh (12)",
        [WHITE],
        weights((3, 4, 3), 112, Sigma_x=SIGMA_X),
        RULES[2][1] | {"eta": 0.0625, "steps": 3},
    )
    book.add(
        "boundary",
        "SGD: all zeros but one layer",
        "Huh (5)",
        ["one layer of zeros is no saddle"],
        {**weights((2, 2, 2), 116), "w_1": [[0.0, 0.0], [0.0, 0.0]]},
        RULES[0][1] | {"eta": 0.25, "steps": 2},
    )
    book.refuse(
        "eta = 0",
        "Huh (12)",
        "a rate that does nothing",
        weights((3, 4, 2), 102),
        RULES[0][1] | {"eta": 0.0, "steps": 1},
        "eta must be positive",
    )
    return book


def mode_velocity():
    book = Book("mode_velocity")
    s = [[0.25, 1.5, -0.5], [0.5, 0.75, 0.875], [0.875, 1.25, 1.5]]
    star = [2.0, 1.0, 0.5]
    pins = ["s has a row a layer, a column a mode", "s' = -eta s_Delta j_i / ||j||^{2/q}"]
    for q in (1, 2, 3, INF):
        for block in (False, True):
            book.add(
                "discriminating",
                f"{'block, ' if block else ''}q = {q}",
                "Huh (20), (21)" if block else "Huh (5), (10), (12)",
                pins,
                {"s": s, "s_star": star},
                {"q": q, "block": block, "eta": 1.0},
            )
    for eps in (0.25, 0.0):
        book.add(
            "discriminating",
            f"damped, eps = {eps}",
            "Huh (S.I.15), (S.I.16)",
            ["-(eps + 1) s_Delta j / (eps + ||j||^2)"],
            {"s": s, "s_star": star},
            {"eps": eps, "eta": 0.5},
        )
    for q in (1, 2, INF):
        book.add(
            "boundary",
            f"a layer at zero, q = {q}",
            "Huh (12)",
            ["products, not quotients by s_i"],
            {"s": [[0.0, 1.5], [0.5, 0.75], [0.875, 1.25]], "s_star": [2.0, 1.0]},
            {"q": q, "block": False, "eta": 1.0},
        )
    for q, size in ((2, 1e-100), (1, 1e-100), (2, 1e-300)):
        book.add(
            "stress",
            f"tiny layers {size}, q = {q}",
            "Huh (12)",
            ["not exact in float32"],
            {"s": [[size], [2 * size]], "s_star": [1.0]},
            {"q": q, "block": False, "eta": 1.0},
        )
    book.add(
        "limit",
        "at the target",
        "Huh (12)",
        ["s_Delta = 0"],
        {"s": [[0.5], [2.0]], "s_star": [1.0]},
        {"q": 2, "block": False, "eta": 1.0},
    )
    bad = {"s": s, "s_star": star}
    for title, inputs, attrs, error in (
        ("q < 1", bad, {"q": 0.5, "block": False}, "q is below 1"),
        ("eta = 0", bad, {"q": 1, "block": False, "eta": 0.0}, "eta must be positive"),
        ("eps < 0", bad, {"eps": -0.5}, "eps is negative"),
        ("s_star < 0", {"s": s, "s_star": [-1.0, 1.0, 0.5]}, {"q": 1, "block": False}, "s_star is negative"),
        (
            "s_star of the wrong length",
            {"s": s, "s_star": [1.0, 1.0]},
            {"q": 1, "block": False},
            "s_star has 2 modes, s has 3",
        ),
        (
            "invariants with a zero under the logarithm",
            {"s": [[0.0], [1.0]], "s_star": [1.0]},
            {"q": 1, "block": True},
            "s has a zero: ln|s_i| is not defined",
        ),
    ):
        book.refuse(title, "Huh (12)", "a number where there is none", inputs, attrs, error)
    return book


POWERS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0)


def mode_solution():
    book = Book("mode_solution")
    t = [0.0, 0.25, 1.0, 3.0]
    for p in POWERS:
        for s0, side in ((0.25, "below"), (3.0, "above")):
            book.add(
                "discriminating",
                f"p = {p}, from {side}",
                "Huh (17)",
                ["T = eta_bar s_star^p t", "t, s_star, s0 broadcast"],
                {"t": t, "s_star": 2.0, "s0": s0},
                {"p": p, "eta_bar": 1.5},
            )
    for p in (0.5, 0.75):
        book.add(
            "boundary",
            f"p = {p}, from 0",
            "Huh (17)",
            ["for p < 1 the solution that leaves 0 at once"],
            {"t": t, "s_star": 2.0, "s0": 0.0},
            {"p": p, "eta_bar": 1.0},
        )
    book.add(
        "boundary",
        "p = 1, from 0",
        "Huh (17)",
        ["for p >= 1 zero stays zero"],
        {"t": t, "s_star": 2.0, "s0": 0.0},
        {"p": 1.0, "eta_bar": 1.0},
    )
    book.add(
        "boundary",
        "p = 0, negative start",
        "Huh (17)",
        ["p = 0 allows s0 < 0"],
        {"t": t, "s_star": 2.0, "s0": -1.0},
        {"p": 0.0, "eta_bar": 1.0},
    )
    for p, s0, when in (
        (1.0, 1e-300, 690.0),
        (0.5, 1e-300, 1.0),
        (1.5, 1e-6, 1500.0),
        (2.0, 1e-3, 1000.0),
        (0.75, 1e-30, 2.0),
    ):
        book.add(
            "stress",
            f"p = {p}, s0 = {s0}",
            "Huh (17)",
            ["not exact in float32"],
            {"t": [when / 2, when], "s_star": 1.0, "s0": s0},
            {"p": p, "eta_bar": 1.0},
        )
    book.add(
        "limit",
        "s0 at the target",
        "Huh (17)",
        ["a fixed point"],
        {"t": t, "s_star": 2.0, "s0": 2.0},
        {"p": 1.0, "eta_bar": 1.0},
    )
    refused(book, {"t": 1.0, "s_star": 2.0, "s0": 0.25})
    book.refuse(
        "t < 0",
        "Huh (17)",
        "a flow backwards",
        {"t": -1.0, "s_star": 2.0, "s0": 0.25},
        {"p": 1.0, "eta_bar": 1.0},
        "t is negative",
    )
    book.supersede(23, "a mode without a target decays, s_bar' = -eta_bar s_bar^{p+1}")
    book.supersede(27, BELOW_ZERO)
    return book


BELOW_ZERO = "a mode below zero rises, s_bar' = eta_bar |s_bar|^p (s_star - s_bar)"


def refused(book, inputs):
    """What both closed forms refuse."""
    for title, change, attrs, error in (
        ("s_star = 0", {"s_star": 0.0}, {"p": 1.0, "eta_bar": 1.0}, "s_star must be positive"),
        ("s_star < 0", {"s_star": -1.0}, {"p": 1.0, "eta_bar": 1.0}, "s_star must be positive"),
        ("p > 2", {}, {"p": 2.5, "eta_bar": 1.0}, "p is above 2"),
        ("p < 0", {}, {"p": -0.5, "eta_bar": 1.0}, "p is negative"),
        ("s0 < 0 with p > 0", {"s0": -0.25}, {"p": 0.5, "eta_bar": 1.0}, "s0 is negative where p > 0"),
        ("eta_bar = 0", {}, {"p": 1.0, "eta_bar": 0.0}, "eta_bar must be positive"),
    ):
        book.refuse(title, "Huh (17)", "a number where there is none", inputs | change, attrs, error)


def mode_time():
    book = Book("mode_time")
    for p in POWERS:
        book.add(
            "discriminating",
            f"p = {p}, from below",
            "Huh (17)",
            ["half-max times in t, not in T"],
            {"fraction": [0.25, 0.5, 0.875], "s_star": 2.0, "s0": 0.25},
            {"p": p, "eta_bar": 1.5},
        )
    for p in (0.5, 1.0, 2.0):
        book.add(
            "discriminating",
            f"p = {p}, from above",
            "Huh (17)",
            ["fraction > 1 from above"],
            {"fraction": [1.25, 1.125], "s_star": 2.0, "s0": 3.0},
            {"p": p, "eta_bar": 1.0},
        )
    for p, s0 in ((1.0, 0.02), (2.0, 0.02), (0.75, 0.02), (1.5, 1e-12), (1.0, 1e-300), (0.5, 1e-300)):
        book.add(
            "stress",
            f"p = {p}, half-max from s0 = {s0}",
            "Huh (17), THEORY 9",
            ["not exact in float32"],
            {"fraction": 0.5, "s_star": 2.0, "s0": s0},
            {"p": p, "eta_bar": 1.0},
        )
    book.add(
        "boundary",
        "p = 0.5, from 0",
        "Huh (17)",
        ["finite for p < 1"],
        {"fraction": 0.5, "s_star": 2.0, "s0": 0.0},
        {"p": 0.5, "eta_bar": 1.0},
    )
    book.add(
        "boundary",
        "never reached",
        "Huh (17)",
        ["inf"],
        {"fraction": [0.0625, 1.0, 1.5, 0.125], "s_star": 2.0, "s0": 0.25},
        {"p": 1.0, "eta_bar": 1.0},
    )
    book.add(
        "boundary",
        "p = 1, from 0: never",
        "Huh (17)",
        ["inf"],
        {"fraction": 0.5, "s_star": 2.0, "s0": 0.0},
        {"p": 1.0, "eta_bar": 1.0},
    )
    refused(book, {"fraction": 0.5, "s_star": 2.0, "s0": 0.25})
    book.supersede(23, BELOW_ZERO)
    return book


def mode_exponents():
    book = Book("mode_exponents")
    for d, q, eta in ((2, 2, 1.0), (4, 2, 0.5), (3, 3, 1.0), (4, 1, 0.5), (4, INF, 1.0), (1, 2, 1.0)):
        book.add(
            "limit" if INF in (d, q) else "discriminating",
            f"d = {d}, q = {q}",
            "Huh (17), (18), table 1",
            ["p = 2 (d-1)(q-1)/(dq)", "eta_bar = eta d^{1-1/q}", "d_eff = dq/(d+q-1)"],
            {},
            {"d": d, "q": q, "eta": eta},
        )
    for title, attrs, error in (
        ("q < 1", {"d": 2, "q": 0.5, "eta": 1.0}, "q is below 1"),
        ("d = 0", {"d": 0, "q": 1, "eta": 1.0}, "d is below 1"),
    ):
        book.refuse(title, "Huh (17)", "an exponent of nothing", {}, attrs, error)
    return book


BOOKS = (deep_linear, deep_linear_update, deep_linear_step, mode_velocity, mode_solution, mode_time, mode_exponents)
ABOUT = {
    "deep_linear": "Loss, g_i, H_+ dw, H dw, the dual K and the conserved c_i, Huh (1) to (4), (15).",
    "deep_linear_update": "u_i of the update rules w' = -eta u, Huh (9), (12), (19), (21), (S.I.15).",
    "deep_linear_step": "Weights, losses and c_i after some steps w <- w - eta u.",
    "mode_velocity": "s' (d, ..) of singular modes, and what their flow conserves, Huh (5), (6), (12), (20), (21).",
    "mode_solution": "s_bar(t) of balanced modes, Huh (17).",
    "mode_time": "The time at which s_bar is a fraction of s_star, Huh (17); inf if never.",
    "mode_exponents": "p, d_eff and eta_bar of depth d and power q, Huh (17), (18).",
}
