"""Deep linear networks, THEORY 9, from the differentiated map: J of w_bar S, H_+ = J^T J, K = J J^T; g, H: differences.

S is the symmetric root of Sigma_x. Vectors of the map are input-major, n_in columns of n_out entries, as samples are.
"""

from itertools import pairwise

from mpmath import mp

from . import linalg as la
from .fisher import named, weights_of
from .network import differencing, flat, layers


def product(w):
    w_bar = w[0]
    for w_i in w[1:]:
        w_bar = la.matmul(w_i, w_bar)
    return w_bar


def covariance(inputs):
    return inputs.get("Sigma_x") or la.identity(len(inputs["w_star"][0]))


def shapes(w):
    return [(len(w_i), len(w_i[0])) for w_i in w]


def loss(w, inputs):
    """Tr(Delta Sigma_x Delta^T) / 2, Huh (1)."""
    Delta = la.add(product(w), inputs["w_star"], -1)
    return (
        mp.fsum(
            a * b
            for rows in zip(la.matmul(Delta, covariance(inputs)), Delta, strict=True)
            for a, b in zip(*rows, strict=True)
        )
        / 2
    )


def bump(w, p, t):
    theta = flat(w)
    theta[p] += t
    return layers(theta, shapes(w))


@differencing
def gradient(step, w, inputs):
    """The gradient of the loss, flat, by differences; the truncation of a polynomial's is step^2."""
    return [
        (loss(bump(w, p, step), inputs) - loss(bump(w, p, -step), inputs)) / (2 * step) for p in range(len(flat(w)))
    ]


@differencing
def hessian_product(step, w, dw, inputs):
    """H dw, flat: the change of the gradient along dw, both by differences."""
    h = mp.sqrt(step)

    def moved(t, p, r):
        return loss(bump([la.add(a, b, t) for a, b in zip(w, dw, strict=True)], p, r), inputs)

    return [
        (moved(h, p, h) - moved(h, p, -h) - moved(-h, p, h) + moved(-h, p, -h)) / (4 * h * h)
        for p in range(len(flat(w)))
    ]


@differencing
def map_jacobian(step, w, S):
    """J (n_in n_out, P) of w_bar S: the derivative of entry (c, n) in row n n_out + c."""
    columns = []
    for p in range(len(flat(w))):
        up, down = (la.matmul(product(bump(w, p, t)), S) for t in (step, -step))
        change = la.scale(la.add(up, down, -1), 1 / (2 * step))
        columns.append([v for column in zip(*change, strict=True) for v in column])
    return la.transpose(columns)


def conserved(w):
    """c_i = w_i w_i^T - w_{i+1}^T w_{i+1}, Huh (15)."""
    return [la.add(la.matmul(a, la.transpose(a)), la.matmul(la.transpose(b), b), -1) for a, b in pairwise(w)]


def deep_linear(inputs, attrs, full):
    w, S = weights_of(inputs, "w_"), la.root(covariance(inputs))
    J = map_jacobian(w, S)
    outputs = {"loss": loss(w, inputs), **named("g", layers(gradient(w, inputs), shapes(w)), 1)}
    if "dw_1" in inputs:
        dw = weights_of(inputs, "dw_")
        gn = la.matvec(la.transpose(J), la.matvec(J, flat(dw)))
        outputs |= named("gn", layers(gn, shapes(w)), 1)
        outputs |= named("hv", layers(hessian_product(w, dw, inputs), shapes(w)), 1)
    return {**outputs, "K": la.matmul(J, la.transpose(J)), **named("c", conserved(w), 1)}, {}


def blocks(w, block):
    """The parameters of each diagonal block of H_+: a layer, or all."""
    starts = [0]
    for M, k in shapes(w):
        starts.append(starts[-1] + M * k)
    return [range(a, b) for a, b in pairwise(starts)] if block else [range(starts[-1])]


