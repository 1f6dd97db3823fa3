"""Every approximation as the explicit P x P matrix G of THEORY 2 to 5, and what follows from it.

    direction = G^{-1/q} J^T e / N,    Theta_bar column k = J' G^{-1/q} J^T e_k / N

The output Hessians H_n (C x C) of the loss are part of G; that of the mean squared error is I.
"""

from dataclasses import dataclass, replace
from itertools import product

from mpmath import mp

from . import linalg as la
from .network import Net, flat, layers, shapes_of, signals


@dataclass(frozen=True)
class Approximation:
    name: str
    rho: object
    q: object
    Sigma: object = None
    kfac_bias: str = "augmented"
    kfac_last: str = "identity"
    kfac_damping: str = "factors"

    @classmethod
    def of(cls, attrs, inputs):
        return cls(
            attrs["fisher"],
            mp.mpf(attrs.get("rho", 0)),
            mp.mpf(attrs.get("q", 1)),
            inputs.get("Sigma"),
            attrs.get("kfac_bias", "augmented"),
            attrs.get("kfac_last", "identity"),
            attrs.get("kfac_damping", "factors"),
        )

    def coupling(self, layers):
        """Sigma of the layer-wise approximations for the layers of these numbers, None for the others."""
        if self.name == "Layerwise":
            return self.Sigma
        reach = {"Exact": max(layers), "BlockDiagonal": 0, "BlockTridiagonal": 1}.get(self.name)
        if reach is None:
            return None
        return [[mp.mpf(abs(l - m) <= reach) for m in layers] for l in layers]


def unit_hessians(s):
    N, C = s.size
    return [la.identity(C) for _ in range(N)]


def softmax(f):
    powers = [mp.exp(v - max(f)) for v in f]
    total = mp.fsum(powers)
    return [v / total for v in powers]


def loss_terms(attrs, f, y):
    """The residual e (N, C) and the output Hessians H_n, with loss_rho on the diagonal, of (S.158)."""
    if attrs.get("loss", "mse") == "mse":
        return la.add(f, y, -1), [la.identity(len(f_n)) for f_n in f]
    rho = mp.mpf(attrs.get("loss_rho", 0))
    spread = max(max(f_n) - min(f_n) for f_n in f)
    lost = min(spread, mp.mpf(5000)) / mp.log(10) - (mp.log10(rho) if 0 < rho < 1 else 0)
    with mp.workdps(mp.dps + int(lost)):  # or 1 - p, and p - p^2 + rho, would be 0
        p = [softmax(f_n) for f_n in f]
        hessians = [
            [[(a + rho if c == k else 0) - a * b for k, b in enumerate(p_n)] for c, a in enumerate(p_n)] for p_n in p
        ]
        return la.add(p, y, -1), hessians


def weighted(s, H):
    """Rows of H J."""
    N, C = s.size
    rows = []
    for n in range(N):
        rows.extend(la.matmul(H[n], s.J[n * C : (n + 1) * C]))
    return rows


def entries(a, s, H):
    """The function (p, r) -> entry of G at rho = 0, and the damping as a function of (p, r), for parameters p, r."""
    N = s.size[0]
    index = s.index
    left, right = la.transpose(weighted(s, H)), la.transpose(s.J)

    def F(p, r):
        return mp.fdot(left[p], right[r]) / N

    def within(levels):
        return lambda p, r: F(p, r) if index[p][:levels] == index[r][:levels] else mp.mpf(0)

    layers = s.layers
    Sigma = a.coupling(layers)
    if Sigma is not None:
        return lambda p, r: Sigma[layers.index(index[p][0])][layers.index(index[r][0])] * F(p, r)
    if a.name == "Identity":
        return lambda p, r: mp.mpf(p == r)
    if a.name == "QuasiDiagonal":
        return quasi_diagonal(a, s, F)
    return within({"Unitwise": 2, "Entrywise": 3}[a.name])


