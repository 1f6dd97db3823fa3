"""What was added to the first 527 cases: attributes in all pairs, holes that wrong implementations passed through, and
the operations that had no case.

Sizes and settings are such that no two of N, N', C, M, M + 1, sigma_w, sigma_b, their squares, ratios and inverses
coincide: a factor that is wrong can be told.
"""

from .deep import SIGMA_X, weights
from .directions import FISHERS, INF, PINV, SIGMA
from .problems import draw, network, one_hot, targets

DISTINCT = {"sigma_w": 1.3125, "sigma_b": 0.40625}
NTK = {"parameterization": "ntk"}
SIGMAS = {1: [[1.75]], **SIGMA}


def problem(fisher, widths, N, stream, N_test=0, y=True, bias=True, loss=None, **options):
    """Inputs and attributes of an approximation on a network of distinct sizes."""
    shared = DISTINCT | {"sigma_b": DISTINCT["sigma_b"] * bias}
    net = {key: options.pop(key) for key in ("activation", "parameterization", "shift", "amplitude") if key in options}
    for key in ("sigma_w", "sigma_b"):
        shared[key] = options.pop(key, shared[key])
    inputs, attrs = network(widths, N, stream=stream, N_test=N_test, **shared, **net)
    attrs |= (FISHERS[fisher][0] if fisher else {}) | options
    if loss:
        attrs |= {"loss": "cross-entropy", "loss_rho": loss}
    if y or loss:
        inputs = one_hot(inputs, widths[-1]) if loss else targets(inputs, widths[-1], stream)
    if attrs.get("fisher") == "Layerwise":
        frozen = attrs.get("frozen", 0)
        inputs["Sigma"] = SIGMAS[len(widths) - 1 - (frozen if isinstance(frozen, int) else len(frozen))]
    return inputs, attrs


# --------------------------------------------------------------------------------------------- attributes in all pairs

ONE, THREE = {0: (5, 4, 1), 1: (5, 4, 5, 1)}, {0: (5, 6, 3), 1: (5, 6, 5, 3)}
PAIRS = (  # operation, fisher, q, rho, bias, C, frozen, loss, parameterization, stream: every pair of values
    ("direction", "KFAC", 1.5, 0.15625, True, 3, 0, 0.25, "ntk", 301),
    ("direction", "Layerwise", INF, 0.0, True, 3, 1, 0.25, "ntk", 302),
    ("direction", "KFAC-gram", 2, 0.15625, False, 3, 1, 0.25, "ntk", 303),
    ("direction", "BlockDiagonal", INF, 0.0, False, 1, 0, None, "ntk", 304),
    ("direction", "QuasiDiagonal", 1.5, 0.15625, False, 3, 0, 0.25, "ntk", 305),
    ("direction", "KFAC-separate", INF, 0.15625, True, 1, 1, None, "ntk", 306),
    ("coefficient", "QuasiDiagonal", 3, 0.0, False, 3, 0, 0.25, "standard", 307),
    ("coefficient", "BlockDiagonal", 1.5, 0.15625, True, 1, 0, None, "ntk", 308),
    ("coefficient", "Entrywise", 1.5, 0.15625, False, 3, 1, 0.25, "standard", 309),
    ("coefficient", "BlockTridiagonal", INF, 0.15625, True, 3, 0, 0.25, "standard", 310),
    ("coefficient", "KFAC-separate", 1.5, 0.0, True, 1, 1, None, "ntk", 311),
    ("coefficient", "Unitwise", INF, 0.0, True, 1, 0, None, "standard", 312),
    ("fisher_matrix", "BlockDiagonal", 1, 0.15625, False, 1, 1, None, "standard", 313),
    ("prediction", "KFAC-gram", 1.5, 0.0, False, 3, 1, None, "standard", 314),
    ("prediction", "KFAC-separate", 3, 0.15625, True, 1, 0, None, "ntk", 315),
    ("prediction", "QuasiDiagonal", INF, 0.15625, True, 1, 0, None, "standard", 316),
    ("prediction", "Identity", 1.5, 0.15625, False, 1, 1, None, "standard", 317),
    ("prediction", "Exact", 1.5, 0.15625, True, 3, 1, None, "standard", 318),
    ("training", "KFAC-gram", INF, 0.0, False, 3, 1, 0.25, "standard", 319),
    ("training", "Unitwise", 1.5, 0.15625, True, 3, 1, 0.25, "ntk", 320),
    ("training", "KFAC", 3, 0.15625, True, 3, 0, None, "ntk", 321),
    ("training", "Identity", INF, 0.0, True, 3, 1, None, "ntk", 322),
    ("training", "Entrywise", INF, 0.15625, True, 3, 1, 0.25, "standard", 323),
)
MORE = {"prediction": {"eta": 0.09375, "t": 4}, "training": {"eta": 0.09375, "steps": 2}}


def in_pairs(book):
    for operation, fisher, q, rho, bias, C, frozen, loss, parameterization, stream in PAIRS:
        if operation != book.operation:
            continue
        N, N_test = (3, 7) if C == 1 else (4, 11)
        options = {"parameterization": parameterization, "rho": rho, **({} if q == 1 else {"q": q})}
        options |= {"frozen": frozen} if frozen else {}
        inputs, attrs = problem(
            fisher,
            (ONE if C == 1 else THREE)[frozen],
            N,
            stream,
            N_test=N_test if operation in ("coefficient", "prediction") else 0,
            y=operation not in ("coefficient", "fisher_matrix"),
            bias=bias,
            loss=loss,
            amplitude=0.75 if parameterization == "standard" else 1.5,
            **options,
            **MORE.get(operation, {}),
        )
        settings = [f"q = {q}", f"rho = {rho}", *["first layer frozen"] * frozen, *["cross-entropy"] * bool(loss)]
        title = f"{fisher}: {', '.join(settings)}, {parameterization}, {'with' if bias else 'without'} bias, C = {C}"
        pins = [FISHERS[fisher][2], "sizes and settings that tell factors apart"]
        if loss and operation == "coefficient":
            pins.append("Theta_bar acts on p - y: J(x') G^{-1/q} J(x)^T / N with the output Hessian in G alone")
        kind = "limit" if q == INF else "discriminating"
        book.add(kind, title, FISHERS[fisher][1], pins, inputs, attrs)


