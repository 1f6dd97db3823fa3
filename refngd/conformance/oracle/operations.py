"""The operations by name: (inputs, attrs, full) -> (outputs, intermediates), and the condition of the Gram route."""

from mpmath import mp

from . import fisher, network
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
    return {"Theta_bar": fisher.coefficient(Approximation.of(attrs, inputs), test, train)}, {}


def gram_of_fisher(inputs, attrs):
    """Of operations that invert G."""
    _, _, s = trained(inputs, attrs)
    delta = s.delta
    if attrs.get("loss", "mse") != "mse":
        e, H = fisher.loss_terms(attrs, s.f, inputs["y"])
        delta = fisher.whitened(s, H, e)[1]
    return fisher.worst_gram(Approximation.of(attrs, inputs), s, delta)


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
}
GRAMS = {"direction": gram_of_fisher, "coefficient": gram_of_fisher}
SYMMETRIC = ("K", "Sigma", "Sigma_x")
FALLBACK = {"direction": gram_of_jacobian, "coefficient": gram_of_jacobian}