def update(w, inputs, attrs):
    """u, flat: (H_+ + rho I)^{-1/q} g; block by block times d^{-1/q}, Huh (19); factors and clipping: THEORY 9."""
    rho, q = mp.mpf(attrs.get("rho", 0)), mp.mpf(attrs.get("q", 1))
    J, g = map_jacobian(w, la.root(covariance(inputs))), gradient(w, inputs)
    u = []
    for part in blocks(w, attrs.get("block", False)):
        J_b = [[row[p] for p in part] for row in J]
        H = la.matmul(la.transpose(J_b), J_b)
        u += [row[0] for row in la.apply_power(H, rho, q, [[g[p]] for p in part])]
    gain = mp.mpf(len(w)) ** (-1 / q) if attrs.get("block", False) else mp.mpf(1)
    gain *= (1 + rho) ** (1 / q) if attrs.get("regularised", False) else 1
    size, clip = gain * la.norm(u), mp.mpf(attrs.get("clip", "inf"))
    gain *= min(mp.mpf(1), clip / size) if size else 1
    return [gain * v for v in u]


def deep_linear_update(inputs, attrs, full):
    w = weights_of(inputs, "w_")
    outputs = named("u", layers(update(w, inputs, attrs), shapes(w)), 1)
    return outputs, intermediates(w, inputs, attrs) if full else {}


def partial_products(w, S):
    """L_i = w_d .. w_{i+1}, R_i = w_{i-1} .. w_1 S."""
    L, R = [la.identity(len(w[-1]))], [S]
    for left, right in zip(w[:0:-1], w[:-1], strict=True):
        L.insert(0, la.matmul(L[0], left))
        R.append(la.matmul(right, R[-1]))
    return L, R


def intermediates(w, inputs, attrs):
    """E, L_i, R_i, and for full rules K and Lambda = (K + rho I)^{-1/q} E."""
    S = la.root(covariance(inputs))
    E = la.matmul(la.add(product(w), inputs["w_star"], -1), S)
    L, R = partial_products(w, S)
    steps = {"E": E, **named("L", L, 1), **named("R", R, 1)}
    if not attrs.get("block", False) and mp.mpf(attrs.get("q", 1)) != mp.inf:
        J = map_jacobian(w, S)
        K = la.matmul(J, la.transpose(J))
        column = [[v] for row in la.transpose(E) for v in row]
        lam = la.apply_power(K, mp.mpf(attrs.get("rho", 0)), mp.mpf(attrs.get("q", 1)), column)
        n = len(E)
        Lambda = la.transpose([[v[0] for v in lam[k : k + n]] for k in range(0, len(lam), n)])
        steps |= {"K": K, "Lambda": Lambda}
    return steps


def sample_loss(inputs, attrs, full):
    """The mean of ||w_bar x - y||^2 / 2 over samples, and its gradient by differences."""
    w = weights_of(inputs, "w_")

    def value(w):
        rest = la.add(la.matmul(inputs["x"], la.transpose(product(w))), inputs["y"], -1)
        return mp.fsum(v * v for row in rest for v in row) / len(rest) / 2

    @differencing
    def slopes(step):
        return [(value(bump(w, p, step)) - value(bump(w, p, -step))) / (2 * step) for p in range(len(flat(w)))]

    return {"loss": value(w), **named("g", layers(slopes(), shapes(w)), 1)}, {}