# ------------------------------------------------------------------------------------------------- singular and scaled


def twins(inputs):
    """The last sample is a copy of the first, with a target of its own."""
    return {**inputs, "x": [*inputs["x"][:-1], inputs["x"][0]]}


def duplicates(book):
    """One singular kernel at rho = 0 for every approximation."""
    for fisher in FISHERS:
        more = {"prediction": {"eta": 0.046875, "t": 3}}.get(book.operation, {})
        test = 0 if book.operation == "direction" else 7
        widths = (4, 5, 4, 1) if fisher in ("BlockTridiagonal", "Layerwise") else (4, 5, 1)
        y = book.operation != "coefficient"
        inputs, attrs = problem(fisher, widths, 3, 537, N_test=test, y=y, rho=0.0, q=1, **more)
        pins = [*PINV, "two equal samples: the kernels are singular"]
        book.add("boundary", f"{fisher}: two equal samples", FISHERS[fisher][1], pins, twins(inputs), attrs)


def at_the_kink(inputs):
    """Weights and inputs in eighths, so that w . x = 0 exactly, of a live unit, at a sample that is not 0."""
    W, x = ([[round(8 * a) / 8 for a in row] for row in inputs[name]] for name in ("W_1", "x"))
    x[0][:2] = [0.5, -0.25]
    W[0][:2], W[0][2:], x[0][2:] = [0.75, 1.5], [0.5] * (len(W[0]) - 2), [0.0] * (len(x[0]) - 2)
    return {**inputs, "W_1": W, "x": x}


def kinked(book, **options):
    fisher = options.pop("fisher", None)
    test = 7 if book.operation in ("coefficient", "ntk") else 0
    inputs, attrs = problem(fisher, (4, 5, 1), 3, 345, N_test=test, bias=False, activation="relu", **options)
    inputs = at_the_kink(inputs)
    if book.operation == "push":
        inputs |= {"dW_1": draw(34581, (5, 4)), "dW_2": draw(34582, (1, 5))}
    if book.operation == "pull":
        inputs["v"] = draw(34590, (3, 1))
    title = f"{fisher}: a sample at the kink of a unit" if fisher else "a sample at the kink of a unit"
    pins = ["phi'(kink) = 0", "w . x = 0 with x that is not 0"]
    book.add("boundary", title, "THEORY 1", pins, inputs, attrs)


def saturated(book, **options):
    """Units whose tanh rounds to 1, all of them: 1 - tanh^2 has no digit that is right."""
    fisher = options.pop("fisher", None)
    N = 1 if fisher else 2
    inputs, attrs = problem(fisher, (2, 2, 1), N, 346, y=bool(fisher), bias=False, **options)
    inputs |= {"W_1": [[7.5, 6.0], [-6.5, -7.25]], "W_2": [[1.25, -0.75]], "x": [[1.5, 1.25], [1.25, 1.5]][:N]}
    inputs |= {"x_test": [[1.5, 1.5], [1.75, 1.0], [1.25, 1.25]]} if book.operation == "ntk" else {}
    title = f"{fisher}: all units saturated" if fisher else "all units saturated"
    book.add("stress", title, "THEORY 1", ["phi' where tanh rounds to 1"], inputs, attrs)


def passes(book):
    kinked(book, y=False)
    saturated(book)
    inputs, attrs = problem(None, (5, 6, 3), 4, 347, y=False, activation="shifted_relu", shift=-0.5)
    title = "shifted ReLU with a negative shift"
    if book.operation == "ntk":
        inputs["x_test"] = draw(34760, (11, 5))
    book.add("discriminating", title, "K&O C.3.3", ["max(u, 1/2): the kink is at -s = 1/2"], inputs, attrs)


def scaled(inputs, factor, names=("x",)):
    return {**inputs, **{name: [[factor * v for v in row] for row in inputs[name]] for name in names}}


def nearly_dependent(inputs, gap):
    """x = [1 1; 1 1 + gap] of a linear layer: singular values of about 2 and gap / 2."""
    return {**inputs, "x": [[1.0, 1.0], [1.0, 1.0 + gap]]}


