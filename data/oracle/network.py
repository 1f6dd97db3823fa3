"""Networks, THEORY 1, in scalar loops; derivatives are difference quotients of the forward pass.

The quotients are central, with a step of 10^-dps, times the size of extreme numbers, at 2 dps + 20 digits: their error
is about 10^-(dps + 20). Where a unit sits exactly on the kink of a piecewise linear phi it is held constant, since
phi'(kink) = 0 by convention.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

from mpmath import mp


def remembered(function):
    """The function, which computes nothing twice at the same precision."""

    @lru_cache(maxsize=1 << 16)
    def at(prec, *args):
        return function(*args)

    return lambda *args: at(mp.prec, *args)


erf = remembered(mp.erf)


@dataclass(frozen=True)
class Net:
    activation: str
    sigma_w: object
    sigma_b: object
    parameterization: str
    shift: object

    @classmethod
    def of(cls, attrs):
        return cls(
            attrs.get("activation", "linear"),
            mp.mpf(attrs.get("sigma_w", 1)),
            mp.mpf(attrs.get("sigma_b", 0)),
            attrs.get("parameterization", "ntk"),
            mp.mpf(attrs.get("shift", 0)),
        )

    @property
    def bias(self):
        """The value in the last column of h, 0 without bias."""
        if self.parameterization == "ntk":
            return self.sigma_b
        return mp.mpf(1 if self.sigma_b > 0 else 0)

    @remembered
    def scale(self, M):
        return self.sigma_w / mp.sqrt(M) if self.parameterization == "ntk" else mp.mpf(1)

    def phi(self, u):
        if self.activation in ("relu", "shifted_relu"):
            return max(u, -self.shift)
        return {"tanh": mp.tanh, "erf": erf, "linear": lambda v: v}[self.activation](u)

    def on_kink(self, u):
        return self.activation in ("relu", "shifted_relu") and u == -self.shift

    def inputs(self, u, base, first):
        """h of one sample from u (from x if `first`); base: the u that is not perturbed."""
        values = u if first else [self.phi(b if self.on_kink(b) else a) for a, b in zip(u, base, strict=True)]
        factor = self.scale(len(u))
        return [factor * v for v in values] + ([self.bias] if self.sigma_b > 0 else [])


@dataclass
class Signals:
    """f[n][c], h[l-1][n][j], delta[l-1][n][c][i] and J[n C + c][p] for the parameters `index` = [(l, i, j), ..]."""

    f: list
    h: list
    delta: list
    J: list
    index: list
    bias: list
    L: int

    @property
    def size(self):
        return len(self.f), len(self.f[0])

    @property
    def layers(self):
        """The numbers l of the layers that there are."""
        return sorted({l for l, _, _ in self.index})

    def without(self, frozen):
        """Those of the parameters that are trained. frozen: k, the first k layers, or numbers l and "output-bias"."""
        fixed = list(range(1, frozen + 1)) if isinstance(frozen, int) else list(frozen)
        if not self.bias[-1] and "output-bias" in fixed:
            raise ValueError("there is no output bias")
        kept = [l for l in range(1, self.L + 1) if l not in fixed]
        h, bias = [list(h) for h in self.h], list(self.bias)
        columns = [p for p, (l, _, _) in enumerate(self.index) if l in kept]
        if "output-bias" in fixed:
            last = len(h[-1][0]) - 1
            columns = [p for p in columns if self.index[p][::2] != (self.L, last)]
            h[-1], bias[-1] = [row[:last] for row in h[-1]], mp.mpf(0)
        J, index = [[row[p] for p in columns] for row in self.J], [self.index[p] for p in columns]
        h, delta, bias = ([values[l - 1] for l in kept] for values in (h, self.delta, bias))
        return Signals(self.f, h, delta, J, index, bias, self.L)


def layer(W, h):
    """u = W h of one sample."""
    return [mp.fdot(row, h) for row in W]


def passes(net, W, x):
    """For one sample: [x, u_1, .., u_L] and [h_0, .., h_{L-1}]."""
    u, h = [x], []
    for l, w in enumerate(W):
        h.append(net.inputs(u[-1], u[-1], first=l == 0))
        u.append(layer(w, h[-1]))
    return u, h


def tail(net, W, l, u_l, base):
    """f of one sample from a perturbed u_l, where base = [x, u_1, .., u_L]."""
    u = u_l
    for k in range(l, len(W)):
        u = layer(W[k], net.inputs(u, base[k], first=False))
    return u


def forward(net, W, x):
    return [passes(net, W, x_n)[0][-1] for x_n in x]


def quotient(function, step):
    """The central difference quotient at 0 of a function with vector values."""
    up, down = function(step), function(-step)
    return [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]


def scaled(step, *rows):
    """The step for numbers of the size of those in `rows`, where that is extreme, as a power of two."""
    _, exponent = mp.frexp(max(abs(a) for row in rows for a in row))
    return mp.ldexp(step, exponent) if abs(exponent) > 90 else step


def differencing(function):
    """Run at 2 dps + 20 digits, with the step 10^-dps as first argument."""

    def run(*args):
        step = mp.mpf(10) ** -mp.dps
        with mp.workdps(2 * mp.dps + 20):
            return function(step, *args)

    return run


@differencing
def delta_of(step, net, W, x):
    """delta[l-1][n][c][i] = d f_c / d u_{l,i}."""
    delta = [[] for _ in W]
    for x_n in x:
        base, _ = passes(net, W, x_n)

        def f(l, i, t, base=base):
            return tail(net, W, l, bumped(base[l], i, t), base)

        for l, w in enumerate(W, 1):
            length = scaled(step, base[l])
            columns = [quotient(partial(f, l, i), length) for i in range(len(w))]
            delta[l - 1].append([list(row) for row in zip(*columns, strict=True)])
    return delta


@differencing
def jacobian_of(step, net, W, x):
    """J[n C + c][p], and the parameters p = (l, i, j) in the order of theta."""
    index = [(l, i, j) for l, w in enumerate(W, 1) for i in range(len(w)) for j in range(len(w[0]))]
    lengths, J = [scaled(step, *w) for w in W], []
    for x_n in x:
        base, h = passes(net, W, x_n)

        def f(l, i, j, t, base=base, h=h):
            row = bumped(W[l - 1][i], j, t)
            u = list(base[l])
            u[i] = mp.fdot(row, h[l - 1])
            return tail(net, W, l, u, base)

        columns = [quotient(partial(f, *p), lengths[p[0] - 1]) for p in index]
        J.extend(list(row) for row in zip(*columns, strict=True))
    return J, index


def bumped(v, i, t):
    return [a + t if k == i else a for k, a in enumerate(v)]


def signals(net, W, x):
    """Everything at these weights, remembered for the next case with the same network."""
    return _signals(net, tuple(tuple(map(tuple, w)) for w in W), tuple(map(tuple, x)), mp.dps)


@lru_cache(maxsize=64)
def _signals(net, W, x, dps):
    both = [passes(net, W, x_n) for x_n in x]
    J, index = jacobian_of(net, W, x)
    h = [[h_n[l] for _, h_n in both] for l in range(len(W))]
    return Signals([u[-1] for u, _ in both], h, delta_of(net, W, x), J, index, [net.bias] * len(W), len(W))


def flat(dW):
    return [a for w in dW for row in w for a in row]


def layers(theta, shapes):
    """The list like W of which theta is the flattening."""
    result, start = [], 0
    for M, k in shapes:
        result.append([list(theta[start + i * k : start + (i + 1) * k]) for i in range(M)])
        start += M * k
    return result


def shapes_of(index):
    """(M_l, k_l) of the layers from [(l, i, j), ..]."""
    numbers = sorted({l for l, _, _ in index})
    return [tuple(1 + max(p[a] for p in index if p[0] == l) for a in (1, 2)) for l in numbers]


def moved(W, dW, index, eta):
    """W - eta dW of the parameters of `index`, dW flat."""
    W = [[list(row) for row in w] for w in W]
    for (l, i, j), d in zip(index, dW, strict=True):
        W[l - 1][i][j] -= eta * d
    return W
