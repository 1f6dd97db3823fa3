"""`refngd.definitions`, one function an operation. It checks no argument, so the must-fail cases are not for it."""

import numpy as np

from ... import definitions as d

Arrays = dict[str, np.ndarray]


def run(op: str, inputs: Arrays, attrs: dict) -> Arrays:
    """The outputs of an operation. Raises NotImplementedError for those about infinite width and single modes."""
    if op not in OPERATIONS:
        raise NotImplementedError(op)
    dtype = next(iter(inputs.values())).dtype
    return {name: np.asarray(a, dtype) for name, a in OPERATIONS[op](inputs, attrs).items()}


def numbered(prefix: str, arrays, first: int = 1) -> Arrays:
    """{"W_1": .., "W_2": .., ..}."""
    return {f"{prefix}_{l}": a for l, a in enumerate(arrays, first)}


def listed(prefix: str, arrays: Arrays) -> list[np.ndarray]:
    """The inverse of `numbered`."""
    return [arrays[f"{prefix}_{l}"] for l in range(1, 1 + len(arrays)) if f"{prefix}_{l}" in arrays]


def net(attrs: dict) -> d.Net:
    name = attrs["activation"]
    activation = d.shifted_relu(attrs["shift"]) if name == "shifted_relu" else getattr(d, name)
    return d.Net(activation, attrs["sigma_w"], attrs["sigma_b"], attrs.get("parameterization", "ntk"))


def fisher(inputs: Arrays, attrs: dict) -> d.Fisher:
    options = attrs.get("kfac_bias", "augmented"), attrs.get("kfac_last", "identity")
    return d.Fisher(attrs["fisher"], inputs.get("Sigma"), *options)


def power(attrs: dict) -> dict:
    return {"rho": attrs.get("rho", 0.0), "q": attrs.get("q", 1)}


def loss(attrs: dict) -> dict:
    return {"loss": attrs.get("loss", "mse"), "loss_rho": attrs.get("loss_rho", 0.0)}


def trained(inputs: Arrays, attrs: dict, x: str = "x") -> d.Signals:
    return d.signals(net(attrs), listed("W", inputs), inputs[x], attrs.get("frozen", 0))


def signals(inputs, attrs):
    s, frozen = trained(inputs, attrs), attrs.get("frozen", 0)
    return {"f": s.f, **numbered("h", s.h, frozen), **numbered("delta", s.delta, frozen + 1)}


def fisher_matrix(inputs, attrs):
    s = trained(inputs, attrs)
    if "y" in inputs:
        s, _ = d.whiten(s, inputs["y"], **loss(attrs))
    return {"G": d.matrix(s, fisher(inputs, attrs), attrs.get("rho", 0.0))}


def direction(inputs, attrs):
    s, e = d.whiten(trained(inputs, attrs), inputs["y"], **loss(attrs))
    return numbered("dW", d.direction(s, e, fisher(inputs, attrs), **power(attrs)), attrs.get("frozen", 0) + 1)


def coefficient(inputs, attrs):
    test, train = (trained(inputs, attrs, x) for x in ("x_test", "x"))
    return {"Theta_bar": d.coefficient(test, train, fisher(inputs, attrs), **power(attrs))}


def training(inputs, attrs):
    problem = net(attrs), listed("W", inputs), inputs["x"], inputs["y"], fisher(inputs, attrs)
    options = {**power(attrs), **loss(attrs), "frozen": attrs.get("frozen", 0)}
    W, losses = d.training(*problem, attrs["eta"], attrs["steps"], **options)
    return {**numbered("W", W), "loss": losses}


def prediction(inputs, attrs):
    test, train = (trained(inputs, attrs, x) for x in ("x_test", "x"))
    problem = test, train, inputs["y"], fisher(inputs, attrs)
    f_train, f_test = d.prediction(*problem, attrs["eta"], attrs["t"], **power(attrs))
    return {"f_train": f_train, "f_test": f_test}


def cross_entropy(inputs, attrs):
    f, y, rho = inputs["f"], inputs["y"], attrs.get("loss_rho", 0.0)
    g, R = d.residual(f, y, "cross-entropy"), d.hessian_root(f)
    change = d.power_of_root(R, 1, rho, 1) @ (R @ g[:, :, None])  # (Lambda + rho I)^{-1} Lambda g
    return {
        "value": d.loss_value(f, y, "cross-entropy"),
        "residual": g,
        "hessian": R.mT @ R,
        "velocity": -attrs.get("alpha", 1.0) * change[:, :, 0],
    }


def statistics(inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    w_star = inputs["w_star"]
    white = np.eye(w_star.shape[1], dtype=w_star.dtype)
    return w_star, d.covariance_root(inputs["Sigma_x"]) if "Sigma_x" in inputs else white


def rule(attrs: dict) -> dict:
    return {key: attrs[key] for key in ("q", "block", "rho", "clip", "regularised") if key in attrs}


def deep_linear(inputs, attrs):
    w, dw, (w_star, S) = listed("w", inputs), listed("dw", inputs), statistics(inputs)
    E, J = d.displacement(w, w_star, S), d.linear_jacobian(w, S)
    outputs = {"loss": d.linear_loss(w, w_star, S), "K": J @ J.T, **numbered("g", d.linear_pull(w, E, S))}
    if dw:
        outputs |= numbered("gn", d.linear_pull(w, d.linear_push(w, dw, S), S))
        outputs |= numbered("hv", d.hessian_product(w, dw, w_star, S))
    return {**outputs, **numbered("c", d.conserved(w))}


def deep_linear_update(inputs, attrs):
    return numbered("u", d.update(listed("w", inputs), *statistics(inputs), **rule(attrs)))


def deep_linear_step(inputs, attrs):
    problem = listed("w", inputs), *statistics(inputs), attrs["eta"], attrs["steps"]
    w, losses = d.descent(*problem, **rule(attrs))
    return {**numbered("w", w), "loss": losses, **numbered("c", d.conserved(w))}


OPERATIONS = {
    "forward": lambda inputs, attrs: {"f": trained(inputs, attrs).f},
    "signals": signals,
    "jacobian": lambda inputs, attrs: {"J": d.jacobian(trained(inputs, attrs))},
    "push": lambda inputs, attrs: {"Jv": d.push(trained(inputs, attrs), listed("dW", inputs))},
    "pull": lambda inputs, attrs: numbered("dW", d.pull(trained(inputs, attrs), inputs["v"])),
    "ntk": lambda inputs, attrs: {"Theta": d.ntk(trained(inputs, attrs, "x_test"), trained(inputs, attrs))},
    "fisher_matrix": fisher_matrix,
    "direction": direction,
    "coefficient": coefficient,
    "training": training,
    "prediction": prediction,
    "cross_entropy": cross_entropy,
    "inverse_power": lambda inputs, attrs: {"power": d.inverse_power(inputs["K"], **power(attrs))},
    "deep_linear": deep_linear,
    "deep_linear_update": deep_linear_update,
    "deep_linear_step": deep_linear_step,
}
