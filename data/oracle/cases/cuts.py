"""Options beside rho and q, and second routes to the same numbers: rcond, Lambda, Theta_bar from empirical kernels, and
the loss on samples."""

from .deep import SIGMA_X, weights
from .directions import FISHERS
from .problems import Book, draw
from .second import problem

RCOND = 0.15625  # no singular value is near it, and of squares it would take away more
POWERS = ((0.0, 1), (0.0, 2), (0.15625, 1), (0.15625, 3))


def direction_truncated():
    book = Book("direction_truncated")
    pins = ["singular values of at most rcond times the largest count as zero, damped or not"]
    of = {"Exact": "of J", "BlockDiagonal": "of J_l", "Unitwise": "of the J of a unit", "KFAC": "of h and of delta"}
    for fisher in (*of, "KFAC-gram"):
        name, equation, _ = FISHERS[fisher]
        for rho, q in POWERS:
            title = f"{fisher}, rho = {rho}, q = {q}"
            inputs, attrs = problem(fisher, (5, 4, 3), 3, 731, rho=rho, q=q, rcond=RCOND)
            book.add("discriminating", title, equation, [*pins, of[name["fisher"]]], inputs, attrs)
    return book


def deep_linear_truncated():
    book = Book("deep_linear_truncated")
    pins = ["singular values of at most rcond times the largest count as zero, damped or not"]
    for title, network, block, rcond, of in (
        ("three layers", ((3, 4, 3, 2), 744), False, 0.125, "of J"),
        ("three layers, blocks", ((3, 4, 3, 2), 744), True, 0.125, "of L_i and of R_i"),
        ("two layers", ((3, 4, 2), 741), False, 0.5, "of J"),
        ("two layers, inputs not white", ((3, 4, 2), 741, 1.0, SIGMA_X), False, 0.28125, "of J"),
    ):
        for rho, q in POWERS:
            attrs = {"q": q, "block": block, "rho": rho, "rcond": rcond}
            name = f"{title}, rho = {rho}, q = {q}"
            book.add("discriminating", name, "Huh (9), (12), (19)", [*pins, of], weights(*network), attrs)
    inputs = weights((3, 3, 2, 2), 745)
    inputs["w_2"] = [[2.0**-4 * v for v in row] for row in inputs["w_2"]]
    for rho, q in POWERS:
        attrs = {"q": q, "block": False, "rho": rho, "rcond": 2.0**-3}
        title = f"a layer of 2^-4, rho = {rho}, q = {q}"
        pins = ["J hardly feels the other layers, but their u_i is not 0"]
        book.add("discriminating", title, "Huh (9), (12)", pins, inputs, attrs)
    return book


def multiplier():
    book = Book("multiplier")
    pins = ["Lambda = (K + rho I)^{-1/q} E (n_out, n_in)"]
    singular = [*pins, "outside the range of K it is rho^{-1/q} E, or 0 if rho is"]
    for kind, title, network, rcond in (
        ("discriminating", "two layers", ((3, 4, 2), 751), None),
        ("discriminating", "two layers, inputs not white", ((3, 4, 2), 752, 1.0, SIGMA_X), None),
        ("discriminating", "four layers", ((3, 4, 3, 4, 2), 753), None),
        ("discriminating", "one layer", ((3, 2), 754), None),
        ("boundary", "two layers and a bottleneck", ((3, 1, 2), 755), None),
        ("boundary", "three layers and a bottleneck", ((4, 3, 1, 2), 756), None),
        ("boundary", "two layers, rcond", ((3, 4, 2), 741), 0.5),
        ("boundary", "three layers, rcond", ((3, 4, 3, 2), 744), 0.125),
    ):
        for rho, q in POWERS:
            attrs = {"q": q, "rho": rho} | ({"rcond": rcond} if rcond else {})
            name = f"{title}, rho = {rho}, q = {q}"
            book.add(kind, name, "Huh (9), (12)", singular if kind == "boundary" else pins, weights(*network), attrs)
    book.add("discriminating", "NGD is the default", "Huh (9)", ["rho = 0, q = 1"], weights((3, 4, 2), 751), {})
    book.refuse("q < 1", "Huh (12)", "a rule that is none", weights((3, 4, 2), 751), {"q": 0.5}, "q is below 1")
    return book


def empirical_coefficient():
    book = Book("empirical_coefficient")
    pins = ["Theta_bar is made of A_l and B_l alone"]
    product = {"kfac_damping": "product"}
    for fisher, more in (
        *((name, {}) for name in ("Identity", "Exact", "BlockDiagonal", "BlockTridiagonal", "Layerwise")),
        *((name, more) for name in ("KFAC", "KFAC-separate", "KFAC-gram") for more in ({}, product)),
    ):
        for rho, q, frozen in ((0.0, 1, 0), (0.15625, 1, 1), (0.15625, 2, 0)):
            if (q == 2 and fisher in ("BlockTridiagonal", "Layerwise")) or (more and not rho):
                continue
            options = {"rho": rho, "q": q, "frozen": frozen, **more}
            inputs, attrs = problem(fisher, (3, 4, 4, 3), 3, 823, N_test=2, y=False, **options)
            title = f"{fisher}{', damped product' if more else ''}, rho = {rho}, q = {q}, frozen = {frozen}"
            book.add("discriminating", title, "K&O (11), (S.46)", pins, inputs, attrs)
    for fisher in ("BlockDiagonal", "KFAC", "KFAC-separate"):
        inputs, attrs = problem(fisher, (5, 4, 3), 3, 763, N_test=2, y=False, rho=0.15625, q=1, frozen=["output-bias"])
        title = f"{fisher}: the bias of the output is fixed"
        book.add("discriminating", title, "K&O (11)", ["A_{L-1} loses sigma_b^2"], inputs, attrs)
    return book


def sample_loss():
    book = Book("sample_loss")
    for title, widths, P in (
        ("more samples than inputs", (3, 4, 2), 5),
        ("fewer samples than inputs", (4, 3, 2), 3),
        ("three layers", (3, 4, 5, 2), 7),
    ):
        inputs = {name: a for name, a in weights(widths, 771).items() if name != "w_star"}
        inputs |= {"x": draw(77160, (P, widths[0])), "y": draw(77161, (P, widths[-1]))}
        pins = ["the mean over samples of ||w_bar x - y||^2 / 2, with what is left at w_star"]
        book.add("discriminating", title, "Huh (1), (4)", pins, inputs, {})
    return book


BOOKS = (direction_truncated, deep_linear_truncated, multiplier, empirical_coefficient, sample_loss)
ABOUT = {
    "direction_truncated": "dW_l of an approximation whose small singular values count as zero, K&O (8) to (23).",
    "deep_linear_truncated": "u_i of update rules whose small singular values count as zero, Huh (9), (12), (19).",
    "multiplier": "Lambda = (K + rho I)^{-1/q} E of Huh (9), (12).",
    "empirical_coefficient": "Theta_bar(x', x) from the kernels A_l and B_l of both pairs of samples alone, K&O (11).",
    "sample_loss": "The loss on samples, and its gradient, of deep linear networks: Huh (1), (4).",
}
