"""What all other cases let pass: mutants of the package and of the definitions that none of them noticed.

`START` is where the cases of each operation begin: those of the other files come before, and no more are added there.
"""

from .deep import weights
from .directions import FISHERS, INF
from .problems import draw, extended
from .second import DISTINCT, NTK, positive, problem
from .steps import training_set
from .third import close

START = {
    "unit_norm": 4,
    "direction": 291,
    "prediction": 44,
    "alpha": 64,
    "kernels": 29,
    "mode_velocity": 45,
    "flow": 13,
    "jacobian": 13,
    "deep_linear_update": 46,
    "dynamics": 24,
    "mode_time": 38,
    "order_parameters": 10,
}
NEAR = ((-18, 754), (-22, 736), (-22, 750), (-22, 758))
RANGE = "not in the range of float32"


def unit_norm(book):
    inputs = {"x": [[1.5e308, 1.25e308], [-1.5e308, 1.0e308]]}
    pins = ["the sum of the entries overflows", RANGE]
    book.add("stress", "rows at the end of the range", "K&O, section 2", pins, inputs, {})
    inputs = {"x": [[0.75], [-1.5], [2.25]]}
    book.add("limit", "one column: signs are left", "K&O, section 2", ["x / |x|"], inputs, {})


def direction(book):
    for q in (1.5, 2):
        inputs, attrs = problem("Layerwise", (5, 4, 3, 1), 7, 701, rho=0.15625, q=q)
        inputs["Sigma"] = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        pins = ["a Sigma that merges layers into blocks has any q"]
        book.add("discriminating", f"Layerwise: two layers merged, q = {q}", "K&O (15), Huh (12)", pins, inputs, attrs)
    inputs, attrs = problem("Layerwise", (5, 4, 3, 1), 3, 702, rho=2.0**-60, q=1)
    pins = ["a damping far below all eigenvalues changes nothing"]
    book.add("stress", "Layerwise: rho = 2^-60", "K&O (15)", pins, inputs, attrs)
    inputs = {
        "W_1": [[7.5, 7.0, 7.25, 7.75], [-7.5, -7.0, -7.25, -7.75], [0.5, -0.25, 0.125, 0.75]],
        "x": [[7.5, 7.25, 7.0, 7.75], [-7.25, -7.5, -7.0, -6.5], [0.5, -0.75, 0.25, 0.5]],
        "y": [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],
    }
    attrs = FISHERS["Exact"][0] | {"activation": "tanh", "sigma_w": 8.0, "sigma_b": 0.0} | NTK
    attrs |= {"loss": "cross-entropy", "loss_rho": 0.25, "rho": 0.15625, "q": 1}
    pins = ["Lambda + loss_rho I is regular where probabilities underflow"]
    book.add("stress", "Exact: probabilities of 0, damped", "K&O (S.159)", pins, inputs, attrs)
    pins = ["as accurate as from J: a Gram matrix has to be refined, or given up, kappa_gram = kappa"]
    for fisher, gap, rho, q in (("BlockDiagonal", -8, -24, 1), ("Exact", -14, None, 2), ("Exact", -22, None, 1)):
        inputs, attrs = problem(fisher, (2, 4, 1), 3, 541, rho=2.0**rho if rho else 0.0, q=q)
        power = f"rho = 2^{rho}" if rho else f"q = {q}"
        title = f"{fisher}: two samples 2^{gap} from each other, {power}, refined"
        book.add("stress", title, FISHERS[fisher][1], pins, close(inputs, 2.0**gap), attrs, strict=True)
    inputs, attrs = problem("Unitwise", (4, 3, 1), 3, 722, bias=False, rho=0.0, q=1)
    inputs["x"][1] = [0.0] * 4
    pins = ["a sample of zeros is dead for all units of the first layer"]
    book.add("boundary", "Unitwise: a sample of zeros", "K&O (23)", pins, inputs, attrs)
    pins = ["as accurate as from J: a Gram matrix has to be refined, or given up, kappa_gram = kappa"]
    for fisher in ("Exact", "BlockDiagonal", "BlockTridiagonal", "Unitwise"):
        widths = (2, 3, 3, 1) if fisher == "BlockTridiagonal" else (4, 4, 1)
        for gap, rho in ((-12, None), (-16, -40), (-20, None), (-23, -48)):
            if fisher == "BlockTridiagonal" and gap == -16:
                continue  # in float32 the least eigenvalues of the indefinite G are lost, whatever kappa says
            inputs, attrs = problem(fisher, widths, 3, 723, rho=2.0**rho if rho else 0.0, q=1)
            title = f"{fisher}: two samples 2^{gap} from each other, rho = {f'2^{rho}' if rho else 0}"
            strict = fisher != "BlockTridiagonal"
            options = {"pins": pins, "strict": True} if strict else {"pins": ["nearly singular"]}
            title, inputs = title + ", refined" * strict, close(inputs, 2.0**gap)
            book.add("stress", title, FISHERS[fisher][1], inputs=inputs, attrs=attrs, **options)
    inputs, attrs = problem("Layerwise", (5, 3, 1), 4, 724, bias=False, rho=0.0, q=1)
    inputs["Sigma"] = [[0.0, 1.0], [1.0, 0.0]]
    pins = ["G is singular where the ranks of J_1 and of J_2 differ: its pseudo-inverse"]
    book.add(
        "boundary", "Layerwise: the blocks of two layers beside the diagonal alone", "K&O (15)", pins, inputs, attrs
    )
    inputs, attrs = problem("BlockTridiagonal", (3, 3, 2, 1), 3, 725, activation="relu", rho=0.0, q=1)
    inputs["W_1"] = [[*(-abs(v) for v in row[:-1]), 0.125] for row in inputs["W_1"]]
    inputs["x"][1] = [1.25, 0.75, 1.5]
    pins = ["a sample that is dead in the first layer is alive in the others"]
    title = "BlockTridiagonal: a sample is dead in the first layer"
    book.add("boundary", title, "K&O (15)", pins, inputs, attrs)
    inputs, attrs = problem("Layerwise", (2, 4, 4, 1), 3, 882, bias=False, activation="linear", rho=0.0, q=1)
    inputs["x"][2] = [a - 4 * b for a, b in zip(*inputs["x"][:2], strict=True)]
    pins = ["rows of J of different size, of which one depends on the others: the weights of least squares are all 1"]
    book.add("boundary", "Layerwise: a sample that is the sum of others", "K&O (15)", pins, inputs, attrs)
    inputs, attrs = problem("Layerwise", (3, 3, 4, 1), 3, 883, activation="relu", rho=0.0, q=1)
    inputs["W_1"] = [[*(-abs(v) for v in row[:-1]), 0.125] for row in inputs["W_1"]]
    inputs["x"] = [[-1.25, 0.5, -0.75], [1.25, 0.75, 1.5], [-0.5, -1.5, 0.25]]
    pins = ["a sample that is dead in the first layer is alive in the others"]
    book.add("boundary", "Layerwise: a sample is dead in the first layer", "K&O (15)", pins, inputs, attrs)
    inputs, attrs = problem("BlockDiagonal", (3, 4, 14, 1), 14, 881, bias=False, activation="linear", rho=0.0, q=1)
    inputs["W_1"] = [
        [a + 2.0**-6 * b for a, b in zip((0.75, -1.25, 0.5), row, strict=True)] for row in draw(88101, (4, 3))
    ]
    inputs["W_2"] = [[a - b, b - c, c - d, d - a] for a, b, c, d in draw(88102, (14, 4))]
    pins = ["zeros of many samples are known to more than 4 units of rounding: the cut-off grows with the size"]
    title = "BlockDiagonal: fourteen samples of rank three, of which W_2 leaves a 64th"
    book.add("boundary", title, "K&O (18)", pins, inputs, attrs)
    inputs, attrs = problem("QuasiDiagonal", (1, 3, 3), 40, 901, rho=0.0, q=1)
    inputs["x"] = [[0.7001953125]] * 40
    pins = ["rounding of 120 rows leaves more of a zero than that of a few"]
    title = "QuasiDiagonal: forty samples of a constant input"
    book.add("boundary", title, FISHERS["QuasiDiagonal"][1], pins, inputs, attrs)


