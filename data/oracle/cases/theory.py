"""Isotropy, dynamics, losses, kernels at infinite width, powers, the Forster transform: THEORY 3, 6, 7, 8."""

from .directions import FISHERS, SIGMA, problem
from .problems import Book, draw, one_hot

INF = float("inf")
NTK = {"parameterization": "ntk"}


def fishers(*names):
    return [(name, FISHERS[name][0], FISHERS[name][1]) for name in names]


def alpha():
    book = Book("alpha")
    plain = {"activation": "tanh", "sigma_w": 1.5, "sigma_b": 0.0, "parameterization": "ntk", "n": 2}
    for name, attrs, equation in fishers("Exact", "BlockDiagonal", "BlockTridiagonal", "KFAC", "KFAC-gram"):
        book.add(
            "discriminating",
            f"{name}, L = 3",
            f"K&O (12); {equation}",
            ["alpha of n samples, rho = 0, q = 1"],
            {},
            attrs | plain | {"widths": [3, 4, 4, 1]},
        )
    for L in (2, 4, 5):
        book.add(
            "discriminating" if L < 5 else "boundary",
            f"BlockTridiagonal, L = {L}",
            "K&O (16), (19)",
            ["L = 3s: s; L = 3s+1 and 3s+2: s+1"],
            {},
            FISHERS["BlockTridiagonal"][0] | plain | {"widths": [3, *[3] * (L - 1), 1]},
        )
    for L in (2, 3):
        book.add(
            "discriminating",
            f"Layerwise, L = {L}",
            "K&O (16)",
            ["alpha = 1^T Sigma^{-1} 1"],
            {"Sigma": SIGMA[L]},
            FISHERS["Layerwise"][0] | plain | {"widths": [3, *[3] * (L - 1), 1]},
        )
    book.add(
        "discriminating",
        "KFAC, two outputs",
        "K&O (20), table 1",
        ["N L whatever C"],
        {},
        FISHERS["KFAC"][0] | plain | {"widths": [3, 5, 2]},
    )
    book.add(
        "boundary",
        "KFAC, linear activation, bias",
        "K&O (20)",
        ["a linear net has one delta_l for all samples"],
        {},
        FISHERS["KFAC"][0] | plain | {"widths": [3, 4, 4, 1], "activation": "linear", "sigma_b": 0.5},
    )
    book.add(
        "discriminating",
        "BlockDiagonal, first layer frozen",
        "K&O (12)",
        ["L counts the layers that are trained"],
        {},
        FISHERS["BlockDiagonal"][0] | plain | {"widths": [3, 4, 4, 1], "frozen": 1},
    )
    wide = plain | FISHERS["Unitwise"][0] | {"n": 3, "widths": [6, 40, 30, 1]}
    for activation, shift in (("tanh", 0.0), ("relu", 0.0), ("shifted_relu", 0.75)):
        more = {"activation": activation, "sigma_b": 0.5} | ({"shift": shift} if shift else {})
        book.add(
            "discriminating",
            f"Unitwise, {activation}",
            "K&O (S.128), (S.141), (S.157)",
            ["sum_l gamma_l M_l / C + 1, the wide limit for ||x|| = 1"],
            {},
            wide | more,
        )
    book.add(
        "discriminating",
        "Unitwise, two outputs, first layer frozen",
        "K&O (S.128)",
        ["divided by C"],
        {},
        wide | {"widths": [6, 40, 30, 2], "activation": "relu", "frozen": 1},
    )
    return book


PREDICTED = dict(widths=(3, 4, 3, 1), N=3, activation="tanh", sigma_b=0.5, stream=219)
OUTPUTS = dict(widths=(3, 5, 2), N=2, activation="relu", stream=62)


