"""Fully-connected networks of any depth: weights, outputs, and the signals from which everything else is made.

    h_{l-1} = [sigma_w / sqrt(M_{l-1}) phi(u_{l-1}) ; sigma_b]     (N, M_{l-1}+1)     K&O (1), "ntk"
    h_{l-1} = [phi(u_{l-1}) ; 1]                                                      "standard"
    u_l     = h_{l-1} W_l^T,   f = u_L                             (N, M_l)
    delta_l = d f_c(x_n) / d u_l                                   (N, C, M_l)        (S.65), delta_L = I_C
            = (delta_{l+1} W_{l+1}) * phi'(u_l) sigma_w / sqrt(M_l)    with W_{l+1} less its bias; "standard": no factor

phi(u_0) stands for the input x. The bias is the last column of h and of W_l, and is there if and only if sigma_b > 0.
With the factors inside h, d f_c(x_n) / d W_{l,ij} = delta_l[n,c,i] h_{l-1}[n,j] in both parameterizations, and no other
file needs to know sigma_w, sigma_b or the parameterization.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from .activations import Activation, relu
from .arrays import Array, array_module, is_finite, require_memory, to_device
from .checks import (
    OUTPUT_BIAS,
    checked_array,
    checked_choice,
    checked_dtype,
    checked_finite,
    checked_frozen,
    checked_instance,
    checked_list,
    checked_number,
    checked_rng,
    checked_shape,
    checked_whole,
    shown,
)
from .spectral import haar


@dataclass(frozen=True)
class Trained:
    """Which layers of a network are trained. Lists of anything by layer have an entry for each of these alone.

    L: the number of all layers.
    layers: their numbers l = 1 .. L, ascending.
    bias: for each the value of its bias column, the last of h_{l-1} (sigma_b, or 1 in "standard"), 0 without bias.
    """

    L: int
    layers: tuple[int, ...]
    bias: tuple[float, ...]

    def above(self, frozen: int | Collection) -> "Trained":
        """What is trained if `frozen` is kept fixed as well, see `Signals.above`."""
        fixed = checked_frozen(frozen, self.L, self.L in self.layers and self.bias[-1] != 0)
        kept = [(l, b) for l, b in zip(self.layers, self.bias, strict=True) if l not in fixed]
        if not kept:
            raise ValueError(f"frozen has the layers {self.layers}, all that are trained; expected to leave one")
        layers, bias = zip(*kept, strict=True)
        return replace(self, layers=layers, bias=(*bias[:-1], 0.0) if OUTPUT_BIAS in fixed else bias)

    @property
    def literal(self) -> tuple[list[float], list[int], int]:
        """The same as `refngd.definitions` has it in its Signals."""
        return list(self.bias), list(self.layers), self.L

    def take(self, which: Sequence[int]) -> "Trained":
        """Some of the layers, by their place 0, 1, .. among them."""
        return replace(self, layers=tuple(self.layers[i] for i in which), bias=tuple(self.bias[i] for i in which))


@dataclass(frozen=True)
class Signals:
    """What a forward and a backward pass leave: `h[l-1]` is h_{l-1} and `delta[l-1]` is delta_l, for l = 1..L.

    f: (N, C), the outputs.
    h: L arrays (N, M_{l-1}+1), or (N, M_{l-1}) without bias.
    delta: L arrays (N, C, M_l).
    trained: which layers these are, by default all of a network without bias.

    Raises ValueError for arrays of other shapes, or not of one kind.
    """

    f: Array
    h: list[Array]
    delta: list[Array]
    trained: Trained | None = None

    def __post_init__(self) -> None:
        N, C = checked_shape("f", self.f, ("N", "C")).shape
        L = len(self.h) if isinstance(self.h, (list, tuple)) else 1
        checked_list("h", self.h, [(N, "M_in")] * L, self.f, checked_shape)
        checked_list("delta", self.delta, [(N, C, "M")] * L, self.f, checked_shape)
        object.__setattr__(self, "trained", checked_trained(self.trained, L))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes (M_l, M_{l-1}+1) of the weights that the signals belong to."""
        return [(delta.shape[2], h.shape[1]) for h, delta in zip(self.h, self.delta, strict=True)]

    @property
    def P(self) -> int:
        """The number of parameters."""
        return sum(M * k for M, k in self.shapes)

    def weights(self, W: list[Array]) -> list[Array]:
        """The part of W_1, .., W_L that is trained, matrices of `shapes`."""
        return [W[l - 1][:, :k] for l, (_, k) in zip(self.trained.layers, self.shapes, strict=True)]

    def take(self, which: Sequence[int]) -> "Signals":
        """The signals of some layers alone, by their place 0, 1, .. in h: J (N*C, P) has only their columns."""
        h, delta = [self.h[i] for i in which], [self.delta[i] for i in which]
        return replace(self, h=h, delta=delta, trained=self.trained.take(which))

    def above(self, frozen: int | Collection) -> "Signals":
        """The signals of what is trained if some layers, or the output bias, are kept fixed; f is the same.

        With them everything is about the training of the other layers: J (N*C, P) has only their columns, and every
        `Fisher` only their blocks. A fixed output bias takes the last column from h_{L-1}. Raises ValueError where
        `frozen` leaves no layer, or is none of what follows.

        frozen: k, for the first k layers W_1, .., W_k; or a list, tuple, set or range of numbers of layers, from 1 to
            L, and of "output-bias", such as (1, 3) or (2, "output-bias").
        """
        trained = self.trained.above(frozen)
        s = self.take([self.trained.layers.index(l) for l in trained.layers])
        return replace(s, h=without_bias(s.h, s.trained, trained), trained=trained)

    def parts(self, least: float = 0.0, groups: Sequence[Sequence[int]] | None = None) -> list[tuple["Signals", float]]:
        """For each group of layers, default: each layer, the signals of its J / c, and c, a power of two.

        c is 1 but where squares of J or of `least` could leave the range. With c the larger of the entries of J and
        `least` is about 1, and all digits are as before. Raises FloatingPointError where J itself leaves the range.
        """
        largest = array_module(self.f).stack([abs(X).max() for X in (*self.h, *self.delta)])
        sizes = to_device(largest, "cpu").astype(float).reshape(2, -1)
        groups = [[l] for l in range(len(self.h))] if groups is None else groups
        return [self.take(group)._scaled(sizes[:, group].ravel(), least) for group in groups]

    def _scaled(self, sizes: np.ndarray, least: float) -> tuple["Signals", float]:
        """`parts` of all layers, from the largest entries of each h and each delta (2 L,)."""
        L, info = len(self.h), np.finfo(self.f.dtype)
        live = (sizes[:L] > 0) & (sizes[L:] > 0)  # J of the other layers is 0, whatever size their h or delta has
        sizes = np.append(np.where(sizes > 0, sizes, 1), least or 1.0)
        exponents = np.maximum(np.frexp(sizes)[1], info.minexp)  # sizes are below 2^exponents
        if abs(exponents).max() < info.maxexp // 8:
            return self, 1.0
        h, delta, root = exponents[:L], exponents[L : 2 * L], exponents[2 * L]
        top = max([*(h + delta)[live].tolist(), *[int(root)] * bool(least)], default=1)
        if not info.minexp < top < info.maxexp:
            raise FloatingPointError(f"the Jacobian leaves the range of {self.f.dtype}: rescale x or the weights")
        scaled_h = [X * 2.0 ** float(-a) for X, a in zip(self.h, h, strict=True)]
        shifts = np.where(live, h - top, -np.inf)
        scaled_delta = [X * 2.0 ** float(a) for X, a in zip(self.delta, shifts, strict=True)]
        return replace(self, h=scaled_h, delta=scaled_delta), 2.0**top