def quasi_diagonal(a, s, F):
    """Ollivier's, THEORY 5, with the damping already in A_00: QD_ij = A_0i A_0j / A_00, index 0 being the bias."""
    last = {l: k - 1 for l, (_, k) in zip(s.layers, shapes_of(s.index), strict=True)}
    bias = dict(zip(s.layers, s.bias, strict=True))

    def bias_of(p):
        l, i, _ = s.index[p]
        return s.index.index((l, i, last[l]))

    def entry(p, r):
        if p == r:
            return F(p, r)
        if not bias[s.index[p][0]] or s.index[p][:2] != s.index[r][:2]:
            return mp.mpf(0)
        zero = bias_of(p)
        if zero in (p, r):
            return F(p, r)
        A_00 = F(zero, zero) + a.rho
        return F(zero, p) * F(zero, r) / A_00 if A_00 else mp.mpf(0)

    return entry


def matrix(a, s, H):
    """G (P x P) with its damping."""
    if a.name == "KFAC":
        return kfac_matrix(a, s, H)
    entry, P = entries(a, s, H), len(s.index)
    G = [[mp.mpf(0)] * P for _ in range(P)]
    for p in range(P):
        for r in range(p, P):
            G[p][r] = G[r][p] = entry(p, r)
    return la.damped(G, a.rho)


def kfac_factors(a, s, H):
    """A*_{l-1} (S.95), B*_l, and B*_l of a separate bias (S.123) or None, of every layer, undamped."""
    N, C = s.size
    for l, h, delta, b in zip(s.layers, s.h, s.delta, s.bias, strict=True):
        separate = a.kfac_bias == "separate" and b
        columns = range(len(h[0]) - bool(separate))
        A = [[mp.fsum(h[n][j] * h[n][k] for n in range(N)) / N for k in columns] for j in columns]
        M = range(len(delta[0][0]))
        B = [
            [
                mp.fsum(
                    delta[n][c][i] * H[n][c][d] * delta[n][d][k] for n in range(N) for c in range(C) for d in range(C)
                )
                / N
                for k in M
            ]
            for i in M
        ]
        bias_block = la.scale(B, b**2 / N) if separate else None
        if l == s.L and a.kfac_last == "identity":
            B = la.identity(C, mp.mpf(1) / N)
        yield A, B, bias_block


def kfac_matrix(a, s, H):
    """(B* + rho) (x) (A* + rho), K&O (20): the damping is on each factor, or else on the product."""
    factors = kfac_factors(a, s, H)
    if a.kfac_damping == "product":
        return la.damped(assembled(s, factors), a.rho)
    return assembled(s, [[K and la.damped(K, a.rho) for K in of_layer] for of_layer in factors])


def kfac_power(a, s, H, exponent):
    """The power of the same with damping of factors: that of a Kronecker product is that of its factors."""
    factors = kfac_factors(a, s, H)
    return assembled(s, [[K and la.power(K, exponent, a.rho) for K in of_layer] for of_layer in factors])


def assembled(s, factors):
    """B (x) A of every layer, with a third matrix for a separate bias, entry by entry."""
    P = len(s.index)
    G = [[mp.mpf(0)] * P for _ in range(P)]
    factors = dict(zip(s.layers, factors, strict=True))
    for p, (l, i, j) in enumerate(s.index):
        A, B, bias_block = factors[l]
        for r, (m, k, o) in enumerate(s.index):
            if l == m and max(j, o) < len(A):
                G[p][r] = B[i][k] * A[j][o]
            elif l == m and j == o:
                G[p][r] = bias_block[i][k]
    return G


def gradient(s, e):
    """J^T e / N as a column."""
    N = s.size[0]
    column = [[v] for row in e for v in row]
    return la.scale(la.matmul(la.transpose(s.J), column), mp.mpf(1) / N)


def applied(a, s, H, B):
    """G^{-1/q} B; the damping of QuasiDiagonal, and of factors, is inside of G."""
    if mp.isinf(a.q):
        return B
    if a.rho > 0 and a.q == 1:
        return la.solve(matrix(a, s, H), B)
    if a.name == "KFAC" and a.kfac_damping == "factors":
        return la.matmul(kfac_power(a, s, H, -1 / a.q), B)
    if a.name == "QuasiDiagonal":
        return la.matmul(la.power(matrix(a, s, H), -1 / a.q), B)
    return la.matmul(la.power(matrix(replace(a, rho=mp.mpf(0)), s, H), -1 / a.q, a.rho), B)


def step(a, s, H, e):
    """The direction, flat."""
    return [row[0] for row in applied(a, s, H, gradient(s, e))]