def prediction():
    book = Book("prediction")
    rates = {
        "Identity": 0.125,
        "Exact": 0.5,
        "BlockDiagonal": 0.125,
        "BlockTridiagonal": 0.5,
        "Layerwise": 0.25,
        "KFAC": 0.0625,
        "Unitwise": 0.0625,
        "Entrywise": 0.03125,
        "QuasiDiagonal": 0.03125,
    }
    for name, eta in rates.items():
        for net, attrs, t in ((PREDICTED, {"rho": 0.0, "q": 1}, 3), (OUTPUTS, {"rho": 0.25, "q": 1}, 5)):
            if name == "Layerwise" and net is OUTPUTS:
                continue
            inputs, full = problem(name, net, attrs, N_test=2)
            book.add(
                "discriminating",
                f"{name}: t = {t}, rho = {attrs['rho']}",
                f"K&O (10); {FISHERS[name][1]}",
                ["discrete steps", "eta multiplies the direction"],
                inputs,
                full | {"eta": eta, "t": t},
            )
    for name, t, kind in (("Exact", INF, "limit"), ("Identity", INF, "limit"), ("BlockDiagonal", 0, "limit")):
        inputs, full = problem(name, PREDICTED, {"rho": 0.0, "q": 1}, N_test=2)
        book.add(
            kind,
            f"{name}: t = {t}",
            "K&O (10), (14)",
            ["t = inf interpolates the training set", "t = 0 is f_0"],
            inputs,
            full | {"eta": 0.125, "t": t},
        )
    inputs, full = problem("Exact", PREDICTED, {"rho": 0.0, "q": 2}, N_test=2)
    book.add(
        "discriminating",
        "Exact: q = 2, t = 4",
        "K&O (10), THEORY 7",
        ["Theta_bar = Theta^{1/2}"],
        inputs,
        full | {"eta": 0.25, "t": 4},
    )
    inputs, full = problem("Exact", PREDICTED, {"rho": 0.0, "q": 1}, N_test=2)
    book.add(
        "discriminating",
        "Exact: one step of eta = 1 interpolates",
        "K&O (14)",
        ["eta alpha = 1"],
        inputs,
        full | {"eta": 1.0, "t": 1},
    )
    wrong = {**inputs, "y": draw(5, (2, 1))}
    book.refuse(
        "y of the wrong shape",
        "K&O (10)",
        "a y that broadcasts",
        wrong,
        full | {"eta": 0.5, "t": 1},
        "y has shape (2, 1); expected (N, C) = (3, 1)",
    )
    book.refuse(
        "eta = 0",
        "K&O (10)",
        "a rate that does nothing",
        inputs,
        full | {"eta": 0.0, "t": 1},
        "eta must be positive",
    )
    book.refuse(
        "t = 1.5",
        "K&O (10)",
        "steps that are not whole",
        inputs,
        full | {"eta": 0.5, "t": 1.5},
        "t must be 0, 1, 2, .. or inf",
    )
    return book


