"""refngd itself: every operation of the vectors in a few lines.

    run("direction", {"W_1": .., "W_2": .., "x": .., "y": ..}, {"activation": "tanh", "fisher": "KFAC", ..})

`Engine` builds the networks; `suspects` derives from it to ask what a wrong one would return.
"""

import math
from itertools import count, islice

import numpy as np

import refngd as rn

from ... import deep_linear, modes, preprocess
from ...activations import Activation, named
from ...linear_training import descend, flow

Arrays = dict[str, np.ndarray]


def run(op: str, inputs: Arrays, attrs: dict) -> Arrays:
    """The outputs of an operation; for `direction` and `deep_linear_update` the intermediates that exist as well."""
    return Engine()(op, inputs, attrs)


def numbered(prefix: str, arrays, first: int | list[int] = 1) -> Arrays:
    """{"W_1": .., "W_2": .., ..} from the `first` number on, or with a list of numbers."""
    return {f"{prefix}_{l}": a for l, a in zip(count(first) if isinstance(first, int) else first, arrays, strict=False)}


def listed(prefix: str, arrays: Arrays) -> list[np.ndarray]:
    """The inverse of `numbered`."""
    return [arrays[f"{prefix}_{l}"] for l in range(1, 1 + len(arrays)) if f"{prefix}_{l}" in arrays]


def activation_of(attrs: dict) -> Activation:
    name = attrs["activation"]
    return named(f"{name}:{attrs['shift']!r}" if name == "shifted_relu" else name)


def loss_of(attrs: dict) -> rn.Loss:
    if attrs.get("loss", "mse") == "mse":
        return rn.mse
    return rn.CrossEntropy(attrs["loss_rho"]) if "loss_rho" in attrs else rn.CrossEntropy()


def power_of(attrs: dict) -> dict:
    return given(attrs, "rho", "q")


SETTINGS = "sigma_w", "sigma_b", "parameterization"


def given(attrs: dict, *names: str) -> dict:
    """These attributes, less those that are absent: the defaults of refngd stand for them."""
    return {name: attrs[name] for name in names if name in attrs}


