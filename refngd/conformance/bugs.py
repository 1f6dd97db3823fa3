"""The bugs that ports have, each planted in `refngd.definitions`, or in its adapter, as one changed line as a rule.

    planted("step_without_N")(op, inputs, attrs) -> what an implementation with this bug returns

TABLE is the one list of them. Cases name in their `flags` the bugs that they catch, and `suspects` names the bug that
explains a failure.
"""

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import NamedTuple

from .. import definitions
from .adapters import definitions as adapter

# A line `name: what an implementation with the bug does wrong`, and a difference: wherever a text after - stands in
# `definitions` or in its adapter, what comes after the next + stands in its place, each further + being a line.
TABLE = r"""
# networks

width_plus_one: sqrt(M + 1) in place of sqrt(M) in h
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return net.sigma_w / math.sqrt(M + 1), net.sigma_b
scale_is_variance: sigma_w^2/M in place of sigma_w/sqrt(M) in h
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return net.sigma_w**2 / M, net.sigma_b
width_missing: 1/sqrt(M) is missing in h
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return net.sigma_w, net.sigma_b
sigma_w_missing: sigma_w is missing in h
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return 1 / math.sqrt(M), net.sigma_b
sigma_w_is_variance: sigma_w is taken for a variance
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return math.sqrt(net.sigma_w / M), net.sigma_b
sigma_w_squared: sigma_w^2 in place of sigma_w in h
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return net.sigma_w**2 / math.sqrt(M), net.sigma_b
sigma_b_missing: the bias enters as 1, not as sigma_b
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return net.sigma_w / math.sqrt(M), float(net.sigma_b > 0)
sigma_b_squared: the bias enters as sigma_b^2
    - return net.sigma_w / math.sqrt(M), net.sigma_b
    + return net.sigma_w / math.sqrt(M), net.sigma_b**2
bias_lost: the bias is lost
    - int(bias > 0)), bias, x.dtype)
    + int(bias > 0)), 0.0, x.dtype)
bias_first: the bias stands in the first column of W
    - h.append(np.concatenate([scale * phi, column], axis=1))
    + h.append(np.concatenate([column, scale * phi], axis=1))
    - W[l][:, :M]
    + W[l][:, -M:]
bias_first_in_h: the bias is the first entry of h, though the last column of W
    - h.append(np.concatenate([scale * phi, column], axis=1))
    + h.append(np.concatenate([column, scale * phi], axis=1))
standard_as_ntk: a standard network gets the factors of the ntk parameterization
    - if net.parameterization == "standard":
    + if False:
ntk_as_standard: a network of the ntk parameterization lacks its factors
    - if net.parameterization == "standard":
    + if True:
standard_with_sigma_w: sigma_w enters a standard network
    - return 1.0, float(net.sigma_b > 0)
    + return net.sigma_w, float(net.sigma_b > 0)
standard_with_sigma_b: the bias enters a standard network as sigma_b, not as 1
    - return 1.0, float(net.sigma_b > 0)
    + return 1.0, net.sigma_b
input_unscaled: the input of the network is not scaled
    - h.append(np.concatenate([scale * phi, column], axis=1))
    + h.append(np.concatenate([(scale if u else 1.0) * phi, column], axis=1))
input_activated: the activation acts on the input of the network
    - phi, h, u = x, [], []
    + phi, h, u = net.activation.phi(x), [], []
output_activated: the activation acts on the output of the network
    - return Signals(u[-1], h
    + return Signals(net.activation.phi(u[-1]), h
kink_is_1: phi' is 1 at the kink
    - lambda u: (u > -shift).astype(u.dtype)
    + lambda u: (u >= -shift).astype(u.dtype)
kink_is_half: phi' is 1/2 at the kink
    - lambda u: (u > -shift).astype(u.dtype)
    + lambda u: np.heaviside(u + shift, 0.5).astype(u.dtype)
dead_units_live: phi' is 1 for dead units too
    - lambda u: (u > -shift).astype(u.dtype)
    + np.ones_like
shift_inside: shifted ReLU is max(x - s, 0), not max(x, -s)
    - lambda u: np.maximum(u, -shift)
    + lambda u: np.maximum(u - shift, 0)
shift_below: shifted ReLU is max(x, 0) - s, not max(x, -s)
    - lambda u: np.maximum(u, -shift)
    + lambda u: np.maximum(u, 0) - shift
tanh_cancels: 1 - tanh(u)^2 cancels where units saturate
    - return 4 * t / (1 + t) ** 2
    + return 1 - np.tanh(u) ** 2
erf_of_normal: erf(u / sqrt(2)) in place of erf(u)
    - return erf(u)
    + return erf(u / math.sqrt(2))
erf_slope: 2/sqrt(pi) is missing in the derivative of erf
    - lambda u: 2 / math.sqrt(math.pi) * np.exp(-u * u)
    + lambda u: np.exp(-u * u)
slope_of_phi: phi' is taken at phi(u), not at u
    - slope = scale * net.activation.derivative(u[l - 1])
    + slope = scale * net.activation.derivative(net.activation.phi(u[l - 1]))
backward_unscaled: sigma_w/sqrt(M) is missing in the backward pass
    - slope = scale * net.activation.derivative(u[l - 1])
    + slope =  net.activation.derivative(u[l - 1])
backward_squared: sigma_w/sqrt(M) stands twice in the backward pass
    - slope = scale * net.activation.derivative(u[l - 1])
    + slope = scale**2 * net.activation.derivative(u[l - 1])
backward_other_width: the backward pass has the width of another layer
    - scale, _ = scales(net, M)
    + scale, _ = scales(net, W[l - 1].shape[1])
frozen_ignored: frozen layers are trained
    - if l not in fixed]
    + ]
output_bias_trained: the output bias is trained although it is frozen
    - 0.0 if l == L and "output-bias" in fixed else bias
    + bias
frozen_first: as many first layers are frozen as the list has numbers
    - else frozen
    + else range(1, len(frozen) + 1)

init_without_width: standard weights have the deviation sigma_w, not sigma_w / sqrt(M)
    - w[:, :M] *= sigma_w / np.sqrt(M)
    + w[:, :M] *= sigma_w
init_ntk_scaled: weights of the ntk parameterization have the deviations of standard ones
    - if attrs.get("parameterization", "ntk") == "standard":
    + if True:
signs_of_lapack: Q is that of LAPACK, whose R has entries below 0 on its diagonal
    - Q = gain * Q * np.sign(np.diag(R))
    + Q = gain * Q

# J, and products with it

theta_by_columns: a list of matrices is flattened column by column
    - return np.concatenate([dw.ravel() for dw in dW])
    + return np.concatenate([dw.T.ravel() for dw in dW])

outputs_first: rows are c N + n, not n C + c
    - return [J_l.reshape(-1, *J_l.shape[2:]) for J_l in J]
    + return [J_l.swapaxes(0, 1).reshape(-1, *J_l.shape[2:]) for J_l in J]
theta_column_major: theta has each W_l column by column
    - [J_l.reshape(len(J_l), -1) for J_l in jacobians(s)]
    + [J_l.mT.reshape(len(J_l), -1) for J_l in jacobians(s)]
theta_reversed: theta has the layers in reverse order
    - [J_l.reshape(len(J_l), -1) for J_l in jacobians(s)]
    + [J_l.reshape(len(J_l), -1) for J_l in jacobians(s)[::-1]]
h_tiled: h is tiled over outputs, not repeated: row n C + c has h of sample (n C + c) mod N
    - J = [np.einsum("nci,nj->ncij", delta, h) for
    + J = [np.einsum("nci,ncj->ncij", delta, np.tile(h, (delta.shape[1], 1)).reshape(*delta.shape[:2], -1)) for
    - K = np.einsum("inc,jn->ijnc", left.reshape(-1, N, C), right)
    + K = np.einsum("inc,jnc->ijnc", left.reshape(-1, N, C), np.tile(right, (1, C)).reshape(-1, N, C))
A_tiled: A is tiled over outputs, not repeated, in Theta_l = B_l * A_{l-1}
    - return jacobian(test) @ jacobian(train).T / len(train.f)
    + J = []
    + for s in (test, train):
    +     h, delta = [np.tile(h, (s.f.shape[1], 1)) for h in s.h], [d.reshape(-1, 1, d.shape[2]) for d in s.delta]
    +     J.append(jacobian(s._replace(f=s.f.reshape(-1, 1), h=h, delta=delta)))
    + return J[0] @ J[1].T / len(train.f)
    - K = [power_of_root(R, N, rho, q, rcond) for R in roots.get(name, entries)]
    + parts = [s] if name == "Exact" else [s._replace(h=[h], delta=[d]) for h, d in zip(s.h, s.delta)]
    + K = [power_of_root(R, N, rho, q, rcond) for R in roots.get(name, entries)]
    + if name in ("Exact", "BlockDiagonal"):
    +     K = [R.T @ inverse_power(ntk(t, t), rho, q) for R, t in zip(roots[name], parts)]
pull_is_mean: J^T v is a mean over samples
    - unflatten(jacobian(s).T @ v.ravel(), shapes(s))
    + [dw / len(v) for dw in unflatten(jacobian(s).T @ v.ravel(), shapes(s))]
kernel_with_N_test: 1/N' in place of 1/N
    - jacobian(test) @ jacobian(train).T / len(train.f)
    + jacobian(test) @ jacobian(train).T / len(test.f)
    - preconditioned(train, fisher, rho, q) / len(train.f)
    + preconditioned(train, fisher, rho, q) / len(test.f)
kernel_without_N: 1/N is missing in the kernel
    - jacobian(test) @ jacobian(train).T / len(train.f)
    + jacobian(test) @ jacobian(train).T
    - preconditioned(train, fisher, rho, q) / len(train.f)
    + preconditioned(train, fisher, rho, q)
kernel_transposed: the kernel is transposed
    - "Theta": d.ntk(trained(inputs, attrs, "x_test"), trained(inputs, attrs))
    + "Theta": d.ntk(trained(inputs, attrs), trained(inputs, attrs, "x_test"))
    - d.coefficient(test, train, fisher
    + d.coefficient(train, test, fisher

# powers

F_without_N: 1/N is missing in G
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s, math.sqrt(rho))
rho_ignored: rho is not applied
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + abs(s / math.sqrt(N))
    - eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    + eigen(G)
rho_before_N: rho is added before G is divided by N
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s, math.sqrt(rho)) / math.sqrt(N)
rho_times_N: rho is multiplied by N
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s / math.sqrt(N), math.sqrt(N * rho))
rho_squared: rho^2 is added
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s / math.sqrt(N), rho)
    - eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    + eigen(G + rho**2 * np.eye(len(G), dtype=G.dtype))
rho_root: the root of rho is added
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s / math.sqrt(N), rho**0.25)
    - eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    + eigen(G + rho**0.5 * np.eye(len(G), dtype=G.dtype))
rho_twice: rho is added twice
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s / math.sqrt(N), math.sqrt(2 * rho))
    - eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    + eigen(G + 2 * rho * np.eye(len(G), dtype=G.dtype))
rho_relative: rho is relative to the largest eigenvalue
    - np.hypot(s / math.sqrt(N), math.sqrt(rho))
    + np.hypot(s, math.sqrt(rho) * s.max(-1, keepdims=True, initial=0)) / math.sqrt(N)
    - eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    + eigen(G + rho * np.linalg.norm(G, 2) * np.eye(len(G), dtype=G.dtype))
rho_after_power: rho is added to the power of G, not to G
    - return s / t * t ** (1 - 2 / q)
    + return s / ((abs(s) / math.sqrt(N)) ** (2 / q) + rho)
    - eigen(G + rho * np.eye(len(G), dtype=G.dtype))
    + eigen(G)
    - np.where(w != 0, w, 1) ** (-1 / q)
    + (np.where(w != 0, w, 1) ** (1 / q) + rho) ** -1.0
q_ignored: the power is -1, whatever q
    - return s / t * t ** (1 - 2 / q)
    + return s / t / t
    - np.where(w != 0, w, 1) ** (-1 / q)
    + np.where(w != 0, w, 1) ** -1.0
q_inverse: the power is -q, not -1/q
    - return s / t * t ** (1 - 2 / q)
    + return s / t * t ** (1 - 2 * q)
    - np.where(w != 0, w, 1) ** (-1 / q)
    + np.where(w != 0, w, 1) ** (-float(q))
q_positive: the power is +1/q, not -1/q
    - return s / t * t ** (1 - 2 / q)
    + return s / t * t ** (1 + 2 / q)
    - np.where(w != 0, w, 1) ** (-1 / q)
    + np.where(w != 0, w, 1) ** (1 / q)
q_squared: the power is -1/q^2
    - return s / t * t ** (1 - 2 / q)
    + return s / t * t ** (1 - 2 / q**2)
    - np.where(w != 0, w, 1) ** (-1 / q)
    + np.where(w != 0, w, 1) ** (-1 / q**2)
q_floored: q is rounded down to a whole number
    - return s / t * t ** (1 - 2 / q)
    + return s / t * t ** (1 - 2 / np.floor(q))
    - np.where(w != 0, w, 1) ** (-1 / q)
    + np.where(w != 0, w, 1) ** (-1 / np.floor(q))
cut_off_none: singular values that are rounding are inverted
    - np.where(s > cut * s.max(-1, keepdims=True, initial=0), s, 0), Vt
    + np.maximum(s, np.finfo(s.dtype).eps / 2**20 * s.max(-1, keepdims=True, initial=0)), Vt
cut_off_1e-3: singular values below 1e-3 of the largest count as zero
    - cut = max(R.shape[-2:]) * np.finfo(s.dtype).eps if
    + cut = 1e-3 if
cut_off_absolute: the cut-off of singular values is absolute, 1e-6
    - np.where(s > cut * s.max(-1, keepdims=True, initial=0), s, 0), Vt
    + np.where(s > 1e-6, s, 0), Vt
cut_off_coarse: singular values below 1e-5 of the largest count as zero: a root of the rounding
    - cut = max(R.shape[-2:]) * np.finfo(s.dtype).eps if
    + cut = 1e-5 if
cut_off_end: the largest singular value is left out, not the smallest
    - np.where(s > cut * s.max(-1, keepdims=True, initial=0), s, 0), Vt
    + np.where(s < s.max(-1, keepdims=True, initial=0), s, 0), Vt
rcond_ignored: rcond is ignored
    - max(R.shape[-2:]) * np.finfo(s.dtype).eps if rcond is None else rcond
    + max(R.shape[-2:]) * np.finfo(s.dtype).eps
rcond_of_eigenvalues: rcond is that of eigenvalues, the squares of singular values
    - np.finfo(s.dtype).eps if rcond is None else rcond
    + np.finfo(s.dtype).eps if rcond is None else rcond**0.5
rcond_absolute: rcond is absolute, not relative to the largest singular value
    - np.finfo(s.dtype).eps if rcond is None else rcond
    + np.finfo(s.dtype).eps if rcond is None else rcond / s.max(-1, keepdims=True, initial=0)
rcond_damped: what rcond takes away is left where there is damping
    - U, s, Vt = svd(R, rcond)
    + U, s, Vt = svd(R, None if rho else rcond)
multiplier_inside: of a damped Lambda the part outside the range of K is lost
    - power = np.where(t > 0, np
    + power = np.where(s > 0, np
eigenvalues_moduli: the moduli of eigenvalues stand for them
    - np.where(w != 0, w, 1) ** (-1 / q)
    + abs(np.where(w != 0, w, 1)) ** (-1 / q)
    - (D > 0).all() or
    + True or
eigenvalues_positive: negative eigenvalues count as zero
    - np.where(w != 0, np.where(w != 0, w, 1)
    + np.where(w > 0, np.where(w != 0, w, 1)
    - w[w != 0], E[:, w != 0]
    + w[w > 0], E[:, w > 0]
eigenvalues_inverted: eigenvalues that are 0 are inverted
    - np.where(w != 0, np.where(w != 0, w, 1) ** (-1 / q), 0)
    + w ** (-1 / q)
cholesky: a Cholesky factor of an indefinite matrix, which has none
    - Q = c * ((U.T * D) @ U) * c.T / N + np.diag(rho / t[:, 0] ** 2)
    + return np.nan * X
    - np.where(w != 0, np.where(w != 0, w, 1) ** (-1 / q), 0)
    + np.where(w.min() >= 0, np.where(w != 0, np.where(w != 0, w, 1) ** (-1 / q), 0), np.nan)

# losses

loss_without_half: 1/2 is missing in the loss
    - return ((f - y) ** 2).sum() / (2 * len(f))
    + return ((f - y) ** 2).sum() / len(f)
loss_is_sum: the loss is a sum over samples, not a mean
    - return ((f - y) ** 2).sum() / (2 * len(f))
    + return ((f - y) ** 2).sum() / 2
    - axis=1).mean()
    + axis=1).sum()
loss_is_mean_of_outputs: the loss is a mean over outputs as well
    - return ((f - y) ** 2).sum() / (2 * len(f))
    + return ((f - y) ** 2).sum() / (2 * f.size)
residual_negative: y - f in place of f - y
    - return f - y
    + return y - f
    - return p * (1 - y) - rest * y
    + return rest * y - p * (1 - y)
residual_twice: the gradient of the loss without 1/2: 2 (f - y)
    - return f - y
    + return 2 * (f - y)
residual_of_means: the gradient of a mean over samples and outputs: 2 (f - y) / C
    - return f - y
    + return 2 * (f - y) / f.shape[1]
residual_cancels: p - y cancels where p is near 1
    - return p * (1 - y) - rest * y
    + return p - y
residual_of_mse: f - y in place of p - y for the cross-entropy
    -     return p * (1 - y) - rest * y
    +     return f - y
loss_of_pytorch: a mean over samples and outputs without 1/2, as nn.MSELoss: 2 (f - y) / (N C)
    - return ((f - y) ** 2).sum() / (2 * len(f))
    + return ((f - y) ** 2).mean()
    - return f - y
    + return 2 * (f - y) / f.shape[1]
softmax_over_samples: softmax runs over samples, not over classes
    - p = p / p.sum(1, keepdims=True)
    + p = p / p.sum(0, keepdims=True)
softmax_overflows: exp overflows in softmax
    - p = np.exp(f - f.max(1, keepdims=True))
    + p = np.exp(f)
hessian_missing: the output Hessian of the cross-entropy is missing
    - R = np.concatenate([hessian_root(s.f), damping], axis=1)
    + return s, g
hessian_mean: the mean of the output Hessians stands for each
    - hessian_root(s.f), damping
    + np.repeat(hessian_root(s.f).reshape(1, -1, C), N, axis=0) / math.sqrt(N), damping
hessian_diagonal: the output Hessian is its diagonal
    - hessian_root(s.f), damping
    + np.sqrt((hessian_root(s.f) ** 2).sum(1))[:, None] * np.eye(C, dtype=g.dtype), damping
loss_rho_ignored: loss_rho is not applied
    - math.sqrt(loss_rho) * np.eye
    + 0 * np.eye
    - d.power_of_root(R, 1, rho, 1) @ (R
    + d.power_of_root(R, 1, 0.0, 1) @ (R
loss_rho_is_rho: rho stands for loss_rho
    - return {name: attrs[name] for name in ("rho", "q") if name in attrs}
    + return {"rho": attrs.get("loss_rho", attrs.get("rho", 0.0)), "q": attrs.get("q", 1)}
loss_is_mse: the loss is the mean squared error, whatever it should be
    - "loss": attrs.get("loss", "mse")
    + "loss": "mse"

# approximations

identity_undamped: rho is ignored by gradient descent
    - return (1 + rho) ** (-1 / q) * jacobian(s).T
    + return jacobian(s).T
identity_without_q: 1/(1 + rho), whatever q
    - return (1 + rho) ** (-1 / q) * jacobian(s).T
    + return jacobian(s).T / (1 + rho)
identity_is_exact: gradient descent has the exact matrix
    - F = I if fisher.name == "Identity" else J.T @ J
    + F = J.T @ J
blocks_merged: the blocks are inverted together
    - "BlockDiagonal": [J_l.reshape(s.f.size, -1) for J_l in J]
    + "BlockDiagonal": [jacobian(s)]
    - "BlockDiagonal": same_layer
    + "BlockDiagonal": 1
sigma_inverse: Sigma^{-1} in place of Sigma
    - return fisher.Sigma if
    + return np.linalg.pinv(fisher.Sigma) if
sigma_is_identity: Sigma = I
    - return fisher.Sigma if
    + return np.eye(len(l)) if
    - (abs(l[:, None] - l) <= 1)
    + (l[:, None] == l)
sigma_by_place: neighbours in the tri-diagonal are those among the trained layers, not those of the network
    - l = np.array(layers)
    + l = np.arange(len(layers))
sigma_is_ones: Sigma = 1 1^T
    - return fisher.Sigma if
    + return np.ones((len(l), len(l))) if
    - (abs(l[:, None] - l) <= 1)
    + (abs(l[:, None] - l) <= L)
kfac_rho_on_product: rho is added to the Kronecker product, not to its factors
    - K = np.einsum("inc,jn->ijnc", left.reshape(-1, N, C), right)
    + return inverse_power(kfac_block(s, fisher, l, 0.0), rho, q) @ jacobians(s)[l].reshape(N * C, -1).T
    - B + rho * I_B, A + rho * I_A)
    + B, A) + rho * np.einsum("ik,jm->ijkm", I_B, I_A)
kfac_rho_on_A: rho is added to A* alone
    - left = power_of_root(delta, N, rho, q, rcond)
    + left = power_of_root(delta, N, 0.0, q, rcond)
    - left = (1 / N + rho) **
    + left = (1 / N) **
    - B + rho * I_B, A + rho * I_A)
    + B, A + rho * I_A)
    - B1 @ inverse_power(B / N, rho, q)
    + B1 @ inverse_power(B / N, 0.0, q)
kfac_rho_on_B: rho is added to B* alone
    - right = power_of_root(h, N, rho, q, rcond)
    + right = power_of_root(h, N, 0.0, q, rcond)
    - B + rho * I_B, A + rho * I_A)
    + B + rho * I_B, A)
    - inverse_power(A / N, rho, q)
    + inverse_power(A / N, 0.0, q)
kfac_rho_root: the root of rho is added to each factor of K-FAC
    - left = power_of_root(delta, N, rho, q, rcond)
    + left = power_of_root(delta, N, rho**0.5, q, rcond)
    - left = (1 / N + rho) **
    + left = (1 / N + rho**0.5) **
    - right = power_of_root(h, N, rho, q, rcond)
    + right = power_of_root(h, N, rho**0.5, q, rcond)
    - B + rho * I_B, A + rho * I_A)
    + B + rho**0.5 * I_B, A + rho**0.5 * I_A)
kfac_pi: the damping of K-FAC is split by pi: pi rho^{1/2} on A*, rho^{1/2} / pi on B*
    - K = np.einsum("inc,jn->ijnc", left.reshape(-1, N, C), right)
    + B = 1 / N if fixed else (delta**2).sum() / N / delta.shape[1]
    + root, pi = rho**0.5, math.sqrt((h**2).sum() / N / h.shape[1] / B)
    + left = (1 / N + root / pi) ** (-1 / q) * delta.T if fixed else power_of_root(delta, N, root / pi, q, rcond)
    + K = np.einsum("inc,jn->ijnc", left.reshape(-1, N, C), power_of_root(h, N, root * pi, q, rcond))
    - G = np.einsum("ik,jm->ijkm", B + rho * I_B, A + rho * I_A)
    + used = A[:-1, :-1] if s.bias[l] and fisher.bias == "separate" else A
    + root, pi = rho**0.5, math.sqrt(np.trace(used) / len(used) / np.trace(B) * len(B))
    + G = np.einsum("ik,jm->ijkm", B + root / pi * I_B, A + root * pi * I_A)
kfac_A_without_N: 1/N is missing in A*
    - right = power_of_root(h, N, rho, q, rcond)
    + right = power_of_root(h, 1, rho, q, rcond)
    - A, B = h.T @ h / N,
    + A, B = h.T @ h,
    - inverse_power(A / N, rho, q)
    + inverse_power(A, rho, q)
kfac_B_without_N: 1/N is missing in B*
    - left = power_of_root(delta, N, rho, q, rcond)
    + left = power_of_root(delta, 1, rho, q, rcond)
    - delta.T @ delta / N
    + delta.T @ delta
    - inverse_power(B / N, rho, q)
    + inverse_power(B, rho, q)
kfac_B_is_mean: B* is a mean over outputs, not a sum
    - left = power_of_root(delta, N, rho, q, rcond)
    + left = power_of_root(delta, N * C, rho, q, rcond)
    - delta.T @ delta / N
    + delta.T @ delta / s.f.size
kfac_last_other: B*_L is the other one (identity or gram)
    - fisher.last == "identity"
    + fisher.last != "identity"
kfac_last_without_N: B*_L = I in place of I/N
    - left = (1 / N + rho) **
    + left = (1 + rho) **
    - B = I_B / N
    + B = I_B
    - left = B1 * (1 / N + rho) **
    + left = B1 * (1 + rho) **
kfac_last_trained: B*_L = I/N in the last layer that is trained, which is not the output layer
    - s.layers[l] == s.L and
    + l == len(s.layers) - 1 and
kfac_bias_other: the bias is treated the other way (augmented or separate)
    - fisher.bias == "separate"
    + fisher.bias != "separate"
kfac_bias_without_b: b is lost in the block of a separate bias
    - power_of_root(s.bias[l] * delta, N * N, rho, q, rcond)
    + power_of_root(delta, N * N, rho, q, rcond)
    - bias_block = s.bias[l] ** 2 * B / N + rho * I_B
    + bias_block = B / N + rho * I_B
    - bias**2 * B1 @ inverse_power(bias**2 * B / N**2, rho, q)
    + B1 @ inverse_power(B / N**2, rho, q)
kfac_bias_without_N: the block of a separate bias lacks one 1/N
    - power_of_root(s.bias[l] * delta, N * N, rho, q, rcond)
    + power_of_root(s.bias[l] * delta, N, rho, q, rcond)
    - bias_block = s.bias[l] ** 2 * B / N + rho * I_B
    + bias_block = s.bias[l] ** 2 * B + rho * I_B
    - inverse_power(bias**2 * B / N**2, rho, q)
    + inverse_power(bias**2 * B / N, rho, q)
units_by_input: the blocks are columns of W_l, not rows
    - "Unitwise": [J_l.transpose(1, 0, 2)
    + "Unitwise": [J_l.transpose(2, 0, 1)
    - layer[:, None] == layer, (layer[:, None] == layer) & (i[:, None] == i)
    + layer[:, None] == layer, (layer[:, None] == layer) & (is_bias[:, None] == is_bias)
units_without_bias: the block of a unit leaves out its bias, which has its own
    - K = [power_of_root(R, N, rho, q, rcond) for R in roots.get(name, entries)]
    + split = name == "Unitwise" and any(s.bias)
    + parts = [[R[..., :-1], R[..., -1:]] if split else [R] for R in roots.get(name, entries)]
    + K = [np.concatenate([power_of_root(R, N, rho, q, rcond) for R in R_b], -2) for R_b in parts]
    - layer[:, None] == layer, (layer[:, None] == layer) & (i[:, None] == i)
    + layer[:, None] == layer, (layer[:, None] == layer) & (i[:, None] == i)
    + if any(s.bias) and fisher.name == "Unitwise": same_unit &= is_bias[:, None] == is_bias
entries_of_means: the entries of the diagonal are products of means of delta^2 and h^2, not the mean of the products
    - K = [power_of_root(R, N, rho, q, rcond) for R in roots.get(name, entries)]
    + G = [np.outer((d**2).sum((0, 1)) / N, (h**2).mean(0)).reshape(-1, 1) + rho for h, d in zip(s.h, s.delta)]
    + K = [power_of_root(R, N, rho, q, rcond) for R in roots.get(name, entries)]
    + if name == "Entrywise":
    +     K = [np.where(g > 0, g, np.inf) ** (-1 / q) * J_l.reshape(s.f.size, -1).T for g, J_l in zip(G, J)]
    - F = I if fisher.name == "Identity" else J.T @ J / len(s.f)
    + F = I if fisher.name == "Identity" else J.T @ J / len(s.f)
    + if fisher.name == "Entrywise":
    +     means = [np.outer((d**2).sum((0, 1)), (h**2).sum(0)).ravel() for h, d in zip(s.h, s.delta)]
    +     F = np.diag(np.concatenate(means)) / len(s.f) ** 2
quasi_bias_undamped: A_00 of the quasi-diagonal lacks rho
    - A_00 = np.where(F_00 + rho > 0, F_00 / N + rho, 1)
    + A_00 = np.where(F_00 > 0, F_00 / N, 1)
    - zero @ A.diagonal()
    + zero @ F.diagonal()
quasi_is_diagonal: the quasi-diagonal is the plain diagonal
    - elif name == "QuasiDiagonal":
    + elif False:
    - if fisher.name == "QuasiDiagonal":
    + if False:
matrix_without_N: 1/N is missing in F
    - J.T @ J / len(s.f)
    + J.T @ J
    - A, B = h.T @ h / N,
    + A, B = h.T @ h,
matrix_undamped: the matrix lacks its damping
    - A = F + rho * I
    + A = F
    - B + rho * I_B, A + rho * I_A)
    + B, A)
    - [layer][:, layer] + rho * I
    + [layer][:, layer]

# steps, predictions

step_without_N: 1/N is missing in the gradient
    - q) @ e.ravel() / len(e), shapes(s))
    + q) @ e.ravel(), shapes(s))
step_with_N_twice: 1/N stands twice in the step
    - q) @ e.ravel() / len(e), shapes(s))
    + q) @ e.ravel() / len(e) ** 2, shapes(s))
step_is_mean_of_outputs: 1/(N C) in place of 1/N in the gradient
    - q) @ e.ravel() / len(e), shapes(s))
    + q) @ e.ravel() / e.size, shapes(s))
step_is_gradient: the step is the gradient: no matrix is inverted
    - if name == "Identity" or math.isinf(q):
    + if True:
empirical_fisher: the empirical Fisher matrix, of the gradients of samples, not of J
    - return unflatten(preconditioned(s, fisher, rho, q) @ e.ravel() / len(e), shapes(s))
    + own = s._replace(f=s.f[:, :1], delta=[e[:, None] @ delta for delta in s.delta])
    + return unflatten(preconditioned(own, fisher, rho, q).sum(1) / len(e), shapes(s))
ascent: W + eta direction in place of W - eta direction
    - W[l - 1] - eta * np.pad
    + W[l - 1] + eta * np.pad
    - total, error = total + eta * error, error - eta * own @ error
    + total, error = total - eta * error, error + eta * own @ error
    - f - eta * push(train, dW), f_test - eta * push(test, dW)
    + f + eta * push(train, dW), f_test + eta * push(test, dW)
eta_ignored: eta is not applied
    - W[l - 1] - eta * np.pad
    + W[l - 1] - np.pad
    - total, error = total + eta * error, error - eta * own @ error
    + total, error = total + error, error - own @ error
    - f - eta * push(train, dW), f_test - eta * push(test, dW)
    + f - push(train, dW), f_test - push(test, dW)
eta_twice: eta enters twice
    - W[l - 1] - eta * np.pad
    + W[l - 1] - eta**2 * np.pad
    - total, error = total + eta * error, error - eta * own @ error
    + total, error = total + eta**2 * error, error - eta**2 * own @ error
fisher_not_renewed: G is kept from the first step
    - s, e = whiten(signals(net, W, x, frozen), y, loss, loss_rho)
    + now, e = whiten(signals(net, W, x, frozen), y, loss, loss_rho); s = now if len(losses) == 1 else s
losses_late: the losses are those of a step before
    - losses.append(loss_value(signals(net, W, x).f, y, loss))
    + losses.append(loss_value(s.f, y, loss))
one_step_more: one step too many
    - for _ in range(t):
    + for _ in range(t + 1):
    - attrs["eta"], attrs["steps"], **options
    + attrs["eta"], attrs["steps"] + 1, **options
    - for _ in range(int(t)):
    + for _ in range(int(t) + 1):
    - batches[: steps + 1]
    + batches[: steps + 2]
one_step_less: one step too few
    - for _ in range(t):
    + for _ in range(t - 1):
    - for _ in range(int(t)):
    + for _ in range(int(t) - 1):
time_is_continuous: exp(-eta Theta_bar t) in place of (I - eta Theta_bar)^t
    - for _ in range(t):
    + for _ in range(1000 * t):
    - total, error = total + eta * error, error - eta * own @ error
    + total, error = total + eta / 1000 * error, error - eta / 1000 * own @ error
    - for _ in range(int(t)):
    + for _ in range(1000 * int(t)):

# infinite width

wide_slope_without_sigma_w: sigma_w^2 is missing in Xi_l = sigma_w^2 E[phi' phi']
    - slopes.append(w * slope)
    + slopes.append(slope)
wide_without_sigma_b: sigma_b^2 is missing in A
    - w, b, M_0 = net.sigma_w**2, net.sigma_b**2, train.shape[1]
    + w, b, M_0 = net.sigma_w**2, 0.0, train.shape[1]
wide_hidden_without_sigma_b: sigma_b^2 is missing in A_l for l > 0
    - A.append(w * products + b)
    + b = 0.0
    + A.append(w * products + b)
wide_with_N_test: 1/N' in place of 1/N in the kernels of infinite width
    - [B_l * A_l / A_l.shape[1] for
    + [B_l * A_l / A_l.shape[0] for
wide_without_N: 1/N is missing in the kernels of infinite width
    - [B_l * A_l / A_l.shape[1] for
    + [B_l * A_l for
norm_not_squared: the norm is not squared
    - x[0, 0] = attrs.get("norm", 1.0)
    + x[0, 0] = attrs.get("norm", 1.0) ** 0.5

# deep linear networks

linear_loss_without_half: 1/2 is missing in the loss
    - return (displacement(w, w_star, S) ** 2).sum() / 2
    + return (displacement(w, w_star, S) ** 2).sum()
gauss_newton_for_hessian: H_+ stands for H
    - hv = [hv_i + (i != m) * g_i
    + hv = [hv_i
hessian_own_factor: H differentiates the factor i of g_i too
    - hv = [hv_i + (i != m) * g_i
    + hv = [hv_i + g_i
outputs_first_in_K: K is output-major
    - np.einsum("ca,bn->ncab", L, R)
    + np.einsum("ca,bn->cnab", L, R)
sigma_x_for_root: Sigma_x in place of its root
    - return (V * np.sqrt(w)) @ V.T
    + return (V * w) @ V.T
sigma_x_ignored: Sigma_x is ignored
    - return (V * np.sqrt(w)) @ V.T
    + return V @ V.T
sigma_x_in_error_only: S is missing in R_i
    - [np.eye(len(w[-1]), dtype=S.dtype)] * d, [S] * d
    + [np.eye(len(w[-1]), dtype=S.dtype)] * d, [np.eye(len(S), dtype=S.dtype)] * d
sigma_x_not_in_error: S is missing in E
    - return (L[0] @ w[0] - w_star) @ S
    + return L[0] @ w[0] - w_star
depth_missing: d^{-1/q} is missing
    - u = [d ** (-1 / q) * block_update(L, R, E, rho, q, rcond)
    + u = [block_update(L, R, E, rho, q, rcond)
depth_without_q: 1/d in place of d^{-1/q}
    - u = [d ** (-1 / q) * block_update(L, R, E, rho, q, rcond)
    + u = [d ** -1.0 * block_update(L, R, E, rho, q, rcond)
block_is_full: the full rule in place of the block rule
    - if block:
    + if False:
full_is_block: the block rule in place of the full rule
    - if block:
    + if True:
block_rho_on_factors: rho is added to each factor of a block, as in K-FAC
    - (gain(np.outer(a, b), 1, rho, q) *
    + (np.outer(gain(a, 1, rho, q), gain(b, 1, rho, q)) *
regularised_without_factor: the regularised rule lacks (1 + rho)^{1/q}
    - u = [(1 + rho) ** (1 / q) * u_i for u_i in u]
    + pass
regularised_without_root: 1 + rho in place of (1 + rho)^{1/q}
    - u = [(1 + rho) ** (1 / q) * u_i for u_i in u]
    + u = [(1 + rho) * u_i for u_i in u]
clip_missing: the update is not clipped
    - return [u_i * (clip / size) if size > clip else u_i for u_i in u]
    + return u
clip_by_layer: every layer is clipped by itself
    - return [u_i * (clip / size) if size > clip else u_i for u_i in u]
    + return [u_i * min(1, clip / np.linalg.norm(u_i)) for u_i in u]
clip_raises: short updates are raised to the clip
    - return [u_i * (clip / size) if size > clip else u_i for u_i in u]
    + return [u_i * (clip / size) for u_i in u] if clip < math.inf else u
clip_before_factor: clipping comes before the factor of the regularised rule
    - u = [(1 + rho) ** (1 / q) * u_i for u_i in u]
    + u, clip = [(1 + rho) ** (1 / q) * u_i for u_i in u], (1 + rho) ** (1 / q) * clip
clip_after_eta: eta u is clipped, not u
    - zip(w, update(w, w_star, S, **rule), strict=True)
    + zip(w, update(w, w_star, S, **rule | {"clip": rule.get("clip", math.inf) / eta}), strict=True)
linear_ascent: w + eta u in place of w - eta u
    - w = [w_i - eta * u_i for w_i, u_i in zip(w, update(w, w_star, S, **rule), strict=True)]
    + w = [w_i + eta * u_i for w_i, u_i in zip(w, update(w, w_star, S, **rule), strict=True)]
linear_eta_ignored: eta is not applied
    - w = [w_i - eta * u_i for w_i, u_i in zip(w, update(w, w_star, S, **rule), strict=True)]
    + w = [w_i - u_i for w_i, u_i in zip(w, update(w, w_star, S, **rule), strict=True)]
layers_in_turn: the layers are updated one after another
    - w = [w_i - eta * u_i for w_i, u_i in zip(w, update(w, w_star, S, **rule), strict=True)]
    + for i in range(len(w)): w = [*w[:i], w[i] - eta * update(w, w_star, S, **rule)[i], *w[i + 1 :]]
conserved_negative: c_i has the opposite sign
    - return [a @ a.T - b.T @ b for a, b in pairwise(w)]
    + return [b.T @ b - a @ a.T for a, b in pairwise(w)]

# infinite width

wide_slope_with_sigma_w: sigma_w in place of sigma_w^2 in B_l
    - slopes.append(w * slope)
    + slopes.append(net.sigma_w * slope)
wide_sigma_b: sigma_b in place of sigma_b^2 in A_l
    - w, b, M_0 = net.sigma_w**2, net.sigma_b**2, train.shape[1]
    + w, b, M_0 = net.sigma_w**2, net.sigma_b, train.shape[1]
wide_sigma_w: sigma_w in place of sigma_w^2 in A_l
    - w, b, M_0 = net.sigma_w**2, net.sigma_b**2, train.shape[1]
    + w, b, M_0 = net.sigma_w, net.sigma_b**2, train.shape[1]
wide_without_M_0: 1/M_0 is missing in A_0
    - / M_0 + b
    + + b
    - (x * x).sum(1) / M_0 for
    + (x * x).sum(1) for
wide_equal_variances: all samples are taken to have the variance of one
    - phi.features(np.sqrt(q)) for q in
    + phi.features(np.sqrt(0 * q + variances[1][0])) for q in
wide_r_is_rounded: r is 1 less rounding between equal samples
    - return near / 2, near * far / 4,
    + return near / 2 + np.finfo(near.dtype).eps, near * far / 4 + 2 * np.finfo(near.dtype).eps,
wide_angle_of_cosine: the angle between samples is taken from its cosine alone
    - r, c = correlations(squares, variances, gaps, w, b)
    + r, c = correlations(squares, variances, gaps, w, b)
    + c = np.where(c > 1e-9, np.sqrt(abs(1 - r * r)), c)
wide_norms_aside: samples of different norms are taken for parallel if their directions are equal
    - both**2 * gaps[1] + unequal**2 +
    + both**2 * gaps[1] +
wide_B_is_1: B_l = 1 in every layer
    - B[l - 1] = slopes[l - 1] * B[l]
    + B[l - 1] = slopes[l - 1] * B[-1]
wide_slope_of_layer: B_l takes the slope of another layer
    - B[l - 1] = slopes[l - 1] * B[l]
    + B[l - 1] = slopes[L - 1 - l] * B[l]
gamma_of_deviation: q is taken for a standard deviation
    - gamma(attrs["q"])
    + gamma(attrs["q"] ** 2)
gamma_of_dead: the share of dead units, not of live ones
    - gamma(attrs["q"])
    + gamma(attrs["q"]) * -1 + 1
gamma_is_1: all units count as live
    - gamma(attrs["q"])
    + gamma(attrs["q"]) * 0 + 1
averages_of_variances: a and b are taken for variances
    - a, b = inputs["a"], inputs["b"]
    + a, b = np.sqrt(inputs["a"]), np.sqrt(inputs["b"])
angles_of_cosine: rho in place of 1 - rho
    - return {"gap": gap, "square": square}
    + return {"gap": 1 - gap, "square": square}
angles_cancel: 1 - rho is the difference of two numbers near 1
    - return {"gap": gap, "square": square}
    + return {"gap": 1 - (1 - gap), "square": square}
forster_whitens: the inputs are whitened, once
    - for _ in range(3_000):
    + for _ in range(1):
forster_columns: columns are scaled to norm 1, not rows
    - np.linalg.norm(Y, axis=1, keepdims=True)
    + np.linalg.norm(Y, axis=0, keepdims=True)
alpha_without_N: N is missing in alpha of K-FAC
    - last = N if
    + last = 1 if
    - (1 if is_linear else N) if
    + 1 if
alpha_of_exact: alpha counts the layers, merged or not
    - {"Exact": np.ones((k, k)),
    + {"Exact": np.eye(k),
alpha_is_one: alpha is 1, in blocks too
    - "BlockDiagonal": np.eye(k)}
    + "BlockDiagonal": np.ones((k, k))}
alpha_sums_sigma: 1^T Sigma 1 in place of 1^T Sigma^{-1} 1
    - else coupling(fisher, layers)).sum()
    + else np.linalg.pinv(coupling(fisher, layers))).sum()
alpha_is_trace: the trace of Sigma^{-1} in place of 1^T Sigma^{-1} 1
    - return np.linalg.pinv(Sigma[fisher.name] if fisher.name in Sigma else coupling(fisher, layers)).sum()
    + return np.trace(np.linalg.pinv(Sigma[fisher.name] if fisher.name in Sigma else coupling(fisher, layers)))
alpha_counts_frozen: alpha counts frozen layers
    - sizes = layers, L,
    + sizes = range(1, L + 1), L,
    - for l in layers if l < L)
    + for l in range(1, L))
alpha_without_C: 1/C is missing in alpha
    - / widths[-1] + (L in layers)
    + + (L in layers)
alpha_without_last: the last layer is missing in alpha
    - / widths[-1] + (L in layers)
    + / widths[-1]
alpha_all_live: all units count as live in alpha
    - gaussian(attrs).gamma(float(q_l)) * M for
    + M for

# singular modes

mode_ascent: the sign of s'
    - return -eta * (
    + return eta * (
mode_below_zero: |s_bar| in place of s_bar in s_bar - s_star
    - return eta_bar * (s_star - s_bar)
    + return eta_bar * (s_star - abs(s_bar))
mode_eta_ignored: eta is not applied
    - return -eta * (
    + return -1 * (
mode_q_inverse: q enters as 1/q
    - * size ** (1 - 2 / q)
    + * size ** (1 - 2 * q)
mode_norm_over_modes: ||j|| runs over the modes as well
    - ((j / top) ** 2).sum(0)
    + ((j / top) ** 2).sum()
mode_norm_underflows: ||j||^2 underflows
    - top = np.where(top > 0, top, 1)
    + top = np.ones_like(top)
mode_depth_missing: d^{-1/q} is missing
    - math.sqrt(len(s)) * np.where(j != 0
    + np.where(j != 0
mode_modulus: |j_i| in place of j_i
    - * (j / size) *
    + * (abs(j) / size) *
mode_quotients: j_i = s_bar / s_i, which is 0/0 at a zero
    - np.prod(np.delete(s, i, 0), axis=0)
    + np.prod(s, axis=0) / s[i]
mode_without_target: s_bar in place of s_bar - s_star
    - (np.prod(s, axis=0) - s_star) * (j / size)
    + np.prod(s, axis=0) * (j / size)
mode_eps_plus_one: eps + 1 is missing
    - ((eps + 1) / (eps
    + (1 / (eps
mode_eps_times_norm: eps is multiplied by ||j||
    - (eps / norm + norm)
    + (eps + norm)
mode_invariants_full: block rules conserve what full rules do
    - power = 2 * (1 - 1 / q) if block else 2
    + power = 2
mode_invariants_negative: s_{i+1}^2 - s_i^2 in place of s_i^2 - s_{i+1}^2
    - return kept[:-1] - kept[1:]
    + return kept[1:] - kept[:-1]
mode_d_and_q: d and q are exchanged in eta_bar
    - eta * d ** (1 - 1 / q)
    + eta * q ** (1 - 1 / d)
mode_p_halved: p is half of what it is
    - return 2 * (1 - 1 / d) * (1 - 1 / q),
    + return (1 - 1 / d) * (1 - 1 / q),
    - attrs["p"], attrs.get("eta_bar", 1.0)
    + attrs["p"] / 2, attrs.get("eta_bar", 1.0)
mode_depth_plus_one: p counts a layer more
    - return 2 * (1 - 1 / d) *
    + return 2 * (1 - 1 / (d + 1)) *
mode_depth_is_d: d_eff = d
    - 1 / inverse if inverse else math.inf
    + d
mode_logistic: p = 1, whatever p
    - attrs["p"], attrs.get("eta_bar", 1.0)
    + 1.0, attrs.get("eta_bar", 1.0)
eta_bar_ignored: eta_bar is not applied
    - attrs["p"], attrs.get("eta_bar", 1.0)
    + attrs["p"], 1.0
mode_time_is_T: t is T, without the factor s_star^p
    - solve(inputs["t"],
    + solve(inputs["t"] / inputs["s_star"] ** attrs["p"],
    - return {"t": modes.time_to(
    + return {"t": inputs["s_star"] ** attrs["p"] * modes.time_to(
    - return {"t": modes.escape_time(
    + return {"t": inputs["s_star"] ** attrs["p"] * modes.escape_time(
mode_from_target: s0 is taken relative to s_star
    - inputs["s0"], attrs["p"],
    + inputs["s_star"] * inputs["s0"], attrs["p"],
mode_fraction_is_value: the fraction of s_star is taken for s_bar
    - modes.time_to(inputs["fraction"],
    + modes.time_to(inputs["fraction"] / inputs["s_star"],

# batches, linearised training, and what else there is

batches_in_order: the order of the samples is ignored
    - np.rint(inputs["order"]).astype(int)
    + np.sort(np.rint(inputs["order"]).astype(int))
batches_whole: the last, smaller batch of an epoch is left out
    - for k in range(0, len(epoch), size)]
    + for k in range(0, len(epoch) - size + 1, size)]
batches_one_order: every epoch has the order of the first
    - for epoch in np.rint(inputs["order"]).astype(int):
    + for epoch in np.rint(inputs["order"][[0] * len(inputs["order"])]).astype(int):
residual_kept: the residual is that of the start
    - whiten(train._replace(f=f), y,
    + whiten(train, y,
linearized_negative: theta_0 - theta in place of theta - theta_0
    - {"f": s.f + d.push(s, changes)}
    + {"f": s.f - d.push(s, changes)}
empirical_kernels_with_N: A and B are divided by N
    - [h @ k.T for h, k
    + [h @ k.T / len(k) for h, k
    - [a @ b.T for a, b in zip(*flat
    + [a @ b.T / len(train.f) for a, b in zip(*flat
isotropy_is_trace: alpha is the trace, not the mean eigenvalue
    - alpha = w.mean()
    + alpha = w.sum()
isotropy_absolute: the deviation is not relative to alpha
    - abs(w - alpha).max() / abs(alpha)
    + abs(w - alpha).max()
rate_is_largest: 2 / lambda_max, at which training does not converge
    - "rate": 1 / w[-1]
    + "rate": 2 / w[-1]
condition_of_moduli: the condition number of an indefinite matrix is finite
    - w[-1] / w[0] if w[0] > 0 else np.inf
    + abs(w).max() / abs(w).min()
flow_of_logits_uncentred: the logit of the target moves alone
    - (y - 1 / y.shape[1]) / alpha
    + y / alpha
flow_without_alpha: 1/alpha is missing in R
    - (y - 1 / y.shape[1]) / alpha
    + (y - 1 / y.shape[1])
flow_is_step: 1 - alpha eta t in place of e^{-alpha eta t}
    - p = np.exp(-x) * p0 - np.expm1(-x) * y
    + p = (1 - x) * p0 + x * y
standardise_columns: every input has its own mean and deviation
    - (inputs["x"] - train.mean()) / train.std()
    + (inputs["x"] - train.mean(0)) / train.std(0)
standardise_unbiased: the deviation divides by n - 1
    - train.std()
    + train.std(ddof=1)
standardise_own: x is standardised by itself
    - (inputs["x"] - train.mean()) / train.std()
    + (inputs["x"] - inputs["x"].mean()) / inputs["x"].std()
unit_norm_columns: columns are scaled to norm 1, not rows
    - x / np.linalg.norm(x, axis=1, keepdims=True)
    + x / np.linalg.norm(x, axis=0, keepdims=True)
unit_norm_of_largest: the largest entry of a row becomes 1, not its norm
    - x / np.linalg.norm(x, axis=1, keepdims=True)
    + x
unit_norm_overflows: squares of large or small entries leave the range
    - / abs(inputs["x"]).max(1, keepdims=True)
    + / 1
statistics_without_P: 1/P is missing in Sigma_x
    - w_star, x.T @ x / len(x), (
    + w_star, x.T @ x, (
statistics_centred: Sigma_x is a covariance about the mean
    - w_star, x.T @ x / len(x), (
    + w_star, np.cov(x.T, bias=True), (
statistics_without_half: 1/2 is missing in the least loss
    - / (2 * len(x))
    + / len(x)
null_update_sum: m_i w_i + w_i m_{i-1}
    - m[i + 1] @ w[i] - w[i] @ m[i]
    + m[i + 1] @ w[i] + w[i] @ m[i]
null_update_at_ends: m_0 and m_d are not 0
    - np.zeros(2 * w[0].shape[1:]), *m, np.zeros(2 * w[-1].shape[:1])
    + np.eye(w[0].shape[1]), *m, 2 * np.eye(len(w[-1]))
drift_of_first_order: h in place of h^2
    - return [h * h * c for
    + return [h * c for
flow_eta_ignored: eta is not applied
    - return -eta * d.flatten(
    + return -d.flatten(
"""