def prediction(book):
    inputs, attrs = problem("BlockDiagonal", (5, 4, 1), 3, 705, N_test=7, eta=0.09375, t=4)
    book.add("discriminating", "BlockDiagonal: rho and q are absent", "K&O (18)", ["rho = 0, q = 1"], inputs, attrs)


def alpha(book):
    plain = {"sigma_w": DISTINCT["sigma_w"], "sigma_b": 0.0} | NTK
    tanh, relu = plain | {"activation": "tanh"}, plain | {"activation": "relu"}
    biased = tanh | {"sigma_b": DISTINCT["sigma_b"]}
    blocks, exact = FISHERS["BlockDiagonal"][0] | {"n": 2, "widths": [3, 8, 8, 1]}, FISHERS["Exact"][0]
    opposite = {"x": [[0.75, -0.5, 1.25], [-0.75, 0.5, -1.25]]}
    wrong = "an alpha where there is none"
    error = "there is no alpha for these widths, this fisher and this x: Theta_bar is not alpha I"
    book.refuse("BlockDiagonal, tanh: x and -x", "K&O (12)", wrong, opposite, blocks | tanh, error)
    pins = ["x and -x have the same signals, up to their sign, only without bias and under an odd phi"]
    book.add("boundary", "BlockDiagonal, tanh with bias: x and -x", "K&O (12)", pins, opposite, blocks | biased)
    book.add("boundary", "BlockDiagonal, relu: x and -x", "K&O (12)", pins, opposite, blocks | relu)
    error = "there is no alpha for these widths and this fisher: J(t x) = t J(x), so all rows of J lie on two rays"
    attrs = exact | relu | {"n": 3, "widths": [1, 8, 8, 2]}
    book.refuse("Exact, relu: inputs on two rays", "K&O (12)", wrong, {}, attrs, error)
    attrs = exact | plain | {"activation": "shifted_relu", "shift": 0.5, "n": 12, "widths": [3, 4, 1]}
    pins = ["layers have full rank together"]
    book.add("boundary", "Exact, shifted_relu: all layers together just suffice", "K&O (12)", pins, {}, attrs)
    few = "there is no alpha for these widths and n: J has fewer independent rows"
    for n, widths in ((9, [2, 3, 1]), (6, [2, 3, 2]), (13, [2, 2, 3, 1])):
        attrs = exact | tanh | {"n": n, "widths": widths}
        book.add("boundary", f"Exact, tanh, {widths}: J has just n C rows", "K&O (12)", pins, {}, attrs)
        attrs = exact | tanh | {"n": n + 1, "widths": widths}
        book.refuse(f"Exact, tanh, {widths}: one sample more", "K&O (12)", wrong, {}, attrs, few)
    for title, net in (("tanh", tanh), ("relu with bias", biased | {"activation": "relu"})):
        attrs = exact | net | {"n": 3, "widths": [1, 8, 1]}
        pins = ["J(t x) = t J(x) for ReLU without bias alone"]
        book.add("boundary", f"Exact, {title}: one input", "K&O (12)", pins, {}, attrs)
    kfac, separate = FISHERS["KFAC"][0], FISHERS["KFAC-separate"][0]
    corners = {"x": [[0.75, 0.5], [0.75, -0.5], [-0.75, 0.5], [-0.75, -0.5]]}
    pins = ["the range of the first inputs, with the bias among them, is n / rank of that of all samples"]
    attrs = kfac | biased | {"n": 4, "widths": [2, 8, 1]}
    book.add("boundary", "KFAC with bias: four corners", "K&O (12), B.2", pins, corners, attrs)
    x = {"x": [[a, b, a + b] for a, b in corners["x"]]}
    attrs = kfac | biased | {"n": 4, "widths": [3, 8, 1]}
    book.add("boundary", "KFAC with bias: an input that is the sum of others", "K&O (12), B.2", pins, x, attrs)
    attrs = kfac | plain | {"activation": "linear", "n": 4, "widths": [2, 8, 1]}
    book.refuse("KFAC, linear: four corners", "K&O (12)", wrong, corners, attrs, few)
    attrs = separate | biased | {"n": 4, "widths": [3, 8, 8, 1], "frozen": [3]}
    book.refuse("KFAC, the bias apart: more samples than inputs", "K&O (12)", wrong, {}, attrs, few)
    attrs = separate | biased | {"n": 3, "widths": [3, 3, 3, 1], "frozen": [3]}
    pins = ["a bias with a block of its own adds n"]
    book.add("boundary", "KFAC, the bias apart: as many samples as inputs", "K&O (12)", pins, {}, attrs)
    attrs = separate | biased | {"n": 2, "widths": [3, 8, 1]}
    error = "there is no alpha for these widths and n: all samples share the block of the output's bias"
    book.refuse("KFAC, the bias apart: two samples", "K&O (12)", wrong, {}, attrs, error)
    error = "there is no alpha for these widths, this fisher and this x: Theta_bar is not alpha I"
    for title, second in (("x and -x with a zero", [-0.75, 0.0, -1.25]), ("x with 0 and with -0", [0.75, -0.0, 1.25])):
        twins = {"x": [[0.75, 0.0, 1.25], second]}
        book.refuse(f"BlockDiagonal, tanh: {title}", "K&O (12)", wrong, twins, blocks | tanh, error)
    attrs = FISHERS["Unitwise"][0] | relu | {"n": 2, "widths": [3, 8, 1]}
    x = {"x": [[1024.0, 0.0, 0.0], [0.0, 1024.0 + 2.0**-20, 0.0]]}
    pins = ["norms that agree but for 2^-30", "not exact in float32"]
    book.add("stress", "Unitwise, relu: large inputs of almost one norm", "K&O (S.128)", pins, x, attrs)