def basis_steps(a, train, H=None):
    """G^{-1/q} J^T / N (P, NC): column k is the direction of the residual e_k, with the output Hessians H, or I."""
    basis = la.scale(la.transpose(train.J), mp.mpf(1) / train.size[0])
    return applied(a, train, H or unit_hessians(train), basis)


def coefficient(a, test, train, H=None):
    """Theta_bar(x', x) (N'C, NC), K&O (11), column by column."""
    return la.matmul(test.J, basis_steps(a, train, H))


def whitened(s, H, e):
    """R e^{-T}, R delta with the symmetric root R_n of H_n: e_white (N, C) and delta_white_l."""
    N = s.size[0]
    roots = [la.root(H_n) for H_n in H]
    inverses = [la.power(H_n, mp.mpf(-1) / 2) for H_n in H]
    e_white = [la.matvec(inverses[n], e[n]) for n in range(N)]
    return e_white, [[la.matmul(roots[n], delta[n]) for n in range(N)] for delta in s.delta]


def rows_of(delta):
    """delta_l (N, C, M) as the NC rows of the Gram matrix B_l."""
    return [row for sample in delta for row in sample]


def gram_matrices(s, delta):
    """A_{l-1} (N, N), B_l (NC, NC), Theta_l (NC, NC) of every layer, THEORY 2."""
    N, C = s.size
    A = [la.matmul(h, la.transpose(h)) for h in s.h]
    B = [la.matmul(rows_of(d), la.transpose(rows_of(d))) for d in delta]
    Theta = [
        [[b * A_l[n // C][m // C] / N for m, b in enumerate(row)] for n, row in enumerate(B_l)]
        for A_l, B_l in zip(A, B, strict=True)
    ]
    return A, B, Theta


def multipliers(a, layers, Theta, E):
    """lambda_l (NC, k) of the layer-wise approximations: sum_m Sigma_lm Theta_m lambda_m + rho lambda_l = E."""
    L, n = len(Theta), len(E)
    Sigma = a.coupling(layers)
    if a.name == "Exact":
        total = Theta[0]
        for T in Theta[1:]:
            total = la.add(total, T)
        return [la.apply_power(total, a.rho, a.q, E)] * L
    if a.name == "BlockDiagonal":
        return [la.apply_power(T, a.rho, a.q, E) for T in Theta]
    system = [
        [Sigma[l][m] * Theta[m][i][j] + a.rho * (l == m and i == j) for m in range(L) for j in range(n)]
        for l in range(L)
        for i in range(n)
    ]
    solution = la.solve(system, E * L)
    return [solution[l * n : (l + 1) * n] for l in range(L)]


def have_multipliers(a, layers, Theta):
    """Whether lambda_l is unique: always for blocks of layers, else at q = 1 if the coupled system is regular."""
    if a.coupling(layers) is None or mp.isinf(a.q):
        return False
    if a.name in ("Exact", "BlockDiagonal"):
        return True
    return a.q == 1 and (a.rho > 0 or all(regular(M) for M in [a.coupling(layers), *Theta]))


def regular(K):
    return all(la.live(la.eigenvalues(K)))


def worst_gram(a, s, delta, H):
    """The largest condition number, on its range, of the Gram matrices that the factored route inverts."""
    N = s.size[0]
    if mp.isinf(a.q) or a.name in ("Identity", "Entrywise"):
        return mp.mpf(1)
    if a.name == "QuasiDiagonal":
        return worst_unit(a, s, H)
    A, B, Theta = gram_matrices(s, delta)
    if a.name == "KFAC" and a.kfac_damping == "product":
        return la.condition(matrix(a, s, H))
    if a.name == "KFAC":
        last = [] if a.kfac_last == "gram" else [l for l, number in enumerate(s.layers) if number == s.L]
        grams = [la.scale(A_l, mp.mpf(1) / N) for A_l in A]
        grams += [la.scale(B_l, mp.mpf(1) / N) for l, B_l in enumerate(B) if l not in last]
        if a.kfac_bias == "separate":
            grams += [la.scale(B_l, b**2 / N**2) for B_l, b in zip(B, s.bias, strict=True) if b]
            pairs = zip(grams[: len(A)], s.bias, strict=True)
            grams += [[[v - b**2 / N for v in row] for row in G] for G, b in pairs if b]
    elif a.name == "Unitwise":
        grams = list(unit_grams(s, delta, A))
    elif a.name == "Exact":
        grams = [[[mp.fsum(T[i][j] for T in Theta) for j in range(len(T))] for i in range(len(T))] for T in Theta[:1]]
    else:
        grams = Theta
    conditions = [la.condition(la.damped(K, a.rho)) for K in grams]
    if a.name in ("Layerwise", "BlockTridiagonal"):
        conditions.append(max(conditions) * la.condition(a.coupling(s.layers)))
        if a.rho > 0:
            conditions.append(coupled_condition(a, s.layers, Theta))
    return max(conditions)


def worst_unit(a, s, H):
    """The largest condition number of the quasi-diagonal blocks."""
    G = matrix(a, s, H)
    units = sorted({p[:2] for p in s.index})
    parts = [[k for k, p in enumerate(s.index) if p[:2] == unit] for unit in units]
    return max(la.condition([[G[i][j] for j in part] for i in part]) for part in parts)


def coupled_condition(a, layers, Theta):
    """That of the LNC x LNC system."""
    L, n = len(Theta), len(Theta[0])
    Sigma = a.coupling(layers)
    system = [
        [Sigma[l][m] * Theta[m][i][j] + a.rho * (l == m and i == j) for m in range(L) for j in range(n)]
        for l in range(L)
        for i in range(n)
    ]
    return mp.sqrt(la.condition(la.matmul(la.transpose(system), system)))


def unit_grams(s, delta, A):
    """Theta_{l,i} (S.131) of every unit that is not dead."""
    N, C = s.size
    for d, A_l in zip(delta, A, strict=True):
        for i in range(len(d[0][0])):
            column = [row[i] for row in rows_of(d)]
            K = [[a * b * A_l[n // C][m // C] / N for m, b in enumerate(column)] for n, a in enumerate(column)]
            if any(column):
                yield K


def range_condition(s):
    """The condition number of J on its range: what stands for kappa where a rank deficiency makes that infinite."""
    rows, columns = sorted((s.J, la.transpose(s.J)), key=len)
    return mp.sqrt(la.condition(la.matmul(rows, columns)))


def weights_of(inputs, prefix="W_"):
    return [inputs[f"{prefix}{l}"] for l in range(1, 1 + len(inputs)) if f"{prefix}{l}" in inputs]


def trained(inputs, attrs, x="x"):
    """The net, its weights, and the signals of the layers that are not frozen."""
    net, W = Net.of(attrs), weights_of(inputs)
    return net, W, signals(net, W, inputs[x]).without(attrs.get("frozen", 0))


def named(prefix, values, numbers):
    """By the first number, or by a list of them."""
    numbers = range(numbers, numbers + len(values)) if isinstance(numbers, int) else numbers
    return {f"{prefix}_{l}": value for l, value in zip(numbers, values, strict=True)}


def direction(inputs, attrs, full):
    """Outputs, intermediates (if `full`) of the operation `direction`."""
    _, _, s = trained(inputs, attrs)
    a = Approximation.of(attrs, inputs)
    e, H = loss_terms(attrs, s.f, inputs["y"])
    theta = step(a, s, H, e)
    outputs = named("dW", layers(theta, shapes_of(s.index)), s.layers)
    return outputs, intermediates(a, s, H, e, theta, attrs) if full else {}


def direction_truncated(inputs, attrs, full):
    """`direction` less the directions of singular values at most rcond times the largest: of J, of those of its blocks,
    or of h and of delta."""
    _, _, s = trained(inputs, attrs)
    a, e = Approximation.of(attrs, inputs), loss_terms(attrs, s.f, inputs["y"])[0]
    g, rcond, options = gradient(s, e), mp.mpf(attrs["rcond"]), (a.rho, a.q, mp.mpf(attrs["rcond"]))
    if a.name == "KFAC":
        parts = layers([v for (v,) in g], shapes_of(s.index))
        factors = kfac_factors(a, s, unit_hessians(s))
        dW = []
        for l, g_l, (A, B, _) in zip(s.layers, parts, factors, strict=True):
            if a.kfac_damping == "product":
                dW.append(of_pairs(la.kept(A, rcond), la.kept(B, rcond), a, g_l))
                continue
            right = la.transpose(la.apply_kept(A, *options, la.transpose(g_l)))
            fixed = l == s.L and a.kfac_last == "identity"
            dW.append(la.scale(right, (B[0][0] + a.rho) ** (-1 / a.q)) if fixed else la.apply_kept(B, *options, right))
        return named("dW", dW, s.layers), {}
    level = {"Exact": 0, "BlockDiagonal": 1, "Unitwise": 2}[a.name]
    G, theta = matrix(Approximation("Exact", mp.mpf(0), a.q), s, unit_hessians(s)), [None] * len(g)
    for block in sorted({p[:level] for p in s.index}):
        own = [k for k, p in enumerate(s.index) if p[:level] == block]
        steps = la.apply_kept([[G[i][j] for j in own] for i in own], a.rho, a.q, rcond, [g[i] for i in own])
        for i, (v,) in zip(own, steps, strict=True):
            theta[i] = v
    return named("dW", layers(theta, shapes_of(s.index)), s.layers), {}


def of_pairs(of_A, of_B, a, g):
    """sum (alpha beta + rho)^{-1/q} v_B v_B^T g v_A v_A^T over pairs of eigenvalues alpha, beta with their vectors."""
    dW = la.scale(g, 0)
    for (alpha, v_A), (beta, v_B) in product(of_A, of_B):
        c = (alpha * beta + a.rho) ** (-1 / a.q) * mp.fdot(v_B, la.matvec(g, v_A))
        dW = la.add(dW, [[c * u * v for v in v_A] for u in v_B])
    return dW


def empirical_coefficient(inputs, attrs, full):
    """Theta_bar of approximations whose Theta_bar is made of the kernels A_l and B_l alone, K&O (S.46)."""
    train, test = (trained(inputs, attrs, x)[2] for x in ("x", "x_test"))
    return {"Theta_bar": coefficient(Approximation.of(attrs, inputs), test, train)}, {}


def intermediates(a, s, H, e, theta, attrs):
    """In the order of computation, with A_l, B_l, Theta_l of the whitened signals."""
    numbers, below = s.layers, [l - 1 for l in s.layers]
    steps = {"f": s.f, "e": e, **named("h", s.h, below), **named("delta", s.delta, numbers)}
    delta = s.delta
    if attrs.get("loss", "mse") != "mse":
        e, delta = whitened(s, H, e)
        steps |= {"e_white": e, **named("delta_white", delta, numbers)}
    if mp.isinf(a.q) or a.name in ("Identity", "Entrywise", "QuasiDiagonal"):
        return steps
    A, B, Theta = gram_matrices(s, delta)
    steps |= named("A", A, below)
    if a.name != "Unitwise":
        steps |= named("B", B, numbers)
    if a.coupling(numbers) is not None:
        steps |= named("Theta", Theta, numbers)
    if have_multipliers(a, numbers, Theta):
        column = [[v] for row in e for v in row]
        lam = multipliers(a, numbers, Theta, column)
        confirm(s, delta, lam, theta)
        C = s.size[1]
        grouped = [[[v[0] for v in lam_l[k : k + C]] for k in range(0, len(lam_l), C)] for lam_l in lam]
        steps |= named("lambda", grouped, numbers)
    return steps


def confirm(s, delta, lam, theta):
    """J_l^T lambda_l / N is the direction, or the oracle contradicts itself."""
    N, C = s.size
    pulled = []
    for h, d, lam_l in zip(s.h, delta, lam, strict=True):
        for i in range(len(d[0][0])):
            for j in range(len(h[0])):
                pulled.append(
                    mp.fsum(d[n][c][i] * h[n][j] * lam_l[n * C + c][0] for n in range(N) for c in range(C)) / N
                )
    gap = la.norm([a - b for a, b in zip(pulled, theta, strict=True)])
    if gap > mp.mpf(10) ** (-mp.dps // 2) * la.norm(theta):
        raise ArithmeticError(f"J^T lambda / N differs from the direction by {mp.nstr(gap, 3)}")


def push(s, dW):
    """J dtheta (N, C)."""
    C = s.size[1]
    v = la.matvec(s.J, flat(dW))
    return [v[k : k + C] for k in range(0, len(v), C)]


def pull(s, v):
    """J^T v as a list like W."""
    column = [a for row in v for a in row]
    return layers(la.matvec(la.transpose(s.J), column), shapes_of(s.index))
