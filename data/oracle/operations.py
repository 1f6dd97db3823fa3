"""The operations by name: (inputs, attrs, full) -> (outputs, intermediates), and the condition of the Gram route."""

from mpmath import mp

from . import draws, dynamics, fisher, kernels, linear, modes, network
from . import linalg as la
from .fisher import Approximation, named, trained, weights_of
from .network import Net


def forward(inputs, attrs, full):
    return {"f": network.forward(Net.of(attrs), weights_of(inputs), inputs["x"])}, {}


def signals(inputs, attrs, full):
    _, _, s = trained(inputs, attrs)
    return {"f": s.f, **named("h", s.h, 0), **named("delta", s.delta, 1)}, {}


def jacobian(inputs, attrs, full):
    return {"J": trained(inputs, attrs)[2].J}, {}


def push(inputs, attrs, full):
    return {"Jv": fisher.push(trained(inputs, attrs)[2], weights_of(inputs, "dW_"))}, {}


def pull(inputs, attrs, full):
    return named("dW", fisher.pull(trained(inputs, attrs)[2], inputs["v"]), 1), {}


def ntk(inputs, attrs, full):
    train, test = (trained(inputs, attrs, x)[2] for x in ("x", "x_test"))
    identity = Approximation("Identity", mp.mpf(0), mp.mpf(1))
    return {"Theta": fisher.coefficient(identity, test, train)}, {}


def fisher_matrix(inputs, attrs, full):
    _, _, s = trained(inputs, attrs)
    H = fisher.loss_terms(attrs, s.f, inputs["y"])[1] if "y" in inputs else fisher.unit_hessians(s)
    return {"G": fisher.matrix(Approximation.of(attrs, inputs), s, H)}, {}


def coefficient(inputs, attrs, full):
    train, test = (trained(inputs, attrs, x)[2] for x in ("x", "x_test"))
    H = fisher.loss_terms(attrs, train.f, inputs["y"])[1] if "y" in inputs else None
    return {"Theta_bar": fisher.coefficient(Approximation.of(attrs, inputs), test, train, H)}, {}


def empirical_kernels(inputs, attrs, full):
    train, test = (trained(inputs, attrs, x)[2] for x in ("x", "x_test"))
    A = [la.matmul(h, la.transpose(k)) for h, k in zip(test.h, train.h, strict=True)]
    rows = zip(*([fisher.rows_of(d) for d in s.delta] for s in (test, train)), strict=True)
    return {**named("A", A, 0), **named("B", [la.matmul(b, la.transpose(d)) for b, d in rows], 1)}, {}


def flatten(inputs, attrs, full):
    """theta of W_1 .. W_L, and V_1 .. V_L of the input theta."""
    W = weights_of(inputs)
    V = network.layers(inputs["theta"], [(len(w), len(w[0])) for w in W])
    return {"theta": network.flat(W), **named("V", V, 1)}, {}


def centred(inputs, attrs, full):
    """The signals less their mean over the outputs."""
    s = trained(inputs, attrs)[2]
    f = [less_mean(row) for row in s.f]
    delta = [[la.transpose([less_mean(row) for row in la.transpose(d_n)]) for d_n in d] for d in s.delta]
    return {"f": f, **named("h", s.h, 0), **named("delta", delta, 1)}, {}


def less_mean(row):
    return [v - mp.fsum(row) / len(row) for v in row]


def linearized(inputs, attrs, full):
    """f_0 + J_0 (theta - theta_0), with theta of the weights V_l and theta_0 of W_l: (S.23)."""
    _, W, s = trained(inputs, attrs)
    change = fisher.push(s, [la.add(v, w, -1) for v, w in zip(weights_of(inputs, "V_"), W, strict=True)])
    return {"f": la.add(s.f, change)}, {}