def kernels(book):
    inputs = {"x": [[2.0**-30 * v for v in row] for row in draw(71050, (3, 2))]}
    attrs = {"activation": "relu", "sigma_w": DISTINCT["sigma_w"], "sigma_b": 0.0, "depth": 2} | NTK
    pins = ["whether norms agree is relative to their size"]
    book.add("stress", "tiny inputs of different norms", "K&O (S.171)", pins, inputs, attrs)


def mode_velocity(book):
    inputs = {"s": [[0.0, 1e-200], [3e-200, 0.0]], "s_star": [1.0, 2.0]}
    attrs = {"q": 1, "block": False, "eta": 0.75}
    book.add("stress", "one layer of 0, the other tiny", "Huh (12)", ["||j||^2 underflows", RANGE], inputs, attrs)
    for size, eps in ((1e-140, 0.25), (1e60, 1e200)):
        inputs = {"s": [[size, 3 * size], [2 * size, size], [size, -size]], "s_star": [1.0, 2.0]}
        title = f"damped, layers of {size}, eps = {eps}"
        attrs = {"eps": eps, "eta": 0.75}
        book.add("stress", title, "Huh (S.I.16)", ["eps + ||j||^2 of any size", RANGE], inputs, attrs)


def order_parameters(book):
    attrs = {"activation": "tanh", "sigma_w": DISTINCT["sigma_w"], "sigma_b": DISTINCT["sigma_b"], "depth": 3} | NTK
    book.add("discriminating", "inputs of unit norm", "K&O (S.138)", ["norm = 1 if absent"], {}, attrs | {"M_0": 5})