def training():
    book = Book("training")
    net = dict(widths=(2, 3, 2, 1), N=2, activation="tanh", sigma_b=0.5, stream=71)
    rates = {
        "Identity": 0.125,
        "Exact": 0.25,
        "BlockDiagonal": 0.125,
        "BlockTridiagonal": 0.125,
        "Layerwise": 0.125,
        "KFAC": 0.03125,
        "KFAC-separate": 0.03125,
        "Unitwise": 0.0625,
        "Entrywise": 0.03125,
        "QuasiDiagonal": 0.03125,
    }
    for name, eta in rates.items():
        inputs, full = problem(name, net, {"rho": 0.25, "q": 1})
        book.add(
            "discriminating",
            f"{name}: two steps",
            f"K&O (4), (7); {FISHERS[name][1]}",
            ["G is renewed in every step", "loss = 1/(2N) sum", "losses of all states, the first and last too"],
            inputs,
            full | {"eta": eta, "steps": 2},
        )
    soft = dict(widths=(2, 3, 3), N=3, activation="tanh", sigma_b=0.5, stream=72)
    for name in ("Exact", "KFAC"):
        inputs, full = problem(name, soft, {"rho": 0.125, "q": 1, "loss": "cross-entropy", "loss_rho": 0.125})
        book.add(
            "discriminating",
            f"{name}: cross-entropy",
            "K&O (S.158)",
            ["mean over samples of -log p"],
            inputs,
            full | {"eta": 0.125, "steps": 2},
        )
    inputs, full = problem("Exact", net, {"rho": 0.0, "q": 2, "frozen": 1})
    book.add(
        "discriminating",
        "Exact: q = 2, first layer frozen",
        "Huh (12)",
        ["W_1 stays"],
        inputs,
        full | {"eta": 0.125, "steps": 2},
    )
    inputs, full = problem("Exact", net, {"rho": 0.0, "q": 1})
    book.add(
        "boundary",
        "Exact: no step",
        "K&O (7)",
        ["one loss, W unchanged"],
        inputs,
        full | {"eta": 0.5, "steps": 0},
    )
    book.refuse(
        "eta < 0",
        "K&O (7)",
        "ascent",
        inputs,
        full | {"eta": -0.5, "steps": 1},
        "eta must be positive",
    )
    book.refuse(
        "steps < 0",
        "K&O (7)",
        "no steps in silence",
        inputs,
        full | {"eta": 0.5, "steps": -1},
        "steps must be a whole number >= 0",
    )
    inputs, full = problem("BlockDiagonal", soft, {"rho": 0.125, "q": 1})
    book.add(
        "discriminating",
        "BlockDiagonal: three outputs",
        "K&O (3), (7)",
        ["loss = 1/(2N) sum, over samples and outputs"],
        inputs,
        full | {"eta": 0.125, "steps": 2},
    )
    return book


def kernel_inputs(N, N_test, M, stream):
    return {"x": draw(100 * stream + 50, (N, M)), "x_test": draw(100 * stream + 60, (N_test, M))}


KERNELS = (
    # title, activation, shift, sigma_b, depth
    ("relu", 0.0, 0.5, 3),
    ("relu", 0.0, 0.0, 2),
    ("erf", 0.0, 0.5, 3),
    ("linear", 0.0, 0.5, 3),
    ("shifted_relu", 0.5, 0.5, 3),
    ("shifted_relu", -0.5, 0.0, 2),
    ("tanh", 0.0, 0.5, 2),
    ("tanh", 0.0, 0.0, 3),
)


def kernel_attrs(activation, shift, sigma_b, depth):
    attrs = {"activation": activation, "sigma_w": 1.25, "sigma_b": sigma_b, **NTK, "depth": depth}
    return attrs | ({"shift": shift} if shift else {})


def kernels():
    book = Book("kernels")
    pins = [
        "A_{l-1} is the limit of h_{l-1}' h_{l-1}^T: sigma_w^2 E[phi phi] + sigma_b^2",
        "inputs of any norm",
        "Theta has 1/N, A and B have not",
    ]
    for activation, shift, sigma_b, depth in KERNELS:
        book.add(
            "discriminating",
            f"{activation}, depth {depth}, sigma_b = {sigma_b}",
            "K&O (S.66) to (S.70), (S.169) to (S.179)",
            pins,
            kernel_inputs(*((2, 1) if activation == "tanh" else (3, 2)), 4, 81),
            kernel_attrs(activation, shift, sigma_b, depth),
        )
    for activation, shift in (("relu", 0.0), ("shifted_relu", 0.5), ("erf", 0.0)):
        inputs = kernel_inputs(2, 2, 3, 82)
        inputs["x_test"] = inputs["x"]
        book.add(
            "boundary",
            f"{activation}: the training set itself",
            "K&O (S.70)",
            ["correlation 1 on the diagonal"],
            inputs,
            kernel_attrs(activation, shift, 0.5, 3),
        )
    book.add(
        "limit",
        "relu, depth 1",
        "K&O (S.70)",
        ["B_1 = 1"],
        kernel_inputs(2, 2, 3, 82),
        kernel_attrs("relu", 0.0, 0.5, 1),
    )
    inputs = kernel_inputs(2, 1, 3, 83)
    inputs["x_test"] = [[-v for v in inputs["x"][0]]]
    book.add(
        "boundary",
        "relu: opposite inputs",
        "K&O (S.177)",
        ["correlation -1"],
        inputs,
        kernel_attrs("relu", 0.0, 0.0, 2),
    )
    inputs = kernel_inputs(2, 2, 3, 82)
    book.refuse(
        "x_test of zeros",
        "K&O (S.70)",
        "a correlation 0/0",
        {**inputs, "x_test": [[0.0] * 3]},
        kernel_attrs("relu", 0.0, 0.0, 2),
        "x_test has a sample of zeros: its correlation is not defined",
    )
    book.refuse(
        "standard parameterization",
        "K&O (S.70)",
        "a kernel that has no limit",
        inputs,
        kernel_attrs("relu", 0.0, 0.5, 2) | {"parameterization": "standard"},
        "the standard parameterization has no kernel at infinite width",
    )
    return book