class Engine:
    """One method an operation, called with its inputs and attributes."""

    _network = rn.Network

    def __call__(self, op: str, inputs: Arrays, attrs: dict) -> Arrays:
        if op not in OPERATIONS:
            raise NotImplementedError(op)
        dtype = next((a.dtype for a in inputs.values()), np.dtype(float))
        return {name: np.asarray(a, dtype) for name, a in getattr(self, op)(inputs, attrs).items()}

    # ------------------------------------------------------------------------------------------------ networks

    def _net(self, attrs: dict, widths) -> rn.Network:
        sigmas = attrs["sigma_w"], attrs["sigma_b"]
        return self._network(tuple(widths), activation_of(attrs), *sigmas, attrs.get("parameterization", "ntk"))

    def _fisher(self, attrs: dict, inputs: Arrays) -> rn.Fisher:
        name, options = attrs["fisher"], given(attrs, "rcond")
        if name == "KFAC":
            options |= {key: attrs[f"kfac_{key}"] for key in ("bias", "last", "damping") if f"kfac_{key}" in attrs}
        return rn.Layerwise(inputs["Sigma"]) if name == "Layerwise" else getattr(rn, name)(**options)

    def _weighted(self, inputs: Arrays, attrs: dict) -> tuple[rn.Network, list[np.ndarray]]:
        W = listed("W", inputs)
        return self._net(attrs, [inputs["x"].shape[1], *(len(w) for w in W)]), W

    def _trained(self, inputs: Arrays, attrs: dict, x: str = "x") -> rn.Signals:
        net, W = self._weighted(inputs, attrs)
        return net.signals(W, inputs[x]).above(attrs.get("frozen", 0))

    def forward(self, inputs, attrs):
        net, W = self._weighted(inputs, attrs)
        return {"f": net.forward(W, inputs["x"])}

    def signals(self, inputs, attrs):
        s = self._trained(inputs, attrs)
        layers = s.trained.layers
        return {"f": s.f, **numbered("h", s.h, [l - 1 for l in layers]), **numbered("delta", s.delta, layers)}

    def flatten(self, inputs, attrs):
        W = listed("W", inputs)
        net = self._net(attrs, [W[0].shape[1] - (attrs["sigma_b"] > 0), *map(len, W)])
        return {"theta": rn.flatten(W), **numbered("V", rn.unflatten(net, inputs["theta"]))}

    def centred(self, inputs, attrs):
        s = rn.losses.centred(self._trained(inputs, attrs))
        return {"f": s.f, **numbered("h", s.h, 0), **numbered("delta", s.delta)}

    def init(self, inputs, attrs):
        Z = listed("Z", inputs)
        net = rn.Network((Z[0].shape[1] - (attrs.get("sigma_b", 0) > 0), *map(len, Z)), **given(attrs, *SETTINGS))
        return numbered("W", net.init(_Draws(Z)))

    def semi_orthogonal(self, inputs, attrs):
        net = rn.Network(tuple(attrs["widths"]), **given(attrs, *SETTINGS))
        return numbered("W", net.semi_orthogonal(_Draws(listed("Z", inputs)), **given(attrs, "gain")))

    def jacobian(self, inputs, attrs):
        return {"J": rn.jacobian(self._trained(inputs, attrs))}

    def push(self, inputs, attrs):
        return {"Jv": rn.push(self._trained(inputs, attrs), listed("dW", inputs))}

    def pull(self, inputs, attrs):
        return numbered("dW", rn.pull(self._trained(inputs, attrs), inputs["v"]))

    def ntk(self, inputs, attrs):
        return {"Theta": rn.ntk(self._trained(inputs, attrs, "x_test"), self._trained(inputs, attrs))}

    # ------------------------------------------------------------------------------------- approximations

    def fisher_matrix(self, inputs, attrs):
        s = self._trained(inputs, attrs)
        if "y" in inputs:
            s, _ = loss_of(attrs).whiten(s, inputs["y"])
        if attrs["fisher"] == "Exact" and "rho" not in attrs:
            return {"G": rn.fisher_information(s)}
        return {"G": self._fisher(attrs, inputs).matrix(s, *([attrs["rho"]] if "rho" in attrs else []))}

    def direction(self, inputs, attrs):
        self.training(inputs, {**attrs, "eta": 1.0, "steps": 0})  # it checks y, as no other function does
        s, loss, fisher = self._trained(inputs, attrs), loss_of(attrs), self._fisher(attrs, inputs)
        white, e = loss.whiten(s, inputs["y"])
        layers = s.trained.layers
        outputs = {
            **numbered("dW", fisher.direction(white, e, **power_of(attrs)), layers),
            **self.signals(inputs, attrs),
            "e": loss.residual(s.f, inputs["y"]),
        }
        if loss == rn.mse:  # for others refngd has another root R_n of H_n than the intermediates have
            kernels = rn.empirical_kernels(s, s)
            outputs |= {
                **numbered("A", kernels.A, [l - 1 for l in layers]),
                **numbered("B", kernels.B, layers),
                **numbered("Theta", kernels.Theta, layers),
                **numbered("lambda", _multipliers(fisher, kernels.Theta, e, attrs), layers),
            }
        return outputs

    def coefficient(self, inputs, attrs):
        test, train = self._trained(inputs, attrs, "x_test"), self._trained(inputs, attrs)
        if "y" not in inputs:
            return {"Theta_bar": self._fisher(attrs, inputs).coefficient(test, train, **power_of(attrs))}
        white, _ = loss_of(attrs).whiten(train, inputs["y"])
        Theta_bar = self._fisher(attrs, inputs).coefficient(test, white, **power_of(attrs))  # of e = R^{-T} g
        R, _ = rn.losses.hessian_root(train.f, inputs["y"], attrs["loss_rho"])
        per_sample = Theta_bar.reshape(-1, *train.f.shape).transpose(1, 2, 0)  # (N, C, N'C)
        return {"Theta_bar": np.linalg.solve(R, per_sample).transpose(2, 0, 1).reshape(Theta_bar.shape)}

    def direction_truncated(self, inputs, attrs):
        s = self._trained(inputs, attrs)
        dW = self._fisher(attrs, inputs).direction(s, rn.mse.residual(s.f, inputs["y"]), **power_of(attrs))
        return numbered("dW", dW, s.trained.layers)

    def empirical_coefficient(self, inputs, attrs):
        net, W = self._weighted(inputs, attrs)
        test, train = (net.signals(W, inputs[x]) for x in ("x_test", "x"))
        kernels = [rn.empirical_kernels(s, train).above(attrs.get("frozen", 0)) for s in (test, train)]
        return {"Theta_bar": self._fisher(attrs, inputs).kernel_coefficient(*kernels, **power_of(attrs))}

    def empirical_kernels(self, inputs, attrs):
        kernels = rn.empirical_kernels(self._trained(inputs, attrs, "x_test"), self._trained(inputs, attrs))
        return {**numbered("A", kernels.A, 0), **numbered("B", kernels.B)}

    def alpha(self, inputs, attrs):
        net = self._net(attrs, attrs["widths"])
        options = {name: given[name] for given, name in ((attrs, "frozen"), (inputs, "x")) if name in given}
        alpha = self._fisher(attrs, inputs).alpha(net, attrs["n"], **options)
        if alpha is None:
            raise ValueError("there is no alpha with these widths: Theta_bar is not alpha I")
        return {"alpha": alpha}

    def prediction(self, inputs, attrs):
        test, train = self._trained(inputs, attrs, "x_test"), self._trained(inputs, attrs)
        fisher, t = self._fisher(attrs, inputs), attrs["t"]
        own, cross = (fisher.coefficient(s, train, **power_of(attrs)) for s in (train, test))
        dynamics = rn.Dynamics(own, train.f, inputs["y"], attrs["eta"])
        return {"f_train": dynamics.predict(own, train.f, t), "f_test": dynamics.predict(cross, test.f, t)}

    def dynamics(self, inputs, attrs):
        dynamics = rn.Dynamics(inputs["Theta_bar"], inputs["f"], inputs["y"], attrs["eta"])
        f_train = dynamics.predict(inputs["Theta_bar"], inputs["f"], attrs["t"])
        return {"f_train": f_train, "f_test": dynamics.predict(inputs["cross"], inputs["f_test"], attrs["t"])}

    def predictive(self, inputs, attrs):
        y, t = inputs["y"], attrs["t"]
        dynamics = rn.Dynamics(inputs["Theta_bar"], 0 * y, y, attrs["eta"])
        mean = dynamics.predict(inputs["cross"], np.zeros((len(inputs["cross"]), y.shape[1]), y.dtype), t)
        return {"mean": mean, "covariance": dynamics.covariance(inputs["cross"], inputs["K"], t)}

    def gaussian_outputs(self, inputs, attrs):
        return {"f": rn.gaussian_outputs(inputs["K"], inputs["Z"].shape[1], _Draws([inputs["Z"]]))}

    def isotropy(self, inputs, attrs):
        return {**vars(rn.isotropy(inputs["Theta_bar"])), "rate": rn.optimal_rate(inputs["Theta_bar"])}

    def linearized(self, inputs, attrs):
        return {"f": rn.linearized(self._trained(inputs, attrs), listed("W", inputs), listed("V", inputs))}

    def linearized_training(self, inputs, attrs):
        sets = [self._trained(inputs, attrs, x) for x in ("x", "x_test")]
        start = sets, inputs["y"], self._fisher(attrs, inputs), attrs["eta"]
        options = given(attrs, "rho", "q") | ({"loss": loss_of(attrs)} if "loss" in attrs else {})
        states = rn.linearized_training(*start, **options)
        return dict(zip(("f_train", "f_test"), next(islice(states, attrs["steps"], None)), strict=True))

    def training(self, inputs, attrs):
        return self._train(inputs, attrs)

    def batch_training(self, inputs, attrs):
        order = [np.rint(epoch).astype(int) for epoch in inputs["order"]]
        return self._train(inputs, attrs, batch=attrs["batch"], rng=_Orders(order))

    def _train(self, inputs: Arrays, attrs: dict, **batches) -> Arrays:
        net, W = self._weighted(inputs, attrs)
        options = given(attrs, "rho", "q", "frozen") | ({"loss": loss_of(attrs)} if "loss" in attrs else {})
        start = net, W, inputs["x"], inputs["y"], self._fisher(attrs, inputs)
        steps = list(rn.train(*start, attrs["eta"], attrs["steps"], **options, **batches))
        return {**numbered("W", steps[-1].W), "loss": [step.loss for step in steps]}

    def cross_entropy_flow(self, inputs, attrs):
        t = attrs["t"]
        flow = rn.CrossEntropyFlow(inputs["f"], inputs["y"], **given(attrs, "eta", "alpha"))
        f_test = flow.predict(inputs["cross"], inputs["f_test"], t)
        return {"p": flow.probabilities(t), "R": flow.accumulated(t), "f_test": f_test}

    def cross_entropy(self, inputs, attrs):
        loss, f, y = loss_of({**attrs, "loss": "cross-entropy"}), inputs["f"], inputs["y"]
        loss.check(y)
        return {
            "value": loss.value(f, y),
            "residual": loss.residual(f, y),
            "hessian": rn.losses.output_hessian(f),
            "velocity": loss.velocity(f, y, **given(attrs, "alpha")),
        }

    def inverse_power(self, inputs, attrs):
        return {"power": rn.inverse_power(inputs["K"], **power_of(attrs))}

    # ------------------------------------------------------------------------------------- infinite width

    def _wide(self, inputs: Arrays, attrs: dict) -> rn.Network:
        return self._net(attrs, [inputs["x"].shape[1]] + [1] * attrs["depth"])

    def kernels(self, inputs, attrs):
        net, x = self._wide(inputs, attrs), inputs["x"]
        x_test = inputs.get("x_test", x)
        kernels = rn.analytic_kernels(net, x_test, x)
        theta = {"Theta": rn.analytic_ntk(net, x_test, x)}
        return {**numbered("A", kernels.A, 0), **numbered("B", kernels.B), **theta}

    def kernel_coefficient(self, inputs, attrs):
        net, x_test, x = self._wide(inputs, attrs), inputs["x_test"], inputs["x"]
        cross, train = rn.analytic_kernels(net, x_test, x), rn.analytic_kernels(net, x, x)
        return {"Theta_bar": self._fisher(attrs, inputs).kernel_coefficient(cross, train, **power_of(attrs))}

    def wide_training(self, inputs, attrs):
        net, x_test, x, y = self._wide(inputs, attrs), inputs["x_test"], inputs["x"], inputs["y"]
        dynamics = rn.Dynamics(rn.analytic_ntk(net, x, x), 0 * y, y, attrs["eta"])
        f0 = np.zeros((len(x_test), y.shape[1]), y.dtype)
        return {"f_test": dynamics.predict(rn.analytic_ntk(net, x_test, x), f0, attrs["t"])}

    def order_parameters(self, inputs, attrs):
        net = self._net(attrs, [attrs.get("M_0", 1)] + [1] * attrs["depth"])
        return {"q": rn.order_parameters(net, **given(attrs, "norm"))}

    def gamma(self, inputs, attrs):
        return {"gamma": activation_of(attrs).gamma(attrs["q"])}

    def averages(self, inputs, attrs):
        phi, a = activation_of(attrs), inputs["a"]
        sides = phi.features(a), phi.features(inputs["b"])
        if "r" in inputs:
            A, Xi = phi.dual(inputs["r"], *sides)
        else:
            A, Xi = phi.dual(np.cos(inputs["theta"]), *sides, np.sin(inputs["theta"]))
        squares, slopes = (
            list(map(f, (a.astype(float) ** 2).tolist())) for f in (phi.mean_square, phi.mean_square_derivative)
        )
        return {"A": A, "Xi": Xi, "mean_square": squares, "mean_square_derivative": slopes}

    def angles(self, inputs, attrs):
        phi, theta = activation_of(attrs), inputs["theta"]
        gap, square = phi.gap(np.cos(theta), np.sin(theta), phi.features(inputs["a"]), phi.features(inputs["b"]))
        return {"gap": gap, "square": square}

    def forster(self, inputs, attrs):
        Y = preprocess.unit_norm(inputs["x"] @ preprocess.forster(inputs["x"]))
        return {"gram": Y @ Y.T}

    def unit_norm(self, inputs, attrs):
        return {"x": preprocess.unit_norm(inputs["x"])}

    def standardise(self, inputs, attrs):
        return {"x": preprocess.standardise(inputs["x"], inputs.get("x_train"))}

    # --------------------------------------------------------------------------------- deep linear networks

    def deep_linear(self, inputs, attrs):
        w, data, dw = listed("w", inputs), statistics(inputs), listed("dw", inputs)
        outputs = {
            "loss": deep_linear.loss(w, data),
            **numbered("g", deep_linear.gradient(w, data)),
            "K": deep_linear.kernel(w, data.S),
            **numbered("c", deep_linear.conserved(w)),
        }
        if dw:
            outputs |= numbered("gn", deep_linear.gauss_newton_product(w, dw, data.S))
            outputs |= numbered("hv", deep_linear.hessian_product(w, dw, data))
        return outputs

    def deep_linear_update(self, inputs, attrs):
        w, data, rule = listed("w", inputs), statistics(inputs), rule_of(attrs)
        L, R = deep_linear.partial_products(w, data.S)
        outputs = {
            **numbered("u", rule.update(w, data)),
            "E": deep_linear.displacement(w, data),
            **numbered("L", L),
            **numbered("R", R),
            "K": deep_linear.kernel(w, data.S),
        }
        if not rule.block:
            outputs["Lambda"] = deep_linear.multiplier(w, data, rule.q, rule.rho)
        return outputs

    def deep_linear_truncated(self, inputs, attrs):
        return numbered("u", rule_of(attrs).update(listed("w", inputs), statistics(inputs)))

    def multiplier(self, inputs, attrs):
        options = given(attrs, "q", "rho", "rcond")
        return {"Lambda": deep_linear.multiplier(listed("w", inputs), statistics(inputs), **options)}

    def deep_linear_step(self, inputs, attrs):
        w, data = listed("w", inputs), statistics(inputs)
        states = list(descend(w, data, rule_of(attrs), attrs["eta"], attrs["steps"]))
        after = states[-1].w
        return {
            **numbered("w", after),
            "loss": [state.loss for state in states],
            **numbered("c", deep_linear.conserved(after)),
        }

    def flow(self, inputs, attrs):
        inputs = {name: a.astype(float) for name, a in inputs.items()}  # in which it integrates
        w, data, times = listed("w", inputs), statistics(inputs), inputs["times"].tolist()
        states = flow(w, data, rule_of(attrs), times, **given(attrs, "eta", "converged"), tolerance=1e-13)
        after = states[-1].w
        losses = [state.loss for state in states]
        outputs = {**numbered("w", after), "loss": losses, **numbered("c", deep_linear.conserved(after))}
        return outputs | ({"t": states[-1].t} if "converged" in attrs else {})

    def statistics(self, inputs, attrs):
        data = deep_linear.Statistics.of(inputs["x"], inputs["y"])
        return {"w_star": data.w_star, "Sigma_x": data.S @ data.S.T, "const": data.const}

    def sample_loss(self, inputs, attrs):
        w, data = listed("w", inputs), deep_linear.Statistics.of(inputs["x"], inputs["y"])
        return {"loss": deep_linear.loss(w, data), **numbered("g", deep_linear.gradient(w, data))}

    def null_update(self, inputs, attrs):
        return numbered("dw", deep_linear.null_update(listed("w", inputs), listed("m", inputs)))

    def euler_drift(self, inputs, attrs):
        u = deep_linear.pull(listed("w", inputs), inputs["Lambda"])
        return {**numbered("u", u), **numbered("drift", deep_linear.euler_drift(u, attrs["h"]))}

    # ----------------------------------------------------------------------------------------------- modes

    def mode_velocity(self, inputs, attrs):
        s, s_star = inputs["s"], inputs["s_star"]
        if "eps" in attrs:
            velocity = modes.regularised(s, s_star, **given(attrs, "eps", "eta"))
        else:
            velocity = modes.velocity(s, s_star, **given(attrs, "q", "block", "eta"))
        return {"velocity": velocity, "invariants": modes.invariants(s, **given(attrs, "q", "block"))}

    def mode_speed(self, inputs, attrs):
        s, s_star, options = inputs["s"], inputs["s_star"], given(attrs, "q", "eta")
        product = (modes.jacobian(s) * modes.velocity(s, s_star, **options)).sum(0)
        return {"speed": modes.speed(s, s_star, **options), "product": product}

    def mode_map_velocity(self, inputs, attrs):
        return {"velocity": modes.map_velocity(inputs["s_bar"], inputs["s_star"], **given(attrs, "p", "eta_bar"))}

    def mode_unbalanced(self, inputs, attrs):
        return {"s": modes.unbalanced(inputs["t"], inputs["s"], inputs["s_star"], **given(attrs, "q", "eta"))}

    def mode_escape(self, inputs, attrs):
        return {"t": modes.escape_time(inputs["s_star"], inputs["s0"], **given(attrs, "p", "eta_bar"))}

    def mode_solution(self, inputs, attrs):
        problem = inputs["t"], inputs["s_star"], inputs["s0"]
        return {"s_bar": modes.solution(*problem, **given(attrs, "p", "eta_bar"))}

    def mode_time(self, inputs, attrs):
        problem = inputs["fraction"], inputs["s_star"], inputs["s0"]
        return {"t": modes.time_to(*problem, **given(attrs, "p", "eta_bar"))}

    def mode_exponents(self, inputs, attrs):
        d, q = attrs["d"], attrs["q"]
        rates = modes.effective_depth(d, q), modes.calibrated_rate(attrs.get("eta", 1.0), d, q)
        return dict(zip(("p", "d_eff", "eta_bar"), (modes.exponent(d, q), *rates), strict=True))