def direction(book):
    in_pairs(book)
    duplicates(book)
    for fisher in ("Exact", "KFAC", "Unitwise", "QuasiDiagonal"):
        kinked(book, fisher=fisher, rho=0.15625, q=1)
    saturated(book, fisher="BlockDiagonal", rho=0.0, q=1)
    for fisher in ("Exact", "BlockDiagonal", "KFAC", "Unitwise", "Entrywise", "Identity"):
        inputs, attrs = problem(fisher, (5, 4, 1), 3, 350, rho=0.15625, q=1.5)
        book.add("discriminating", f"{fisher}: q = 1.5", "Huh (12)", ["q need not be whole"], inputs, attrs)
    for fisher in ("Exact", "BlockDiagonal", "KFAC-gram", "Unitwise"):
        inputs, attrs = problem(fisher, (4, 5, 1), 3, 351, rho=0.0, q=2)
        pins = [*PINV, "a root of G of which the null space stays null"]
        book.add("boundary", f"{fisher}: q = 2, undamped, two equal samples", "Huh (12)", pins, twins(inputs), attrs)
    net = {"activation": "linear", "parameterization": "standard", "amplitude": 1.0, "bias": False}
    inputs, attrs = problem("KFAC-gram", (3, 4, 3, 2), 7, 352, rho=0.0, q=2, **net)
    pins = [*PINV, "Huh's sqrt-NGD-d in a network, without its d^{-1/2}", "more samples than inputs"]
    book.add("boundary", "KFAC-gram: q = 2, more samples than inputs", "Huh (21), S.I", pins, inputs, attrs)
    for fisher in ("Layerwise", "QuasiDiagonal"):
        inputs, attrs = problem(fisher, (5, 4, 1), 3, 353, rho=0.15625, q=INF)
        book.add("limit", f"{fisher}: q = inf is gradient descent", "Huh (12)", ["G^0 = I"], inputs, attrs)
    inputs, attrs = problem("BlockTridiagonal", (4, 5, 4, 1), 3, 354, rho=0.15625, q=INF)
    book.add(
        "limit", "BlockTridiagonal: q = inf is gradient descent, rho or not", "Huh (12)", ["G^0 = I"], inputs, attrs
    )
    for fisher in ("Exact", "BlockDiagonal", "BlockTridiagonal", "Layerwise", "KFAC", "Unitwise"):
        inputs, attrs = problem(fisher, (3, 2, 1), 17, 556, rho=0.0, q=1)
        pins = [*PINV, "more samples than parameters in every layer"]
        book.add("boundary", f"{fisher}: N C > P", FISHERS[fisher][1], pins, inputs, attrs)
    for fisher in ("Exact", "KFAC"):
        inputs, attrs = problem(fisher, (1, 1), 3, 356, rho=0.0, q=1, bias=False, activation="linear")
        book.add("limit", f"{fisher}: one parameter", FISHERS[fisher][1], ["P = 1"], inputs, attrs)
    for fisher in ("Exact", "BlockDiagonal", "KFAC", "Unitwise", "Entrywise"):
        for factor in (2.0**-20, 2.0**20):
            net = {"activation": "relu", "bias": False}
            inputs, attrs = problem(fisher, (5, 6, 1), 3, 357, rho=0.0, q=1, **net)
            title = f"{fisher}: inputs times 2^{'20' if factor > 1 else '-20'}"
            book.add("stress", title, FISHERS[fisher][1], ["cut-offs are relative"], scaled(inputs, factor), attrs)
    for fisher in ("Exact", "KFAC", "Unitwise"):
        inputs, attrs = problem(fisher, (2, 1), 2, 358, rho=0.0, q=1, bias=False, activation="linear")
        pins = ["singular values of 1 and 1e-6 are no rounding"]
        inputs = nearly_dependent(inputs, 2.0**-18)
        book.add("stress", f"{fisher}: singular values 1 and 1e-6", FISHERS[fisher][1], pins, inputs, attrs)
    for fisher in ("Exact", "BlockDiagonal", "Unitwise"):
        inputs, attrs = problem(fisher, (2, 2), 2, 359, rho=0.0, q=1, bias=False, activation="linear")
        pins = ["as accurate as from J: a Gram matrix has to be refined, kappa_gram = kappa"]
        inputs = nearly_dependent(inputs, 2.0**-12)
        book.add("stress", f"{fisher}: refined", "THEORY 12", pins, inputs, attrs, strict=True)
    inputs, attrs = problem("Exact", (5, 6, 3), 4, 360, rho=0.0, q=1, loss=0.25)
    inputs["W_2"] = [[32.0 * (c == 0) + 0.5 * v for v in row] for c, row in enumerate(inputs["W_2"])]
    book.add("stress", "Exact: saturated softmax", "K&O (S.159)", ["p is 1 to rounding"], inputs, attrs)
    for rho, Sigma, what in (
        (0.15625, [[1.0, 0.0], [0.0, 0.0]], "a layer that Sigma leaves out"),
        (0.15625, [[1.0, -0.5], [-0.5, 0.25]], "1 is not in the range of Sigma, damped"),
    ):
        inputs, attrs = problem("Layerwise", (5, 4, 1), 3, 361, rho=rho, q=1)
        inputs["Sigma"] = Sigma
        book.add("boundary", f"Layerwise: {what}", "K&O (15)", ["G + rho I is regular"], inputs, attrs)
    net = {"parameterization": "standard", "bias": False, "amplitude": 1.0}
    for fisher in ("KFAC", "KFAC-separate"):
        inputs, attrs = problem(fisher, (5, 6, 3), 4, 362, rho=0.15625, q=1, **net)
        pins = ["without bias there is none to separate"]
        book.add("discriminating", f"{fisher}: standard, without bias", FISHERS[fisher][1], pins, inputs, attrs)
    inputs, attrs = problem("BlockDiagonal", (5, 4, 1), 3, 363, rho=0.0, q=1, activation="relu", bias=False)
    inputs = scaled(inputs, 2.0**60, ("W_1",))
    book.add("stress", "BlockDiagonal: weights times 2^60", "K&O (18)", ["layers of any size"], inputs, attrs)