def kernel_coefficient():
    book = Book("kernel_coefficient")
    names = (
        "Identity",
        "Exact",
        "BlockDiagonal",
        "BlockTridiagonal",
        "Layerwise",
        "KFAC",
        "KFAC-separate",
        "KFAC-gram",
    )
    for name in names:
        for activation, rho, q, sigma_b in (("relu", 0.0, 1, 0.5), ("erf", 0.125, 2, 0.5)):
            q = 1 if name in ("BlockTridiagonal", "Layerwise") else q
            inputs = kernel_inputs(3, 2, 4, 84)
            attrs = kernel_attrs(activation, 0.0, sigma_b, 3) | FISHERS[name][0] | {"rho": rho, "q": q}
            if name == "Layerwise":
                inputs["Sigma"] = SIGMA[3]
            book.add(
                "discriminating",
                f"{name}: {activation}, rho = {rho}, q = {q}",
                f"K&O (11), (21); {FISHERS[name][1]}",
                ["outputs decouple: N' x N", "N is that of the training set"],
                inputs,
                attrs,
            )
    attrs = kernel_attrs("relu", 0.0, 0.5, 3) | FISHERS["Exact"][0] | {"rho": -1.0, "q": 1}
    book.refuse(
        "Exact: rho < 0",
        "K&O (11)",
        "a negative damping",
        kernel_inputs(3, 2, 4, 84),
        attrs,
        "rho is negative",
    )
    return book


def order_parameters():
    book = Book("order_parameters")
    for activation, shift, sigma_w, sigma_b, depth, norm in (
        ("relu", 0.0, 1.5, 0.5, 4, 1.0),
        ("tanh", 0.0, 1.5, 0.5, 3, 2.0),
        ("erf", 0.0, 1.25, 0.0, 4, 1.5),
        ("linear", 0.0, 1.5, 0.25, 4, 1.0),
        ("shifted_relu", 1.0, 1.5, 0.5, 4, 1.0),
        ("shifted_relu", -0.5, 1.5, 0.0, 3, 2.0),
        ("tanh", 0.0, 2.0, 0.25, 6, 1.0),
    ):
        attrs = {
            "activation": activation,
            "sigma_w": sigma_w,
            "sigma_b": sigma_b,
            **NTK,
            "depth": depth,
            "norm": norm,
            "M_0": 3,
        }
        attrs |= {"shift": shift} if shift else {}
        book.add(
            "discriminating",
            f"{activation}, depth {depth}",
            "K&O (S.138), (S.176)",
            ["q_1 = sigma_w^2 norm^2 / M_0 + sigma_b^2", "a layer more is a Gaussian average more"],
            {},
            attrs,
        )
    return book


def gamma():
    book = Book("gamma")
    for activation, shift, q in (
        ("tanh", 0.0, 1.5),
        ("relu", 0.0, 1.5),
        ("shifted_relu", 1.0, 2.0),
        ("shifted_relu", -0.5, 0.75),
        ("linear", 0.0, 1.0),
        ("erf", 0.0, 1.0),
    ):
        attrs = {"activation": activation, "q": q} | ({"shift": shift} if shift else {})
        book.add(
            "discriminating",
            f"{activation}, q = {q}",
            "K&O (S.141), (S.157)",
            ["q is a variance", "P(phi'(u) != 0)"],
            {},
            attrs,
        )
    return book