OPERATIONS = [name for name in vars(Engine) if not name.startswith("_")]


class _Orders(np.random.Generator):
    """Permutations that are given, where others are drawn."""

    def __init__(self, orders: list[np.ndarray]) -> None:
        super().__init__(np.random.PCG64())
        self.orders = iter(orders)

    def permutation(self, n: int) -> np.ndarray:
        return next(self.orders)


class _Draws(np.random.Generator):
    """Normal numbers that are given, where others are drawn."""

    def __init__(self, Z: list[np.ndarray]) -> None:
        super().__init__(np.random.PCG64())
        self.Z = iter(Z)

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        Z = next(self.Z)
        if Z.shape != tuple(shape):
            raise ValueError(f"Z has shape {Z.shape}; expected {shape}")
        return Z.astype(float)


def statistics(inputs: Arrays) -> deep_linear.Statistics:
    if "Sigma_x" not in inputs:
        return deep_linear.Statistics(inputs["w_star"])
    return deep_linear.Statistics.with_covariance(inputs["w_star"], inputs["Sigma_x"])


def rule_of(attrs: dict) -> deep_linear.Rule:
    return deep_linear.Rule(**given(attrs, "q", "block", "rho", "clip", "regularised", "rcond"))


def _multipliers(fisher: rn.Fisher, Theta: list[np.ndarray], e: np.ndarray, attrs: dict) -> list[np.ndarray]:
    """lambda_l (N, C) where blocks are layers or all of them, from the kernels alone."""
    rho, q = attrs.get("rho", 0.0), attrs.get("q", 1)
    if not isinstance(fisher, rn.Exact) or isinstance(fisher, rn.BlockTridiagonal) or math.isinf(q):
        return []
    merged = [sum(Theta)] * len(Theta) if type(fisher) is rn.Exact else Theta
    return [(rn.inverse_power(T, rho, q) @ e.ravel()).reshape(e.shape) for T in merged]