def coefficient(book):
    in_pairs(book)
    duplicates(book)
    for name in ("BlockDiagonal", "KFAC-gram", "Unitwise"):
        inputs, attrs = problem(name, (4, 5, 1), 3, 370, N_test=7, y=False, rho=0.0, q=2)
        pins = [*PINV, "a root of G of which the null space stays null"]
        book.add("boundary", f"{name}: q = 2, undamped, two equal samples", "K&O (11)", pins, twins(inputs), attrs)
    inputs, attrs = problem("QuasiDiagonal", (5, 6, 3), 4, 371, N_test=11, y=False, rho=0.15625, q=2, bias=False)
    book.add("discriminating", "QuasiDiagonal: q = 2, no bias", "THEORY 5", ["the plain diagonal"], inputs, attrs)
    inputs, attrs = problem("QuasiDiagonal", (5, 6, 3), 4, 372, N_test=11, y=False, rho=0.0, q=1)
    book.add("discriminating", "QuasiDiagonal: undamped, C = 3", "THEORY 5", PINV, inputs, attrs)
    for fisher in ("Exact", "BlockDiagonal", "KFAC", "KFAC-gram", "Unitwise"):
        inputs, attrs = problem(fisher, (5, 6, 3), 4, 373, N_test=11, rho=0.15625, q=1, loss=0.25)
        pins = ["Theta_bar acts on p - y: J(x') G^{-1/q} J(x)^T / N with the output Hessian in G alone"]
        book.add("discriminating", f"{fisher}: cross-entropy", "K&O (11), (S.159)", pins, inputs, attrs)
    for fisher in ("Exact", "BlockDiagonal", "KFAC", "Unitwise"):
        inputs, attrs = problem(fisher, (3, 2, 1), 17, 556, N_test=7, y=False, rho=0.0, q=1)
        pins = [*PINV, "more samples than parameters in every layer"]
        book.add("boundary", f"{fisher}: N C > P", "K&O (11)", pins, inputs, attrs)
    kinked(book, fisher="Unitwise", y=False, rho=0.15625, q=1)


def fisher_matrix(book):
    in_pairs(book)
    for fisher in FISHERS:
        inputs, attrs = problem(fisher, (5, 6, 3), 4, 380, y=False, rho=0.15625)
        pins = [FISHERS[fisher][2], "sizes and settings that tell factors apart"]
        book.add("discriminating", f"{fisher}: distinct sizes", FISHERS[fisher][1], pins, inputs, attrs)


def prediction(book):
    in_pairs(book)
    duplicates(book)
    inputs, attrs = problem("Exact", (5, 4, 1), 3, 390, N_test=7, rho=0.0, q=1, eta=1.5, t=INF)
    book.add("limit", "Exact: t = inf with eta alpha = 1.5", "K&O (14)", ["0 < eta alpha < 2 converges"], inputs, attrs)
    title, catches, error = (
        "Exact: t = inf with eta alpha = 2.5",
        "a limit that does not exist",
        "no limit at t = inf: eta",
    )
    book.refuse(title, "K&O (14)", catches, inputs, attrs | {"eta": 2.5}, error)


def training(book):
    in_pairs(book)
    for fisher in ("KFAC", "Exact", "Unitwise", "BlockDiagonal"):
        inputs, attrs = problem(fisher, (5, 4, 1), 3, 400, rho=0.15625, q=1, eta=0.09375, steps=3)
        book.add("discriminating", f"{fisher}: three steps, distinct sizes", "K&O (7)", [], inputs, attrs)


# ------------------------------------------------------------------------------------------- widths that have an alpha


def alpha(book):
    plain = {"activation": "tanh", **DISTINCT, **NTK, "n": 5}
    for title, fisher, more, value in (
        ("BlockDiagonal, linear, with bias", "BlockDiagonal", {"activation": "linear", "widths": [6, 4, 6, 1]}, True),
        (
            "BlockDiagonal, narrow: only the first layers have n independent rows",
            "BlockDiagonal",
            {"widths": [6, 6, 2, 1]},
            False,
        ),
        ("Exact, narrow: layers have full rank together", "Exact", {"widths": [3, 3, 2]}, True),
        ("KFAC, more samples than inputs", "KFAC", {"widths": [3, 6, 1]}, False),
        ("KFAC, first layer frozen", "KFAC", {"widths": [3, 6, 6, 1], "frozen": 1}, True),
        ("KFAC-gram, first layer frozen", "KFAC-gram", {"widths": [3, 6, 6, 1], "frozen": 1}, True),
        ("Entrywise", "Entrywise", {"widths": [6, 6, 1]}, False),
        ("QuasiDiagonal", "QuasiDiagonal", {"widths": [6, 6, 1]}, False),
        ("Identity", "Identity", {"widths": [6, 6, 1]}, False),
    ):
        attrs = FISHERS[fisher][0] | plain | more
        if value:
            book.add("discriminating", title, "K&O (12)", ["generic weights and inputs"], {}, attrs)
        else:
            error = "there is no alpha for these widths and this fisher: Theta_bar is not alpha I"
            book.refuse(title, "K&O (12)", "an alpha where there is none", {}, attrs, error)


# ------------------------------------------------------------------------------------------------------ infinite width


def wide(N, N_test, M, stream, depth, activation, bias=True, **more):
    inputs = {"x": draw(100 * stream + 50, (N, M)), "x_test": draw(100 * stream + 60, (N_test, M))}
    attrs = {"activation": activation, **DISTINCT, **NTK, "depth": depth} | more
    return inputs, attrs | {"sigma_b": DISTINCT["sigma_b"] * bias}


def kernels(book):
    for activation, bias, more in (
        ("relu", True, {}),
        ("erf", False, {}),
        ("shifted_relu", True, {"shift": -0.5}),
        ("linear", False, {}),
    ):
        inputs, attrs = wide(3, 7, 4, 410, 3, activation, bias, **more)
        title = f"{activation}, depth 3, {'with' if bias else 'without'} bias, distinct sizes"
        book.add("discriminating", title, "K&O (S.169) to (S.179)", ["inputs of any norm"], inputs, attrs)
    inputs, attrs = wide(3, 7, 4, 411, 4, "relu")
    inputs["x_test"][2] = inputs["x"][1]
    book.add("boundary", "relu: a test sample that is a training sample", "K&O (S.70)", ["r = 1"], inputs, attrs)