def flow(book):
    inputs = weights((3, 2), 711) | {"times": [0.5, 1.25]}
    book.add("limit", "one layer", "Huh (12)", ["w' = -eta u"], inputs, {"q": 2, "block": False, "eta": 0.75})
    inputs, attrs = weights((3, 4, 2), 712) | {"times": [0.0]}, {"q": 1, "block": False, "eta": 0.75, "converged": 0.5}
    book.add("limit", "no time at all", "Huh (12)", ["the state at t = 0 is the first"], inputs, attrs)


def mode_time(book):
    inputs, attrs = {"fraction": [-0.25, 0.0, 0.5], "s_star": 2.0, "s0": -1.0}, {"p": 0.0, "eta_bar": 1.5}
    book.add("boundary", "p = 0, negative start", "Huh (17)", ["p = 0 allows s0 < 0"], inputs, attrs)


def jacobian(book):
    inputs = {
        "W_1": [[100.0, 0.5], [-100.0, 0.25], [0.125, 0.75]],
        "W_2": [[0.75, -0.5, 1.25], [1.5, 0.25, -0.625]],
        "x": [[4.0, 0.5], [-3.75, 1.5]],
    }
    attrs = {"activation": "tanh", "sigma_w": 1.5, "sigma_b": 0.0, "parameterization": "standard"}
    pins = ["e^{800} overflows, and phi' is 0"]
    book.add("stress", "tanh at 400 and -400", "K&O (2)", pins, inputs, attrs)