def cross_entropy():
    book = Book("cross_entropy")
    pins = ["mean over samples in the value; residual p - y without 1/N", "Lambda = diag(p) - p p^T"]
    for title, kind, f, rho, alpha in (
        ("golden", "discriminating", [[1.0, 2.0, 3.0]], 0.125, 1.0),
        ("three samples, four classes", "discriminating", draw(1, (3, 4)), 0.25, 2.0),
        ("no damping: the pseudo-inverse", "discriminating", draw(2, (2, 3)), 0.0, 3.0),
        ("two classes", "discriminating", draw(3, (3, 2)), 0.0625, 1.0),
        ("large logits", "limit", [[1000.0, 999.0, 998.0], [-700.0, -701.0, -699.5]], 0.125, 1.0),
        ("equal logits", "boundary", [[0.0, 0.0, 0.0], [2.5, 2.5, 2.5]], 0.0, 1.0),
    ):
        y = one_hot({"x": f}, len(f[0]))["y"]
        book.add(
            kind,
            title,
            "K&O (S.158) to (S.168)",
            pins,
            {"f": f, "y": y},
            {"loss_rho": rho, "alpha": alpha},
        )
    f = draw(4, (2, 3))
    book.refuse(
        "y not one-hot",
        "K&O (S.158)",
        "targets that are no classes",
        {"f": f, "y": [[0.5, 0.5, 0.5]] * 2},
        {"loss_rho": 0.0, "alpha": 1.0},
        "y is not one-hot",
    )
    book.refuse(
        "loss_rho < 0",
        "K&O (S.159)",
        "an indefinite Hessian",
        {"f": f, "y": [[1.0, 0.0, 0.0]] * 2},
        {"loss_rho": -0.5, "alpha": 1.0},
        "loss_rho is negative",
    )
    return book


def symmetric(stream, n, shift=0.0):
    """A A^T of small multiples of 1/16, so that it is exact, plus shift I."""
    A = [[round(16 * v) / 16 for v in row] for row in draw(stream, (n, n))]
    return [
        [sum(a * b for a, b in zip(r, s, strict=True)) + shift * (i == j) for j, s in enumerate(A)]
        for i, r in enumerate(A)
    ]


def inverse_power():
    book = Book("inverse_power")
    K = symmetric(91, 4, 0.5)
    for rho, q in ((0.0, 1), (0.25, 2), (0.0, 3), (0.5, 1.5), (0.25, INF)):
        book.add(
            "limit" if q == INF else "discriminating",
            f"positive definite, rho = {rho}, q = {q}",
            "THEORY 1, power",
            ["(K + rho I)^{-1/q}"],
            {"K": K},
            {"rho": rho, "q": q},
        )
    low = [[a * b for b in (1.0, -0.5, 2.0)] for a in (1.0, -0.5, 2.0)]
    book.add(
        "boundary",
        "rank one, pseudo-inverse",
        "THEORY 1, pseudo-inverse",
        ["eigenvalues that are zero stay zero"],
        {"K": low},
        {"rho": 0.0, "q": 1},
    )
    book.add(
        "boundary",
        "rank one, q = 2",
        "THEORY 1, power",
        ["eigenvalues that are zero stay zero"],
        {"K": low},
        {"rho": 0.0, "q": 2},
    )
    book.add(
        "boundary",
        "zero matrix",
        "THEORY 1, pseudo-inverse",
        ["0^+ = 0"],
        {"K": [[0.0, 0.0], [0.0, 0.0]]},
        {"rho": 0.0, "q": 1},
    )
    wild = [[1.0, 2.0, 0.5], [2.0, -1.0, 0.25], [0.5, 0.25, 3.0]]
    book.add(
        "discriminating",
        "indefinite, q = 1",
        "THEORY 1, pseudo-inverse",
        ["indefinite K at q = 1"],
        {"K": wild},
        {"rho": 0.0, "q": 1},
    )
    book.add(
        "stress",
        "Hilbert-like",
        "THEORY 12",
        [],
        {"K": [[round(2**20 / (i + j + 1)) / 2**20 for j in range(4)] for i in range(4)]},
        {"rho": 0.0, "q": 1},
    )
    book.refuse(
        "indefinite, q = 2",
        "THEORY 1, power",
        "nan in silence",
        {"K": wild},
        {"rho": 0.0, "q": 2},
        "K has a negative eigenvalue: it has no real power -1/2",
    )
    book.refuse(
        "K not symmetric",
        "THEORY 1, power",
        "half of K used",
        {"K": [[1.0, 2.0], [0.0, 1.0]]},
        {"rho": 0.0, "q": 1},
        "K is not symmetric",
    )
    book.refuse("q < 1", "THEORY 1, power", "q meant as 1/q", {"K": K}, {"rho": 0.0, "q": 0.5}, "q is below 1")
    return book


