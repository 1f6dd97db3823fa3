"""Natural gradient descent with exact and approximate Fisher matrices, in plain NumPy or CuPy.

Karakida & Osawa (2020), "K&O" in all docstrings, and Huh (2020): `deep_linear`, `linear_training`, `modes`.
README.md has ten lines that use each, refngd/README.md the notation, and refngd/THEORY.md the mathematics.
"""

from . import deep_linear, linear_training, modes
from .activations import Activation, erf, linear, relu, shifted_relu, tanh
from .arrays import to_device
from .dynamics import CrossEntropyFlow, Dynamics, Isotropy, gaussian_outputs, isotropy, linearized, optimal_rate
from .fisher import (
    KFAC,
    BlockDiagonal,
    BlockTridiagonal,
    Entrywise,
    Exact,
    Fisher,
    Identity,
    Layerwise,
    QuasiDiagonal,
    Unitwise,
    fisher_information,
)
from .jacobian import flatten, jacobian, pull, push, unflatten
from .kernels import Kernels, analytic_kernels, analytic_ntk, empirical_kernels, ntk, order_parameters
from .losses import CrossEntropy, Loss, cross_entropy, mse
from .network import Network, Signals
from .spectral import inverse_power
from .training import Step, linearized_training, train

__version__ = "0.1.0"
__all__ = [
    "KFAC",
    "Activation",
    "BlockDiagonal",
    "BlockTridiagonal",
    "CrossEntropy",
    "CrossEntropyFlow",
    "Dynamics",
    "Entrywise",
    "Exact",
    "Fisher",
    "Identity",
    "Isotropy",
    "Kernels",
    "Layerwise",
    "Loss",
    "Network",
    "QuasiDiagonal",
    "Signals",
    "Step",
    "Unitwise",
    "analytic_kernels",
    "analytic_ntk",
    "cross_entropy",
    "deep_linear",
    "empirical_kernels",
    "erf",
    "fisher_information",
    "flatten",
    "gaussian_outputs",
    "inverse_power",
    "isotropy",
    "jacobian",
    "linear",
    "linear_training",
    "linearized",
    "linearized_training",
    "modes",
    "mse",
    "ntk",
    "optimal_rate",
    "order_parameters",
    "pull",
    "push",
    "relu",
    "shifted_relu",
    "tanh",
    "to_device",
    "train",
    "unflatten",
]