def matmul(*factors):
    """Exact, for small numbers."""
    result, *others = factors
    for B in others:
        columns = list(zip(*B, strict=True))
        result = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in result]
    return result


def diagonal(*numbers):
    return [[x * (i == j) for j in range(len(numbers))] for i, x in enumerate(numbers)]


ORTHOGONAL = {  # but for a factor
    2: [[0.75, 0.5], [-0.5, 0.75]],
    3: [[0.5, -0.25, 0.5], [0.5, 0.5, -0.25], [-0.25, 0.5, 0.5]],
}


def nearly_singular(gap, stream=720):
    """Three layers of which the first and the last have the singular values 1 and `gap`."""
    two, three = ORTHOGONAL[2], ORTHOGONAL[3]
    return {
        "w_1": matmul(three, diagonal(1.0, gap, gap), list(zip(*three, strict=True))),
        "w_2": draw(100 * stream + 2, (3, 3)),
        "w_3": matmul(two, [[1.0, 0.0, 0.0], [0.0, gap, 0.0]], three),
        "w_star": draw(100 * stream + 50, (2, 3)),
    }


def deep_linear_update(book):
    pins = ["as accurate as from J: the eigenvectors of K have to be mended, or given up, kappa_gram = kappa"]
    for gap, q in ((-8, 2), (-8, 3), (-11, 2), (-11, 3), (-12, 2), (-12, 3), (-16, 2), (-20, 2)):
        attrs = {"q": q, "block": False}
        title = f"three layers with singular values 1 and 2^{gap}, q = {q}"
        book.add("stress", title, "Huh (12)", [*pins, RANGE], nearly_singular(2.0**gap), attrs, strict=True)
    inputs = weights((3, 4, 3, 2), 111)
    inputs["w_star"] = [[2.0**24 * v for v in row] for row in inputs["w_star"]]
    pins = ["the norm of u is compared with clip whatever its size"]
    small = {name: [[2.0**-300 * v for v in row] for row in inputs[name]] for name in ("w_1", "w_2", "w_3")}
    pins = ["rho is far above J^T J, of which the squares underflow", RANGE]
    for q in (1, 2):
        attrs = {"q": q, "rho": 0.15625}
        book.add("stress", f"tiny layers, damped, q = {q}", "Huh (12)", pins, weights((3, 4, 3, 2), 111) | small, attrs)
    pins = ["the norm of u is compared with clip whatever its size"]
    title, attrs = "sqrt-NGD, clipped: a large map wanted", {"q": 2, "clip": 0.75}
    book.add("discriminating", title, "Huh (12)", pins, inputs, attrs)
    pins = ["eigenvectors that are off are told from the size of their products, whatever the signs", RANGE]
    for gap, stream in NEAR:
        title, attrs = f"three layers: 1 and 2^{gap}, w_2 of stream {stream}", {"q": 2, "block": False}
        book.add("stress", title, "Huh (12)", pins, nearly_singular(2.0**gap, stream), attrs, strict=True)


def dynamics(book):
    inputs = training_set([[6.0, 0.25, 0.0], [0.25, 0.5, 0.125], [0.0, 0.125, 0.75]], 2, 721)
    error = "eta is too large for t = inf: eta times the largest eigenvalue is 2.25"
    attrs = {"eta": 2.0**60, "t": INF}
    tiny = training_set([[2.0**-60 * v for v in row] for row in positive(470, 4)], 3, 722)
    pins = ["what counts as zero is relative to the largest eigenvalue"]
    book.add("stress", "a tiny Theta_bar, t = inf", "K&O (14)", pins, tiny, attrs)
    attrs = {"eta": 0.375, "t": INF}
    book.refuse("t = inf, eta lambda > 2", "K&O (10)", "a limit that there is not", inputs, attrs, error)


LATER = (
    jacobian,
    deep_linear_update,
    dynamics,
    unit_norm,
    direction,
    prediction,
    alpha,
    kernels,
    mode_velocity,
    flow,
    mode_time,
    order_parameters,
)
EXTENDED = {make.__name__: make for make in LATER}


def extend(book):
    """The book with its later cases."""
    return extended(book, EXTENDED, START)