class Bug(NamedTuple):
    """words: what an implementation with it does wrong; changes: texts, each with what stands in its place."""

    words: str
    changes: list[tuple[str, str]]


def _changes(diff: str) -> list[tuple[str, str]]:
    changes = re.findall(r"^    - (.*)\n((?:    \+ .*\n)+)", diff, re.M)
    return [(old, new.removeprefix("    + ").removesuffix("\n")) for old, new in changes]


def _read(table: str) -> dict[str, Bug]:
    entries = re.findall(r"^([\w.-]+): (.+)\n((?:    [-+] .*\n)+)", table, re.M)
    return {name: Bug(words, _changes(diff)) for name, words, diff in entries}


BUGS = _read(TABLE)


@cache
def planted(name: str) -> Callable:
    """run(op, inputs, attrs) of `adapters.definitions` with the bug."""
    engine, run = (_changed(module, BUGS[name].changes) for module in (definitions, adapter))
    run.d = engine
    return run.run


def _changed(module: ModuleType, changes: list[tuple[str, str]]) -> ModuleType:
    """A copy of the module with these changes, which nothing else knows."""
    copy, text = ModuleType(module.__name__), inspect.getsource(module)
    copy.__package__ = module.__package__
    for old, new in changes:
        text = "\n".join(_with(line, old, new) for line in text.split("\n"))
    exec(compile(text, f"{module.__name__} with a bug", "exec"), vars(copy))
    return copy


def _with(line: str, old: str, new: str) -> str:
    """The line with `new` for `old`; further lines of `new` are indented as it is."""
    indent = " " * (len(line) - len(line.lstrip()))
    return line.replace(old, new.replace("\n    + ", "\n" + indent))