def multiplier(inputs, attrs, full):
    """Lambda = (K + rho I)^{-1/q} E, Huh (9), of K less the singular values of J at most rcond times the largest."""
    w, S = weights_of(inputs, "w_"), la.root(covariance(inputs))
    J = map_jacobian(w, S)
    K, rho, q = la.matmul(J, la.transpose(J)), mp.mpf(attrs.get("rho", 0)), mp.mpf(attrs.get("q", 1))
    E = la.matmul(la.add(product(w), inputs["w_star"], -1), S)
    e = [[v] for row in la.transpose(E) for v in row]
    rcond = mp.mpf(attrs.get("rcond", mp.mpf(10) ** (-mp.dps // 4)))
    inside = la.apply_kept(K, mp.mpf(0), mp.inf, rcond, e)
    lam = la.apply_kept(K, rho, q, rcond, e)
    if rho:
        lam = la.add(lam, la.add(e, inside, -1), rho ** (-1 / q))
    n = len(E)
    return {"Lambda": la.transpose([[v for (v,) in lam[k : k + n]] for k in range(0, len(lam), n)])}, {}


def deep_linear_truncated(inputs, attrs, full):
    """`deep_linear_update` less singular values at most rcond times the largest, of J, or by blocks of L_i and R_i."""
    w, S, q = weights_of(inputs, "w_"), la.root(covariance(inputs)), mp.mpf(attrs.get("q", 1))
    rho, rcond, g = mp.mpf(attrs.get("rho", 0)), mp.mpf(attrs["rcond"]), gradient(w, inputs)
    if not attrs.get("block", False):
        J = map_jacobian(w, S)
        theta = la.apply_kept(la.matmul(la.transpose(J), J), rho, q, rcond, [[v] for v in g])
        return named("u", layers([v for (v,) in theta], shapes(w)), 1), {}
    u = []
    for L, R, g_i in zip(*partial_products(w, S), layers(g, shapes(w)), strict=True):
        left, right = la.kept(la.matmul(la.transpose(L), L), rcond), la.kept(la.matmul(R, la.transpose(R)), rcond)
        terms = [((x * y + rho) ** (-1 / q) * mp.fdot(z, la.matvec(g_i, v)), z, v) for x, z in left for y, v in right]
        u_i = [[mp.fsum(c * z[a] * v[b] for c, z, v in terms) for b in range(len(g_i[0]))] for a in range(len(g_i))]
        u.append(la.scale(u_i, mp.mpf(len(w)) ** (-1 / q)))
    return named("u", u, 1), {}


def deep_linear_step(inputs, attrs, full):
    """w <- w - eta u, literally."""
    w, values = weights_of(inputs, "w_"), []
    for _ in range(attrs["steps"]):
        values.append(loss(w, inputs))
        u = layers(update(w, inputs, attrs), shapes(w))
        w = [la.add(w_i, u_i, -mp.mpf(attrs["eta"])) for w_i, u_i in zip(w, u, strict=True)]
    values.append(loss(w, inputs))
    return {**named("w", w, 1), "loss": values, **named("c", conserved(w), 1)}, {}


def null_update(inputs, attrs, full):
    """dw_i = m_i w_i - w_i m_{i-1} with m_0 = m_d = 0, Huh section 2: the derivative of w_bar along it is 0."""
    w, m = weights_of(inputs, "w_"), [None, *weights_of(inputs, "m_"), None]
    dw = []
    for w_i, below, above in zip(w, m[:-1], m[1:], strict=True):
        left = la.matmul(above, w_i) if above else la.scale(w_i, 0)
        dw.append(la.add(left, la.matmul(w_i, below), -1) if below else left)
    J = map_jacobian(w, la.identity(len(w[0][0])))
    if la.norm(la.matvec(J, flat(dw))) > mp.mpf(10) ** (5 - mp.dps):
        raise ArithmeticError("dw changes w_bar")
    return named("dw", dw, 1), {}


def euler_drift(inputs, attrs, full):
    """What a step w - h u adds to c_i of (15); of a u that is J Lambda it is h^2 (u_i u_i^T - u_{i+1}^T u_{i+1})."""
    w, Lambda, h = weights_of(inputs, "w_"), inputs["Lambda"], mp.mpf(attrs["h"])
    L, R = partial_products(w, la.identity(len(w[0][0])))
    u = [la.matmul(la.transpose(l), la.matmul(Lambda, la.transpose(r))) for l, r in zip(L, R, strict=True)]
    after = [la.add(a, b, -h) for a, b in zip(w, u, strict=True)]
    drift = [la.add(a, b, -1) for a, b in zip(conserved(after), conserved(w), strict=True)]
    return {**named("u", u, 1), **named("drift", drift, 1)}, {}


def statistics(inputs, attrs, full):
    """w_star = E[y x^T] Sigma_x^+, Sigma_x = E[x x^T], and the least loss E||w_star x - y||^2 / 2."""
    x, y = inputs["x"], inputs["y"]
    P = len(x)
    Sigma_x = la.scale(la.matmul(la.transpose(x), x), mp.mpf(1) / P)
    w_star = la.transpose(la.matmul(la.power(Sigma_x, -1), la.scale(la.matmul(la.transpose(x), y), mp.mpf(1) / P)))
    rest = la.add(la.matmul(x, la.transpose(w_star)), y, -1)
    const = mp.fsum(v * v for row in rest for v in row) / P / 2
    return {"w_star": w_star, "Sigma_x": Sigma_x, "const": const}, {}


def flow(inputs, attrs, full):
    """w at the last of the times under w' = -eta u, and the loss at each, by extrapolation of the midpoint rule."""
    w = weights_of(inputs, "w_")
    theta, eta, values, at = flat(w), mp.mpf(attrs.get("eta", 1)), [], mp.mpf(0)
    times = inputs["times"]
    falls = "converged" in attrs and loss(w, inputs) > 0
    end = half_life(attrs, eta) if falls else mp.inf
    stops = end < times[-1]
    times = [t for t in times if t < end] + [end] * stops

    def velocity(theta):
        return [-eta * v for v in update(layers(theta, shapes(w)), inputs, attrs)]

    for t in times:
        theta, at = integrated(velocity, theta, t - at), t
        values.append(loss(layers(theta, shapes(w)), inputs))
    after = layers(theta, shapes(w))
    if stops and abs(values[-1] / loss(w, inputs) - mp.mpf(attrs["converged"]) ** 2) > mp.mpf(10) ** (-mp.dps // 3):
        raise ArithmeticError("E does not fall as e^{-eta t}")
    end = {"t": at} if "converged" in attrs else {}
    return {**named("w", after, 1), "loss": values, **named("c", conserved(after), 1), **end}, {}


def half_life(attrs, eta):
    """When ||E|| has fallen to the share `converged`, by (9): E' = -eta E under NGD, where J has full rank."""
    if attrs.get("block") or attrs.get("rho") or attrs.get("q", 1) != 1:
        raise ArithmeticError("of NGD alone it is known when it has converged")
    return -mp.log(mp.mpf(attrs["converged"])) / eta


def integrated(velocity, theta, t):
    """theta(t) by Gragg's midpoint rule in n = 2, 4, 6, .. steps, extrapolated to steps of length 0, in `pieces`."""
    pieces = max(1, int(mp.ceil(4 * t)))
    for _ in range(pieces):
        theta = extrapolated(velocity, theta, t / pieces)
    return theta


def extrapolated(velocity, theta, t):
    goal, rows = mp.mpf(10) ** (-mp.dps // 2) * la.norm(theta), []
    for k in range(1, 60):
        row = [midpoint(velocity, theta, t, 2 * k)]
        for j in range(1, k):
            ratio = (mp.mpf(k) / (k - j)) ** 2 - 1
            row.append([a + (a - b) / ratio for a, b in zip(row[-1], rows[-1][j - 1], strict=True)])
        if rows and la.norm([a - b for a, b in zip(row[-1], rows[-1][-1], strict=True)]) < goal:
            return row[-1]
        rows.append(row)
    raise ArithmeticError("the flow is not resolved")


def midpoint(velocity, theta, t, n):
    """n steps of the midpoint rule, of which the error is even in their length t / n."""
    h, before = t / n, theta
    now = [a + h * v for a, v in zip(theta, velocity(theta), strict=True)]
    for _ in range(n - 1):
        before, now = now, [a + 2 * h * v for a, v in zip(before, velocity(now), strict=True)]
    after = [a + 2 * h * v for a, v in zip(before, velocity(now), strict=True)]
    return [(a + 2 * b + c) / 4 for a, b, c in zip(before, now, after, strict=True)]


def gram_of_map(inputs, attrs):
    """The worst condition number, on its range, of K or of the blocks' Gram matrices, damped."""
    w = weights_of(inputs, "w_")
    if mp.mpf(attrs.get("q", 1)) == mp.inf:
        return mp.mpf(1)
    J, rho = map_jacobian(w, la.root(covariance(inputs))), mp.mpf(attrs.get("rho", 0))
    worst = mp.mpf(1)
    for part in blocks(w, attrs.get("block", False)):
        J_b = [[row[p] for p in part] for row in J]
        worst = max(worst, la.condition(la.damped(la.matmul(J_b, la.transpose(J_b)), rho)))
    return worst


def range_of_map(inputs, attrs):
    return mp.sqrt(gram_of_map(inputs, {**attrs, "rho": 0}))