def kernel_coefficient(book):
    for fisher, rho, q in (
        ("Exact", 0.15625, 1.5),
        ("BlockDiagonal", 0.15625, 3),
        ("BlockTridiagonal", 0.15625, 1),
        ("KFAC", 0.15625, 1.5),
        ("KFAC-separate", 0.15625, 3),
        ("KFAC-gram", 0.15625, 1.5),
        ("Identity", 0.15625, 3),
        ("Layerwise", 0.0, INF),
    ):
        inputs, attrs = wide(3, 7, 4, 412, 3, "relu", **FISHERS[fisher][0], rho=rho, q=q)
        inputs = {**inputs, "Sigma": SIGMA[3]} if fisher == "Layerwise" else inputs
        kind = "limit" if q == INF else "discriminating"
        title = f"{fisher}: rho = {rho}, q = {q}, distinct sizes"
        book.add(kind, title, f"K&O (11), (21); {FISHERS[fisher][1]}", ["N is that of the training set"], inputs, attrs)


def order_parameters(book):
    for activation, shift in (("relu", None), ("erf", None), ("shifted_relu", 0.75)):
        attrs = {"activation": activation, **DISTINCT, **NTK, "depth": 4, "norm": 1.75, "M_0": 5}
        attrs |= {} if shift is None else {"shift": shift}
        book.add("discriminating", f"{activation}, distinct settings", "K&O (S.138)", [], {}, attrs)


# ---------------------------------------------------------------------------------------------------- powers and losses


def inverse_power(book):
    tiny = [[1.0, 0.0, 0.0], [0.0, 2.0**-15, 0.0], [0.0, 0.0, 3.0]]
    for factor in (1.0, 2.0**-60, 2.0**60):
        K = [[factor * v for v in row] for row in tiny]
        title = f"eigenvalues 3 and 3e-5, times {factor:g}"
        book.add("stress", title, "THEORY 12", ["cut-offs are relative"], {"K": K}, {"rho": 0.0, "q": 1})
    K = [[2.0, 0.5, -0.25], [0.5, 1.0, 0.125], [-0.25, 0.125, 0.75]]
    for q in (1.5, 2.5):
        book.add("discriminating", f"q = {q}", "THEORY 1", ["q need not be whole"], {"K": K}, {"rho": 0.0, "q": q})
    book.add("limit", "one number", "THEORY 1", ["n = 1"], {"K": [[0.75]]}, {"rho": 0.15625, "q": 1.5})


def cross_entropy(book):
    pins = ["the residual of a sample that is learnt: no difference of numbers near 1"]
    y = [[1.0, 0.0, 0.0]]
    attrs = {"loss_rho": 0.125, "alpha": 1.75}
    book.add("stress", "saturated softmax", "K&O (S.158)", pins, {"f": [[40.0, 1.5, 0.0]], "y": y}, attrs)
    inputs = {"f": draw(420, (4, 3)), "y": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}
    book.add("discriminating", "distinct settings", "K&O (S.168)", [], inputs, {"loss_rho": 0.40625, "alpha": 1.3125})


# ------------------------------------------------------------------------------------------------- deep linear networks


def deep_linear_update(book):
    pins = ["the pseudo-inverse where J has no full rank"]
    inputs = weights((3, 3, 3, 3), 430)
    inputs["w_2"] = [[a * b for b in (0.75, -0.5, 1.25)] for a in (1.0, 0.5, -0.25)]
    for title, attrs in (
        ("NGD-d", {"q": 1, "block": True}),
        ("sqrt-NGD-d", {"q": 2, "block": True}),
        ("NGD", {"q": 1, "block": False}),
    ):
        book.add("boundary", f"{title}: a layer of rank one", "Huh (19)", pins, inputs, attrs)
    for title, attrs in (("NGD", {"q": 1, "block": False}), ("NGD-d", {"q": 1, "block": True})):
        inputs = weights((3, 2, 1, 3), 431)
        book.add("boundary", f"{title}: a bottleneck among three layers", "Huh (9), (19)", pins, inputs, attrs)
    attrs = {"q": 2, "block": True, "rho": 0.25}
    book.add(
        "discriminating", "sqrt-NGD-d, damped", "Huh (21)", ["rho in each block"], weights((3, 4, 3, 2), 432), attrs
    )
    inputs = weights((2, 2, 2), 433)
    inputs |= {"w_1": [[0.5, 1.0], [-0.25, 0.75]], "w_2": [[1.5, -0.5], [0.25, 1.0]]}
    inputs["w_star"] = [[0.875, 1.125], [-0.125, 1.0]]  # w_2 w_1
    attrs = {"q": 2, "block": False, "clip": 0.25}
    book.add("boundary", "sqrt-NGD, clipped: at the target", "Huh (12)", ["E = 0 gives u = 0"], inputs, attrs)
    for block in (False, True):
        attrs = {"q": 1.5, "block": block, "rho": 0.15625, "regularised": True}
        title = f"q = 1.5, regularised, {'blocks' if block else 'full'}: not white"
        inputs = weights((3, 4, 3), 434, Sigma_x=SIGMA_X)
        book.add("discriminating", title, "Huh (12), (S.I.15)", ["(1 + rho)^{1/q}"], inputs, attrs)
    for title, attrs in (("NGD", {"q": 1, "block": False}), ("sqrt-NGD-d", {"q": 2, "block": True})):
        inputs = {name: [[v * 2.0 ** -(150 * name.startswith("w_s") or 75) for v in row] for row in array]
                  for name, array in weights((3, 4, 3), 435).items()}  # fmt: skip
        pins = ["K, of the size of w^2, is scaled; so is E"]
        book.add("stress", f"{title}: tiny weights, which K squares", "Huh (9), (21)", pins, inputs, attrs)