@dataclass(frozen=True)
class Network:
    """A network, K&O (1). Raises ValueError for arguments that make none.

    widths: (M_0, .., M_L), with the number M_0 of inputs and M_L = C of outputs.
    activation: phi, of all hidden layers.
    sigma_w: the standard deviation (not the variance) of the weights.
    sigma_b: the standard deviation of the biases; there are none when it is 0.
    parameterization: "ntk" (W ~ N(0, 1), the factors in h) or "standard" (W ~ N(0, sigma_w^2 / M_{l-1}),
        b ~ N(0, sigma_b^2), no factors in h).
    """

    widths: tuple[int, ...]
    activation: Activation = relu
    sigma_w: float = 2**0.5
    sigma_b: float = 0.0
    parameterization: str = "ntk"

    def __post_init__(self) -> None:
        try:
            widths = tuple(checked_whole("width", M, 1) for M in self.widths)
        except (TypeError, ValueError):
            widths = ()
        if len(widths) < 2:
            given = self.widths if isinstance(self.widths, (list, tuple)) else shown(self.widths)
            raise ValueError(f"widths is {given}; expected at least two positive integers (M_0, .., M_L)")
        sigma_w = checked_number("sigma_w", self.sigma_w, "a finite number > 0", _is_size)
        sigma_b = checked_number("sigma_b", self.sigma_b, "a finite number >= 0", lambda v: v == 0 or _is_size(v))
        checked_choice("parameterization", self.parameterization, ("ntk", "standard"))
        checked_instance("activation", self.activation, Activation, "an Activation such as refngd.relu")
        for name, value in (("widths", widths), ("sigma_w", sigma_w), ("sigma_b", sigma_b)):
            object.__setattr__(self, name, value)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes (M_l, M_{l-1}+1) of W_1, .., W_L; without bias (M_l, M_{l-1})."""
        return [(M, M_in + bool(self.sigma_b)) for M_in, M in zip(self.widths, self.widths[1:], strict=False)]

    def trained(self, frozen: int | Collection = 0) -> Trained:
        """Which layers are trained if `frozen` is kept fixed, see `Signals.above`. Raises ValueError as it does."""
        L = len(self.shapes)
        return Trained(L, tuple(range(1, L + 1)), (self._bias,) * L).above(frozen)

    def init(self, rng: int | np.random.Generator, dtype: DTypeLike = np.float64) -> list[np.ndarray]:
        """Random weights K&O (2): one `standard_normal` draw per layer, in W_l's shape, on the host.

        Move them with `refngd.to_device`.

        rng: a seed or a generator.
        dtype: float32 weights are the rounded float64 ones.
        """
        dtype, rng = self._checked_draw(dtype, rng)
        W = [rng.standard_normal(shape) for shape in self.shapes]
        if self.parameterization == "standard":
            for w, M in zip(W, self.widths, strict=False):
                w[:, :M] *= self.sigma_w / math.sqrt(M)
                w[:, M:] *= self.sigma_b
        return [w.astype(dtype) for w in W]

    def semi_orthogonal(
        self, rng: int | np.random.Generator, gain: float = 1.0, dtype: DTypeLike = np.float64
    ) -> list[np.ndarray]:
        """Random weights of Huh S.I.3: every W_l, less its bias, is `gain` times a semi-orthogonal matrix; no bias yet.

        All min(M_l, M_{l-1}) singular values of W_l, as stored, are `gain`, its singular vectors uniform (Haar), and
        biases, if there are any, 0. So layer l of "standard", Huh's, multiplies by `gain`; that of "ntk", because of
        the factor in h, by gain sigma_w / sqrt(M_{l-1}). sigma_w and sigma_b enter nowhere else.

        rng: a seed or a generator; one `standard_normal` draw per layer, on the host, of shape (larger, smaller width).
        gain: between tiny / eps and eps max of the dtype, so that all entries that count are normal numbers.
        dtype: float32 weights are the rounded float64 ones.

        Raises ValueError for another dtype or gain.
        """
        dtype, rng = self._checked_draw(dtype, rng)
        info = np.finfo(dtype)
        least, most = float(info.tiny / info.eps), float(info.eps * info.max)
        expected = f"a number in [{least:.3g}, {most:.3g}] for {dtype}"
        gain = checked_number("gain", gain, expected, lambda v: least <= v <= most)
        W = [np.zeros(shape) for shape in self.shapes]
        for w, M in zip(W, self.widths, strict=False):
            w[:, :M] = gain * haar(rng, len(w), M)
        return [w.astype(dtype) for w in W]

    def _checked_draw(self, dtype: DTypeLike, rng: int | np.random.Generator) -> tuple[np.dtype, np.random.Generator]:
        """What to draw weights with, if they fit into the memory."""
        nbytes = 8 * sum(M * k for M, k in self.shapes)
        require_memory(np, nbytes, f"the weights of widths {self.widths}", "take narrower layers")
        return checked_dtype(dtype), checked_rng(rng)

    def forward(self, W: list[Array], x: Array) -> Array:
        """f (N, C). Raises as `signals`.

        W: the weights, like `shapes`.
        x: (N, M_0), the samples.
        """
        self.check(W, x)
        u = x
        for l, w in enumerate(W):
            _, u = self._layer(l, u, w)
        return u

    def signals(self, W: list[Array], x: Array) -> Signals:
        """The signals of a forward and a backward pass.

        W: the weights, like `shapes`.
        x: (N, M_0), the samples.

        Raises ValueError, naming the argument, for wrong shapes, mixed dtypes or devices, N = 0 and non-finite x or W;
        FloatingPointError where signals overflow.
        """
        self.check(W, x)
        u, h = [x], []
        for l, w in enumerate(W):
            h_l, u_next = self._layer(l, u[l], w)
            h.append(h_l)
            u.append(u_next)
        return Signals(u[-1], h, self._backward(W, u), self.trained())

    def _layer(self, l: int, u: Array, w: Array) -> tuple[Array, Array]:
        """h_l and u_{l+1} = h_l W_{l+1}^T from u_l, where phi(u_0) = x."""
        xp = array_module(u)
        N, M = u.shape
        h = xp.empty((N, M + bool(self.sigma_b)), u.dtype)
        h[:, :M] = self._scale(M) * (self.activation.phi(u) if l else u)
        h[:, M:] = self._bias
        with np.errstate(all="ignore"):  # reported below, with the layer's name
            u_next = h @ w.T
        size = float(abs(u_next).max())
        if not math.isfinite(size):  # here, since phi may hide it: relu(-inf) = 0, tanh(inf) = 1
            checked_finite(f"W[{l}]", w)
            raise FloatingPointError(f"u_{l + 1} overflows: rescale x or the weights")
        if size < float(np.finfo(u.dtype).tiny) and bool((_of_size_one(h) @ _of_size_one(w).T).any()):
            raise FloatingPointError(f"u_{l + 1} underflows: rescale x or the weights")
        return h, u_next

    @property
    def _bias(self) -> float:
        return self.sigma_b if self.parameterization == "ntk" else float(self.sigma_b > 0)

    def _scale(self, M: int) -> float:
        return self.sigma_w / math.sqrt(M) if self.parameterization == "ntk" else 1.0

    def _backward(self, W: list[Array], u: list[Array]) -> list[Array]:
        """delta_L, .., delta_1 from the last to the first, in the order of the layers."""
        xp = array_module(u[0])
        (N, C), L = u[-1].shape, len(W)
        delta = [xp.broadcast_to(xp.eye(C, dtype=u[0].dtype), (N, C, C))] * L
        for l in range(L - 1, 0, -1):  # delta[l - 1] is delta_l
            M = u[l].shape[1]
            with np.errstate(all="ignore"):  # reported below
                back = (delta[l].reshape(N * C, -1) @ W[l]).reshape(N, C, -1)[:, :, :M]  # W[l][:, :M] would be copied
                back = back * (self._scale(M) * self.activation.derivative(u[l]))[:, None]
            if not xp.isfinite(back).all():
                raise FloatingPointError(f"delta_{l} overflows: rescale the weights")
            delta[l - 1] = back
        return delta

    def check(self, W: list[Array], x: Array) -> None:
        """Raise ValueError unless W and x (N, M_0) fit this network, and are on one device and of one dtype."""
        self.check_inputs(x)
        checked_list("W", W, self.shapes, x, checked_shape)  # whether finite is asked where it shows

    def check_inputs(self, x: Array) -> None:
        """Raise ValueError unless x is a finite array (N, M_0), float32 or float64, with N >= 1."""
        checked_array("x", x, ("N", self.widths[0]))


def _of_size_one(X: Array) -> Array:
    """X over its largest modulus, so that a product that underflows does not; zeros stay zeros."""
    return X / (float(abs(X).max()) or 1.0)


def _is_size(v: float) -> bool:
    return 1e-100 < v < 1e100  # its square is a float then


def without_bias(h: list[Array], now: Trained, then: Trained) -> list[Array]:
    """The inputs h (.., M_{l-1}+1) of the layers, less the bias columns that they have now, but not then."""
    return [h_l if a == b else h_l[..., :-1] for h_l, a, b in zip(h, now.bias, then.bias, strict=True)]


def checked_trained(trained: Trained | None, n: int) -> Trained:
    """`trained`, if it has n layers; of None all n of a network without bias."""
    trained = Trained(n, tuple(range(1, n + 1)), (0.0,) * n) if trained is None else trained
    checked_instance("trained", trained, Trained, "the Trained of Network.trained()")
    if len(trained.layers) != n:
        raise ValueError(f"trained has the layers {trained.layers}; expected {n} of them")
    return trained


def checked_pair(test: Signals, train: Signals) -> None:
    """Raise ValueError unless both are Signals of finite numbers, and of the same weights."""
    checked_signals("train", train)
    if checked_signals("test", test).shapes != train.shapes:
        raise ValueError(f"test belongs to weights {test.shapes}; expected {train.shapes} as train")
    if test.trained != train.trained:
        raise ValueError(f"test has {test.trained}; expected {train.trained} as train")
    checked_array("test.f", test.f, ("N'", train.f.shape[1]), train.f)


def checked_signals(name: str, s: Signals) -> Signals:
    """`s`, if it is Signals of finite numbers."""
    checked_instance(name, s, Signals, "the Signals of Network.signals(W, x)")
    if not is_finite(s.f, *s.h, *s.delta):
        checked_finite(f"{name}.f", s.f)
        for key, arrays in (("h", s.h), ("delta", s.delta)):
            for l, a in enumerate(arrays):
                checked_finite(f"{name}.{key}[{l}]", a)
    return s