def forster():
    book = Book("forster")
    for stream, N, M in ((1, 4, 2), (12, 6, 3), (3, 5, 2), (4, 8, 3)):
        book.add(
            "discriminating",
            f"{N} samples, {M} inputs",
            "K&O B.3",
            ["Y = unit_norm(x A) with Y^T Y = (N / M_0) I", "Y Y^T does not depend on rotations of A"],
            {"x": draw(90 + stream, (N, M))},
            {},
        )
    book.add(
        "boundary",
        "as many inputs as samples",
        "K&O B.3",
        ["N = M_0: Y is orthogonal"],
        {"x": draw(98, (3, 3))},
        {},
    )
    book.add(
        "limit",
        "one input",
        "K&O B.3",
        ["unit norms: signs"],
        {"x": [[2.0], [-0.5], [1.5]]},
        {},
    )
    book.refuse(
        "a dead input",
        "K&O B.3",
        "an A that diverges",
        {"x": [[1.0, 0.0], [2.0, 0.0], [-0.5, 0.0]]},
        {},
        "x has rank 1, not M_0 = 2",
    )
    book.refuse(
        "too many samples on a line",
        "K&O B.3",
        "an A that diverges",
        {"x": [[1.0, 0.5], [2.0, 1.0], [-0.5, -0.25], [0.25, 1.0]]},
        {},
        "x has three of four samples in a subspace of one dimension, which may hold two",
    )
    book.refuse(
        "fewer samples than inputs",
        "K&O B.3",
        "a transform that is not needed",
        {"x": draw(97, (2, 3))},
        {},
        "x has N < M_0 samples",
    )
    return book


BOOKS = (
    alpha,
    prediction,
    training,
    kernels,
    kernel_coefficient,
    order_parameters,
    gamma,
    cross_entropy,
    inverse_power,
    forster,
)
ABOUT = {
    "alpha": "The isotropy constant: Theta_bar(x, x) = alpha I on n training samples at rho = 0, q = 1, K&O (12).",
    "prediction": "Outputs after t steps of the linearised training, on training and test samples, K&O (10).",
    "training": "Weights after some steps W <- W - eta direction, and the losses on the way, K&O (4), (7).",
    "kernels": "A_l, B_l and Theta (N', N) at infinite width, the same for every output, K&O (S.169) to (S.179).",
    "kernel_coefficient": "Theta_bar(x', x) (N', N) at infinite width, K&O (16), (18), (21).",
    "order_parameters": "q_1, .., q_L: the variances of u_l in the wide limit, K&O (S.138), (S.176).",
    "gamma": "P(phi'(u) != 0) for u ~ N(0, q), K&O (S.141).",
    "cross_entropy": "Value, residual, output Hessian and dp/dt of the cross-entropy, K&O (S.158) to (S.168).",
    "inverse_power": "(K + rho I)^{-1/q} of a symmetric K, the pseudo-inverse where it is singular.",
    "forster": "The Gram matrix of the Forster transform of x, K&O B.3.",
}