def deep_linear_step(book):
    attrs = {"q": 1.5, "block": False, "eta": 0.09375, "steps": 3}
    book.add("discriminating", "q = 1.5: three steps", "Huh (12)", [], weights((3, 4, 3, 2), 436), attrs)
    attrs = {"q": 2, "block": True, "rho": 0.15625, "regularised": True, "clip": 1.5, "eta": 0.09375, "steps": 2}
    inputs = weights((3, 4, 3), 437, Sigma_x=SIGMA_X)
    book.add("discriminating", "sqrt-NGD-d with all options, not white", "Huh (21), (S.I.15)", [], inputs, attrs)


def null_update(book):
    for widths, stream in (((3, 4, 3, 2), 440), ((3, 4, 2), 441), ((2, 3), 442)):
        inputs = weights(widths, stream)
        inputs.pop("w_star")
        inputs |= {f"m_{i}": draw(100 * stream + 80 + i, (n, n)) for i, n in enumerate(widths[1:-1], 1)}
        kind = "limit" if len(widths) == 2 else "discriminating"
        pins = ["dw_i = m_i w_i - w_i m_{i-1}", "m_0 = m_d = 0"]
        book.add(kind, f"{len(widths) - 1} layers", "Huh, section 2", pins, inputs, {})


def euler_drift(book):
    for widths, stream in (((3, 4, 3, 2), 443), ((3, 4, 2), 444)):
        inputs = weights(widths, stream)
        inputs.pop("w_star")
        inputs["Lambda"] = draw(100 * stream + 90, (widths[-1], widths[0]))
        pins = ["u_i = L_i^T Lambda R_i^T", "w - h u changes c_i by h^2 (u_i u_i^T - u_{i+1}^T u_{i+1})"]
        book.add("discriminating", f"{len(widths) - 1} layers", "Huh (15)", pins, inputs, {"h": 0.375})


def statistics(book):
    for P, stream in ((7, 445), (3, 446)):
        inputs = {"x": draw(100 * stream + 1, (P, 3)), "y": draw(100 * stream + 2, (P, 2))}
        kind, title = (
            ("discriminating", "more samples than inputs") if P > 3 else ("boundary", "as many samples as inputs")
        )
        pins = ["Sigma_x = E[x x^T] without a mean", "const: the least loss"]
        book.add(kind, title, "Huh (1)", pins, inputs, {})
    inputs = {"x": [[1.0, 2.0], [2.0, 4.0], [-0.5, -1.0]], "y": [[1.0], [0.5], [0.25]]}
    pins = ["of all maps with the least loss the one of least norm"]
    book.add("boundary", "inputs on a line", "Huh (1)", pins, inputs, {})


def flow(book):
    for title, attrs in (
        ("SGD", {"q": INF, "block": False}),
        ("sqrt-NGD", {"q": 2, "block": False}),
        ("NGD-d, damped", {"q": 1, "block": True, "rho": 0.25}),
    ):
        inputs = weights((2, 2, 2), 450) | {"times": [0.125, 0.25]}
        pins = ["w' = -eta u", "kappa is that of an integrator with errors of 1e-13"]
        book.add("discriminating", title, "Huh (5), (12), (19)", pins, inputs, attrs | {"eta": 0.75})


# ------------------------------------------------------------------------------------------------------- singular modes

LAYERS, STARS = [[0.25, 1.5, -0.5], [0.5, 0.75, 0.875], [0.875, 1.25, 1.5]], [2.0, 1.0, 0.5]


def mode_velocity(book):
    for block in (False, True):
        attrs = {"q": 1.5, "block": block, "eta": 0.75}
        title = f"{'block, ' if block else ''}q = 1.5"
        book.add("discriminating", title, "Huh (12)", ["eta"], {"s": LAYERS, "s_star": STARS}, attrs)
    inputs = {"s": LAYERS, "s_star": [0.0, 1.0, 0.0]}
    book.add("boundary", "targets of 0", "Huh (12)", ["s_star = 0"], inputs, {"q": 2, "block": False, "eta": 0.75})
    for q in (1, 2, INF):
        inputs = {"s": [[0.0, 0.5], [0.0, 1.25], [0.75, 0.0]], "s_star": [1.0, 2.0]}
        pins = ["j = 0: a saddle, where all layers stay"]
        book.add("boundary", f"the saddle, q = {q}", "Huh (12)", pins, inputs, {"q": q, "block": False, "eta": 0.75})


def mode_solution(book):
    for p in (2.0**-20, 1 - 2.0**-20, 1 + 2.0**-20, 2 - 2.0**-20):
        for s0 in (0.25, 3.0):
            inputs, pins = {"t": [0.25, 1.75], "s_star": 2.0, "s0": s0}, ["formulas of p = 0, 1, 2 are limits"]
            title = f"p next to {round(p)}, from {'below' if s0 < 2 else 'above'}"
            book.add("discriminating", title, "Huh (17)", pins, inputs, {"p": p, "eta_bar": 1.3125})


def mode_time(book):
    for p in (2.0**-20, 1 + 2.0**-20, 1.5):
        inputs = {"fraction": [0.25, 0.875], "s_star": 2.0, "s0": 0.25}
        title = f"p = {p:g}, eta_bar that is not 1"
        book.add("discriminating", title, "Huh (17)", [], inputs, {"p": p, "eta_bar": 1.3125})
    inputs = {"fraction": [1.75, 1.25, 1.5], "s_star": 2.0, "s0": 3.0}
    pins = ["inf beyond the start; 0 at it"]
    book.add("boundary", "from above, beyond the start", "Huh (17)", pins, inputs, {"p": 1.5, "eta_bar": 1.3125})