def gram_of_fisher(inputs, attrs):
    """Of operations that invert G."""
    _, _, s = trained(inputs, attrs)
    delta, H = s.delta, fisher.unit_hessians(s)
    if attrs.get("loss", "mse") != "mse":
        e, H = fisher.loss_terms(attrs, s.f, inputs["y"])
        delta = fisher.whitened(s, H, e)[1]
    return fisher.worst_gram(Approximation.of(attrs, inputs), s, delta, H)


def gram_of_kept(inputs, attrs):
    """The most that singular values above rcond times the largest allow."""
    return mp.mpf(attrs["rcond"]) ** -2


def gram_of_jacobian(inputs, attrs):
    """What stands for kappa where that is infinite."""
    return fisher.range_condition(trained(inputs, attrs)[2])


OPERATIONS = {
    "forward": forward,
    "signals": signals,
    "jacobian": jacobian,
    "push": push,
    "pull": pull,
    "ntk": ntk,
    "fisher_matrix": fisher_matrix,
    "direction": fisher.direction,
    "coefficient": coefficient,
    "alpha": dynamics.alpha,
    "prediction": dynamics.prediction,
    "training": dynamics.training,
    "kernels": kernels.kernels,
    "kernel_coefficient": kernels.kernel_coefficient,
    "wide_training": dynamics.wide_training,
    "order_parameters": kernels.order,
    "gamma": kernels.gamma,
    "averages": kernels.averages,
    "angles": kernels.angles,
    "cross_entropy": dynamics.cross_entropy,
    "inverse_power": dynamics.inverse_power,
    "forster": dynamics.forster,
    "deep_linear": linear.deep_linear,
    "deep_linear_update": linear.deep_linear_update,
    "deep_linear_step": linear.deep_linear_step,
    "mode_velocity": modes.mode_velocity,
    "mode_solution": modes.mode_solution,
    "mode_time": modes.mode_time,
    "mode_exponents": modes.mode_exponents,
    "empirical_kernels": empirical_kernels,
    "linearized": linearized,
    "linearized_training": dynamics.linearized_training,
    "batch_training": dynamics.batch_training,
    "dynamics": dynamics.dynamics,
    "isotropy": dynamics.isotropy,
    "cross_entropy_flow": dynamics.cross_entropy_flow,
    "standardise": dynamics.standardise,
    "statistics": linear.statistics,
    "flow": linear.flow,
    "null_update": linear.null_update,
    "euler_drift": linear.euler_drift,
    "mode_speed": modes.mode_speed,
    "mode_escape": modes.mode_escape,
    "mode_map_velocity": modes.mode_map_velocity,
    "mode_unbalanced": modes.mode_unbalanced,
    "unit_norm": dynamics.unit_norm,
    "init": draws.init,
    "semi_orthogonal": draws.semi_orthogonal,
    "gaussian_outputs": draws.gaussian_outputs,
    "predictive": draws.predictive,
    "centred": centred,
    "flatten": flatten,
    "direction_truncated": fisher.direction_truncated,
    "deep_linear_truncated": linear.deep_linear_truncated,
    "multiplier": linear.multiplier,
    "sample_loss": linear.sample_loss,
    "empirical_coefficient": fisher.empirical_coefficient,
}
SYMMETRIC = ("K", "Sigma", "Sigma_x", "Theta_bar")
APPROXIMATE = ("direction", "coefficient", "prediction", "training", "batch_training", "linearized_training")
LINEAR = ("deep_linear_update", "deep_linear_step", "flow")
GRAMS = {
    **dict.fromkeys((*APPROXIMATE, "empirical_coefficient"), gram_of_fisher),
    "kernel_coefficient": kernels.worst_gram,
    "forster": dynamics.gram_of_inputs,
    **dict.fromkeys((*LINEAR, "multiplier"), linear.gram_of_map),
    **dict.fromkeys(("direction_truncated", "deep_linear_truncated"), gram_of_kept),
    "sample_loss": dynamics.gram_of_inputs,
}
FALLBACK = {
    **dict.fromkeys(APPROXIMATE, gram_of_jacobian),
    "inverse_power": dynamics.range_of_power,
    **dict.fromkeys(LINEAR, linear.range_of_map),
}