def mode_escape(book):
    for p in (0.0, 0.5, 1.0, 1 + 2.0**-20, 1.5, 2.0):
        for s0 in (0.25, 3.0):
            title = f"p = {p:g}, from {'below' if s0 < 2 else 'above'}"
            pins = ["s_bar' = eta_bar s_star s_bar^p"]
            inputs = {"s_star": 2.0, "s0": s0}
            book.add("discriminating", title, "Huh 4.2", pins, inputs, {"p": p, "eta_bar": 1.3125})
    for p in (0.5, 1.0):
        inputs = {"s_star": [2.0, 0.75], "s0": 0.0}
        book.add("boundary", f"p = {p:g}, from 0", "Huh 4.2", ["inf for p >= 1"], inputs, {"p": p, "eta_bar": 1.3125})
    inputs = {"s_star": 2.0, "s0": 0.25}
    book.refuse("p > 2", "Huh 4.2", "a depth that there is not", inputs, {"p": 2.5, "eta_bar": 1.0}, "p is above 2")


def mode_speed(book):
    for q in (1, 1.5, 2, INF):
        pins = ["speed: ||s'||, over layers", "product: s_bar'"]
        inputs = {"s": LAYERS, "s_star": STARS}
        book.add("discriminating", f"q = {q}", "Huh (7), (11), (13), (14), (16)", pins, inputs, {"q": q, "eta": 0.75})
    inputs = {"s": [[0.0], [0.0], [0.75]], "s_star": [1.0]}
    book.add("boundary", "the saddle", "Huh (13)", ["0 at the saddle"], inputs, {"q": 1, "eta": 0.75})
    inputs = {"s": [[1e-200], [3e-200]], "s_star": [1.0]}
    book.add("stress", "tiny layers", "Huh (11)", ["not exact in float32"], inputs, {"q": 2, "eta": 0.75})


def mode_exponents(book):
    for d, q, eta in ((5, 1.5, 0.75), (INF, 2, 0.75)):
        kind = "limit" if d == INF else "discriminating"
        book.add(kind, f"d = {d}, q = {q}", "Huh (17), (18)", [], {}, {"d": d, "q": q, "eta": eta})


# ------------------------------------------------------------------------------------- what else the theory says


def batch_training(book):
    order = [[4.0, 0.0, 3.0, 1.0, 2.0], [1.0, 3.0, 0.0, 2.0, 4.0]]
    for fisher, more in (
        ("KFAC", {"rho": 0.15625, "q": 1}),
        ("BlockDiagonal", {"rho": 0.15625, "q": 2}),
        ("Identity", {"rho": 0.0, "q": 1}),
        ("Exact", {"rho": 0.15625, "q": 1, "frozen": 1, "loss": 0.25}),
    ):
        C = 3 if "loss" in more else 1
        inputs, attrs = problem(fisher, (6, 7, C), 5, 460, eta=0.09375, steps=4, batch=2, **more)
        inputs["order"] = order
        pins = [
            "row k of order is that of the samples in epoch k",
            "the last batch of an epoch is smaller",
            "means are over the batch; the loss is that of the batch of the next step",
        ]
        book.add("discriminating", f"{fisher}: batches of 2 of 5 samples", "K&O (7)", pins, inputs, attrs)


def linearized(book):
    inputs, attrs = problem(None, (5, 6, 3), 4, 461, y=False)
    inputs |= {"V_1": draw(46181, (6, 6)), "V_2": draw(46182, (3, 7))}
    pins = ["f_0 + J_0 (theta - theta_0): theta_0 is that of W_l, theta that of V_l"]
    book.add("discriminating", "two layers with bias", "K&O (S.23)", pins, inputs, attrs)


def linearized_training(book):
    for fisher, loss in (("Exact", 0.25), ("BlockDiagonal", 0.25), ("KFAC", None), ("Identity", 0.25)):
        C = 3 if loss else 1
        inputs, attrs = problem(fisher, (5, 6, C), 4, 462, N_test=11, rho=0.15625, q=1, eta=0.09375, steps=3, loss=loss)
        pins = ["J is that of the start, the residual and the output Hessian those of the outputs"]
        book.add("discriminating", f"{fisher}: {'cross-entropy' if loss else 'MSE'}", "K&O (S.24)", pins, inputs, attrs)


def empirical_kernels(book):
    inputs, attrs = problem(None, (5, 6, 5, 3), 4, 463, N_test=11, y=False)
    pins = ["h' h^T and delta' delta^T, no 1/N", "B is (N'C, NC)"]
    book.add("discriminating", "three layers with bias", "K&O (S.66), (S.67)", pins, inputs, attrs)


def positive(stream, n):
    """A A^T / 4 + I / 2 in eighths squared, exact."""
    A = [[round(8 * v) / 8 for v in row] for row in draw(stream, (n, n))]
    return [[sum(a * b for a, b in zip(r, s, strict=True)) / 4 + 0.5 * (i == j) for j, s in enumerate(A)]
            for i, r in enumerate(A)]  # fmt: skip


def dynamics(book):
    for title, n, C, t in (
        ("one kernel for three outputs, as at infinite width", 4, 3, 5),
        ("a kernel of all outputs", 6, 2, 5),
        ("one kernel for three outputs, t = inf", 4, 3, INF),
        ("t = 0", 4, 3, 0),
    ):
        N = n if C == 3 else 3
        rows = 7 if C == 3 else 14
        inputs = {
            "Theta_bar": positive(464, n),
            "cross": draw(46460, (rows, n)),
            "f": draw(46461, (N, C)),
            "f_test": draw(46462, (7, C)),
            "y": draw(46463, (N, C)),
        }
        pins = ["rows of Theta_bar are sample-major, or it is one (N, N) for every output"]
        kind = "discriminating" if t == 5 else "limit"
        book.add(kind, title, "K&O (10)", pins, inputs, {"eta": 0.15625, "t": t})
    null = [[a * b for b in (1.0, -0.5, 0.75)] for a in (1.0, -0.5, 0.75)]
    inputs = {
        "Theta_bar": null,
        "cross": draw(46560, (4, 3)),
        "f": draw(46561, (3, 1)),
        "f_test": draw(46562, (4, 1)),
        "y": draw(46563, (3, 1)),
    }
    for t in (3, INF):
        pins = ["what Theta_bar does not see stays; R_t grows along it as eta t, or is 0 at t = inf"]
        book.add("boundary", f"a kernel of rank one, t = {t}", "K&O (10)", pins, inputs, {"eta": 0.15625, "t": t})
    error = "no limit at t = inf with this eta and Theta_bar"
    inputs = inputs | {"Theta_bar": positive(464, 3)}
    book.refuse(
        "t = inf with a rate too large", "K&O (14)", "a limit that is none", inputs, {"eta": 7.5, "t": INF}, error
    )
    inputs = inputs | {"Theta_bar": [[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}
    error = "Theta_bar is not symmetric"
    book.refuse("Theta_bar not symmetric", "K&O (10)", "half of it used", inputs, {"eta": 0.5, "t": 1}, error)


def isotropy(book):
    pins = ["alpha: the mean eigenvalue", "deviation: ||Theta_bar - alpha I||_2 / |alpha|", "rate: 1 / lambda_max"]
    book.add("discriminating", "positive definite", "K&O (12), (17)", pins, {"Theta_bar": positive(466, 5)}, {})
    K = [[2.0, 0.5, -0.25], [0.5, -1.0, 0.125], [-0.25, 0.125, 0.75]]
    book.add("boundary", "indefinite", "K&O (12)", ["condition is inf"], {"Theta_bar": K}, {})
    K = [[-2.0, 0.5], [0.5, -1.0]]
    error = "Theta_bar has no positive eigenvalue: no rate converges"
    book.refuse("negative definite", "K&O (17)", "a rate that diverges", {"Theta_bar": K}, {}, error)


def cross_entropy_flow(book):
    for title, same, t in (
        ("one kernel for all outputs", True, 1.5),
        ("a kernel of all outputs", False, 1.5),
        ("t = 0", True, 0.0),
    ):
        N, C = 4, 3
        inputs = {
            "f": draw(46761, (N, C)),
            "y": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            "cross": draw(46760, (7, N) if same else (7 * C, N * C)),
            "f_test": draw(46762, (7, C)),
        }
        pins = ["p_t = y + (p_0 - y) e^{-alpha eta t}", "f_t(x') = f_0(x') + Theta_bar(x', x) R_t"]
        kind = "discriminating" if t else "limit"
        book.add(kind, title, "K&O (S.168), THEORY 7", pins, inputs, {"eta": 0.75, "alpha": 1.3125, "t": t})
    book.refuse(
        "t < 0", "THEORY 7", "a flow backwards", inputs, {"eta": 0.75, "alpha": 1.0, "t": -1.0}, "t is negative"
    )


def standardise(book):
    inputs = {"x": draw(46860, (4, 3)), "x_train": draw(46861, (7, 3))}
    pins = ["one mean and one deviation for all entries", "the deviation divides by their number", "those of x_train"]
    book.add("discriminating", "test inputs", "K&O, published code", pins, inputs, {})
    inputs = inputs | {"x_train": [[1.5, 1.5, 1.5]] * 2}
    error = "x_train is constant: it has no scale"
    book.refuse("constant inputs", "K&O, published code", "0/0", inputs, {}, error)


EXTENDED = {
    **{name: passes for name in ("forward", "signals", "jacobian", "ntk")},
    "push": lambda book: kinked(book, y=False),
    "pull": lambda book: kinked(book, y=False),
    **{f.__name__: f for f in (direction, coefficient, fisher_matrix, prediction, training, alpha, kernels)},
    **{f.__name__: f for f in (kernel_coefficient, order_parameters, inverse_power, cross_entropy)},
    **{f.__name__: f for f in (deep_linear_update, deep_linear_step, mode_velocity, mode_solution, mode_time)},
    "mode_exponents": mode_exponents,
}
NEW = (
    (batch_training, "Weights after some steps in batches of samples in a given order, and the losses of the batches."),
    (linearized, "Outputs at other weights V_l of the network linearised at W_l, K&O (S.23)."),
    (linearized_training, "Outputs after some steps of the network linearised at W_l, for any loss, K&O (S.24)."),
    (empirical_kernels, "A_{l-1} (N', N) and B_l (N'C, NC) at finite width, K&O (S.66), (S.67)."),
    (dynamics, "Outputs after t steps of the linearised training with a given Theta_bar, K&O (10)."),
    (isotropy, "How far a Theta_bar (NC, NC) is from alpha I, and its optimal rate, K&O (12), (17)."),
    (
        cross_entropy_flow,
        "Probabilities and outputs at time t of the training by the cross-entropy, where it is isotropic.",
    ),
    (standardise, "Inputs less the mean of all training entries, over their standard deviation."),
    (statistics, "w_star, Sigma_x and the least loss of samples x (P, n_in), y (P, n_out), Huh (1)."),
    (flow, "Weights at the last of the times under w' = -eta u, and the losses at all, Huh (5), (12), (19)."),
    (null_update, "dw_i = m_i w_i - w_i m_{i-1}, which leaves w_bar alone, Huh section 2."),
    (euler_drift, "u = J Lambda, and what a step w - h u adds to c_i, Huh (15)."),
    (mode_speed, "||s'|| and s_bar' of singular modes, Huh (7), (11), (13), (14), (16)."),
    (mode_escape, "The time from s0 to s_star without the saturation at the target, Huh 4.2."),
)
ABOUT = {make.__name__: about for make, about in NEW}


def extend(book):
    """The book with its later cases."""
    for make, _ in NEW:
        if make.__name__ == book.operation:
            make(book)
    EXTENDED.get(book.operation, lambda book: None)(book)
    return book
