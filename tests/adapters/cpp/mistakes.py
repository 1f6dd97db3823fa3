"""The template in C++ with the mistakes that ports make, behind a switch: ./conformance VECTORS RESULTS [MISTAKE].

python tests/adapters/cpp/mistakes.py CONFORMANCE.CPP     writes it, with all mistakes
python tests/adapters/cpp/mistakes.py                     lists the mistakes

They are those of `refngd.conformance.bugs` of the same name, but in code that shares nothing with it; a few of files
have their words here. `bench/suspects.py` counts how many of them `refngd check --results` names.
"""

import re
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("conformance.cpp")

# A line `name` or `name: words`, then the texts that change, each with what stands in its place.
TABLE = r"""
read_by_columns: the data of the files are read column by column
    - return Eigen::Map<const Matrix>(data.data(), rows, columns);
    + return Matrix(Eigen::Map<const Eigen::MatrixXd>(data.data(), rows, columns));
written_by_columns: the data of the files are written column by column
    - a.data()[i]
    + a(i % a.rows(), i / a.rows())
read_and_written_by_columns: the data of the files are read and written column by column
    - return Eigen::Map<const Matrix>(data.data(), rows, columns);
    + return Matrix(Eigen::Map<const Eigen::MatrixXd>(data.data(), rows, columns));
    - a.data()[i]
    + a(i % a.rows(), i / a.rows())
six_digits: a loss of precision: 6 digits printed\?
    - Json(value)
    + Json(std::stod(text(value)))
float32_results: a loss of precision: results in float32\?
    - Json(value)
    + Json(double(float(value)))
float32_constants: a loss of precision of the size of float32's rounding: constants or steps in float32\?
    - sigma_w / std::sqrt(M)
    + double(float(sigma_w) / std::sqrt(float(M)))
outputs_first_everywhere: rows are c N \+ n, not n C \+ c
    - jacobian(p.trained())
    + by_output(jacobian(p.trained()), p.trained())
    - jacobian(test) * jacobian(train).transpose() / train.N
    + by_output(by_output(jacobian(test) * jacobian(train).transpose() / train.N, test).transpose(), train).transpose()
    - coefficient(test, train, p.fisher(train))
    + by_output(by_output(coefficient(test, train, p.fisher(train)), test).transpose(), train).transpose()
bias_first
    - h_l.leftCols(M) = net.scale(M) * phi;
    + h_l.rightCols(M) = net.scale(M) * phi;
    - W[l].leftCols(M)
    + W[l].rightCols(M)
width_plus_one
    - sigma_w / std::sqrt(M)
    + sigma_w / std::sqrt(M + 1.0)
scale_is_variance
    - sigma_w / std::sqrt(M)
    + sigma_w * sigma_w / M
sigma_w_missing
    - sigma_w / std::sqrt(M)
    + 1 / std::sqrt(M)
sigma_b_missing
    - sigma_b > 0 && standard()
    + sigma_b > 0
bias_lost
    - Matrix::Constant(x.rows(), k, net.bias())
    + Matrix::Zero(x.rows(), k)
standard_as_ntk
    - parameterization == "standard"
    + false
output_activated
    - phi = u.back().unaryExpr([&](double v) { return net.phi(v); });
    + phi = u.back().unaryExpr([&](double v) { return net.phi(v); }); if (l == L - 1) u.back() = phi;
kink_is_1
    - u > -shift ? 1 : 0
    + u >= -shift ? 1 : 0
dead_units_live
    - u > -shift ? 1 : 0
    + 1
shift_inside
    - std::max(u, -shift)
    + std::max(u - shift, 0.0)
slope_of_phi
    - net.scale(M) * net.derivative(u[l - 1](r / C, i))
    + net.scale(M) * net.derivative(net.phi(u[l - 1](r / C, i)))
backward_unscaled
    - net.scale(M) * net.derivative(u[l - 1](r / C, i))
    + net.derivative(u[l - 1](r / C, i))
frozen_ignored
    - values.value("frozen", Json(0))
    + Json(0)
h_tiled
    - s.h[l].row(r / s.C)
    + s.h[l].row(r % s.N)
    - right(j, r / s.C)
    + right(j, r % s.N)
theta_column_major
    - beside(layer_jacobians(s))
    + beside(by_columns(s))
kernel_with_N_test
    - jacobian(test) * preconditioned(train, fisher) / train.N
    + jacobian(test) * preconditioned(train, fisher) / test.N
    - jacobian(test) * jacobian(train).transpose() / train.N
    + jacobian(test) * jacobian(train).transpose() / test.N
kernel_without_N
    - jacobian(test) * preconditioned(train, fisher) / train.N
    + jacobian(test) * preconditioned(train, fisher)
    - jacobian(test) * jacobian(train).transpose() / train.N
    + jacobian(test) * jacobian(train).transpose()
F_without_N
    - std::hypot(s / std::sqrt(N), std::sqrt(rho))
    + std::hypot(s, std::sqrt(rho))
rho_ignored
    - std::hypot(s / std::sqrt(N), std::sqrt(rho))
    + s / std::sqrt(N)
    - eigen(G + rho * Matrix::Identity(G.rows(), G.cols()))
    + eigen(G)
rho_before_N
    - std::hypot(s / std::sqrt(N), std::sqrt(rho))
    + std::hypot(s, std::sqrt(rho)) / std::sqrt(N)
rho_squared
    - std::hypot(s / std::sqrt(N), std::sqrt(rho))
    + std::hypot(s / std::sqrt(N), rho)
    - eigen(G + rho * Matrix::Identity(G.rows(), G.cols()))
    + eigen(G + rho * rho * Matrix::Identity(G.rows(), G.cols()))
rho_relative
    - gain(s, N, rho, q)
    + gain(s, N, rho * d.s.maxCoeff() * d.s.maxCoeff() / N, q)
    - eigen(G + rho * Matrix::Identity(G.rows(), G.cols()))
    + eigen(G + rho * svd(G).s.maxCoeff() * Matrix::Identity(G.rows(), G.cols()))
q_ignored
    - std::pow(t, 1 - 2 / q)
    + 1 / t
    - w == 0 ? 0 : std::pow(w, -1 / q)
    + w == 0 ? 0 : 1 / w
q_positive
    - std::pow(t, 1 - 2 / q)
    + std::pow(t, 1 + 2 / q)
    - w == 0 ? 0 : std::pow(w, -1 / q)
    + w == 0 ? 0 : std::pow(w, 1 / q)
q_squared
    - std::pow(t, 1 - 2 / q)
    + std::pow(t, 1 - 2 / q / q)
    - w == 0 ? 0 : std::pow(w, -1 / q)
    + w == 0 ? 0 : std::pow(w, -1 / q / q)
q_inverse
    - std::pow(t, 1 - 2 / q)
    + std::pow(t, 1 - 2 * q)
    - w == 0 ? 0 : std::pow(w, -1 / q)
    + w == 0 ? 0 : std::pow(w, -q)
cut_off_end
    - s[i] <= cut
    + s[i] == largest
cut_off_1e-3
    - std::max(R.rows(), R.cols()) * eps * largest
    + 1e-3 * largest
cut_off_none
    - std::max(R.rows(), R.cols()) * eps * largest
    + 0.0
eigenvalues_moduli
    - w == 0 ? 0 : std::pow(w, -1 / q)
    + w == 0 ? 0 : std::pow(std::abs(w), -1 / q)
    - D.minCoeff() > 0
    + true
cholesky
    - Q.diagonal() += rho * inverse.cwiseAbs2();
    + return X * NAN;
    - w == 0 ? 0 : std::pow(w, -1 / q)
    + d.w.minCoeff() < 0 ? NAN : w == 0 ? 0 : std::pow(w, -1 / q)
cholesky_refused: a Cholesky factor of an indefinite matrix, which has none
    - Q.diagonal() += rho * inverse.cwiseAbs2();
    + throw Refused("LLT failed");
loss_without_half
    - (f - y).squaredNorm() / (2 * f.rows())
    + (f - y).squaredNorm() / f.rows()
residual_negative
    - return f - y;
    + return y - f;
    - return p.array() * (1 - y.array()) - rest.array() * y.array();
    + return rest.array() * y.array() - p.array() * (1 - y.array());
loss_of_pytorch
    - (f - y).squaredNorm() / (2 * f.rows())
    + (f - y).squaredNorm() / f.size()
    - return f - y;
    + return 2 * (f - y) / f.cols();
softmax_over_samples
    - p.array().colwise() / p.rowwise().sum().array()
    + p.array().rowwise() / p.colwise().sum().array()
hessian_missing
    - if (loss.mse) return e;
    + return e;
hessian_mean
    - below({hessian_root(p, n), std::sqrt(loss.rho) * I})
    + below({mean_root(p), std::sqrt(loss.rho) * I})
loss_rho_ignored
    - below({hessian_root(p, n), std::sqrt(loss.rho) * I})
    + hessian_root(p, n)
    - power_of_root(R, 1, loss.rho, 1)
    + power_of_root(R, 1, 0, 1)
sigma_is_identity
    - Sigma = inputs.at("Sigma");
    + ;
    - Sigma(l, l + 1) = Sigma(l + 1, l) = layers[l] + 1 == layers[l + 1];
    + ;
kfac_rho_on_A
    - power_of_root(delta, s.N, rho, q)
    + power_of_root(delta, s.N, 0, q)
    - std::pow(1.0 / s.N + rho, -1 / q)
    + std::pow(1.0 / s.N, -1 / q)
    - B += fisher.rho * I_B;
    + ;
kfac_rho_on_B
    - power_of_root(h.leftCols(h.cols() - separate), s.N, rho, q)
    + power_of_root(h.leftCols(h.cols() - separate), s.N, 0, q)
    - A += fisher.rho * I_A;
    + ;
kfac_rho_root
    - power_of_root(delta, s.N, rho, q)
    + power_of_root(delta, s.N, std::sqrt(rho), q)
    - std::pow(1.0 / s.N + rho, -1 / q)
    + std::pow(1.0 / s.N + std::sqrt(rho), -1 / q)
    - power_of_root(h.leftCols(h.cols() - separate), s.N, rho, q)
    + power_of_root(h.leftCols(h.cols() - separate), s.N, std::sqrt(rho), q)
    - A += fisher.rho * I_A;
    + A += std::sqrt(fisher.rho) * I_A;
    - B += fisher.rho * I_B;
    + B += std::sqrt(fisher.rho) * I_B;
kfac_pi
    - power_of_root(delta, s.N, rho, q)
    + power_of_root(delta, s.N, std::sqrt(rho) / pi(s, l, separate, false), q)
    - std::pow(1.0 / s.N + rho, -1 / q)
    + std::pow(1.0 / s.N + std::sqrt(rho) / pi(s, l, separate, true), -1 / q)
    - power_of_root(h.leftCols(h.cols() - separate), s.N, rho, q)
    + power_of_root(h.leftCols(h.cols() - separate), s.N, std::sqrt(rho) * pi(s, l, separate, identity), q)
kfac_A_without_N
    - power_of_root(h.leftCols(h.cols() - separate), s.N, rho, q)
    + power_of_root(h.leftCols(h.cols() - separate), 1, rho, q)
    - s.h[l].transpose() * s.h[l] / s.N
    + s.h[l].transpose() * s.h[l]
kfac_B_is_mean
    - power_of_root(delta, s.N, rho, q)
    + power_of_root(delta, s.N * s.C, rho, q)
kfac_last_other
    - !fisher.gram
    + fisher.gram
kfac_bias_other
    - fisher.separate
    + !fisher.separate
kfac_bias_without_b
    - power_of_root(s.bias[l] * delta, s.N * s.N, rho, q)
    + power_of_root(delta, s.N * s.N, rho, q)
    - s.bias[l] * s.bias[l] * B / s.N
    + B / s.N
units_without_bias
    - power_of_root(J.middleCols(i, k), s.N, rho, q)
    + unit_without_bias(J.middleCols(i, k), s, rho, q)
entries_of_means
    - power_of_root(J.col(i), s.N, rho, q)
    + entry_of_means(J.col(i), s.h[l].col(i % k), s.delta[l].col(i / k), s, fisher)
quasi_is_diagonal
    - fisher.name == "QuasiDiagonal" && s.bias[l] > 0
    + false
    - s.bias[a.l] > 0 && same_unit
    + false
matrix_undamped
    - A += fisher.rho * I_A;
    + ;
    - B += fisher.rho * I_B;
    + ;
    - F + fisher.rho * I
    + F
    - fisher.Sigma(index[p].l, index[p].l) * F(p, p) + fisher.rho
    + fisher.Sigma(index[p].l, index[p].l) * F(p, p)
step_without_N
    - flattened(e) / s.N
    + flattened(e)
step_is_mean_of_outputs
    - flattened(e) / s.N
    + flattened(e) / (s.N * s.C)
ascent
    - W[s.layers[l] - 1].leftCols(dW[l].cols()) -= eta * dW[l];
    + W[s.layers[l] - 1].leftCols(dW[l].cols()) += eta * dW[l];
    - total += eta * error;
    + total -= eta * error;
    - error -= eta * (own * error);
    + error += eta * (own * error);
losses_late
    - losses(0, t) = loss_value(loss, s.f, y);
    + static double last; const double now = loss_value(loss, s.f, y); losses(0, t) = t ? last : now; last = now;
one_step_more
    - std::isfinite(t) && i < t
    + std::isfinite(t) && i <= t
wide_slope_without_sigma_w
    - slope(i, j) = w * derivative;
    + slope(i, j) = derivative;
wide_without_sigma_b
    - net.sigma_b * net.sigma_b
    + 0.0
gauss_newton_for_hessian
    - if (i != m) hv[i] += changed[i];
    + ;
sigma_x_for_root
    - applied(d, [](double w) { return std::sqrt(w); })
    + applied(d, [](double w) { return w; })
depth_missing
    - std::pow(d, -1 / rule.q)
    + 1.0
depth_without_q
    - std::pow(d, -1 / rule.q)
    + 1 / d
regularised_without_root
    - std::pow(1 + rule.rho, 1 / rule.q)
    + 1 + rule.rho
clip_missing
    - size > rule.clip
    + false
clip_by_layer
    - size > rule.clip
    + true
    - rule.clip / size
    + std::min(1.0, rule.clip / u_i.norm())
linear_ascent
    - w[i] -= eta * u[i];
    + w[i] += eta * u[i];
conserved_negative
    - w[i] * w[i].transpose() - w[i + 1].transpose() * w[i + 1]
    + w[i + 1].transpose() * w[i + 1] - w[i] * w[i].transpose()
"""

# What the mistakes need besides.
HELPERS = r"""
std::string mistake;  // the one that is planted
bool is(const char* name) { return mistake == name; }
template <class T>
auto plain(const T& value) {  // so that all choices have one type
  if constexpr (std::is_base_of_v<Eigen::EigenBase<T>, T>) return Matrix(value);
  else if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) return double(value);
  else return value;
}
"""
AFTER_SIGNALS = r"""
Matrix by_output(const Matrix& a, const Signals& s) {  // rows n C + c at c N + n
  Matrix moved(a.rows(), a.cols());
  for (long r = 0; r < a.rows(); r++) moved.row(r % s.C * s.N + r / s.C) = a.row(r);
  return moved;
}
double pi(const Signals& s, size_t l, bool separate, bool identity) {
  const Matrix A = s.h[l].leftCols(s.h[l].cols() - separate);
  const double B = identity ? 1.0 / s.N : s.delta[l].squaredNorm() / s.N / s.delta[l].cols();
  return std::sqrt(A.squaredNorm() / s.N / A.cols() / B);
}
"""
AFTER_JACOBIANS = r"""
Matrices by_columns(const Signals& s) {
  Matrices all;
  for (size_t l = 0; l < s.h.size(); l++) {
    const Matrix J = layer_jacobian(s, l);
    const long M = s.delta[l].cols(), k = s.h[l].cols();
    Matrix moved = J;
    for (long i = 0; i < M; i++)
      for (long j = 0; j < k; j++) moved.col(j * M + i) = J.col(i * k + j);
    all.push_back(moved);
  }
  return all;
}
"""
AFTER_ROOT = r"""
Matrix mean_root(const Matrix& p) {
  Matrices roots;
  for (long n = 0; n < p.rows(); n++) roots.push_back(hessian_root(p, n) / std::sqrt(p.rows()));
  return below(roots);
}
"""
AFTER_FISHER = r"""
Matrix unit_without_bias(const Matrix& J, const Signals& s, double rho, double q) {
  const long k = J.cols();
  if (s.bias[0] == 0) return power_of_root(J, s.N, rho, q);
  return below({power_of_root(J.leftCols(k - 1), s.N, rho, q), power_of_root(J.col(k - 1), s.N, rho, q)});
}
Matrix entry_of_means(const Vector& J, const Vector& h, const Vector& delta, const Signals& s, const Fisher& fisher) {
  if (fisher.name != "Entrywise") return power_of_root(J, s.N, fisher.rho, fisher.q);
  const double G = delta.squaredNorm() / s.N * h.squaredNorm() / s.N + fisher.rho;
  return J.transpose() * (G > 0 ? std::pow(G, -1 / fisher.q) : 0);
}
"""
INSERTED = [
    ("const double infinity", HELPERS),
    ("// J_l (NC, M k): row n C + c", AFTER_SIGNALS),
    ("Matrix jacobian(const Signals& s) {", AFTER_JACOBIANS),
    ("// H^{1/2} delta in place of delta", AFTER_ROOT),
    ("// (a U^T D U a / N + rho I)", AFTER_FISHER),
]


def mistakes() -> dict[str, tuple[str | None, list[tuple[str, str]]]]:
    """Of every mistake its words, a regular expression, if they are not those of the bug of that name; its changes."""
    entries = re.findall(r"^([\w-]+)(?:: (.+))?\n((?:    [-+] .*\n)+)", TABLE, re.M)
    return {
        name: (words or None, re.findall(r"^    - (.*)\n    \+ (.*)\n", diff, re.M)) for name, words, diff in entries
    }


def planted(source: str) -> str:
    """The source with all mistakes. A text that ends with ; is a statement, any other an expression."""
    choices: dict[str, list[tuple[str, str]]] = {}
    for name, (_, changes) in mistakes().items():
        for old, new in changes:
            if old not in source:
                raise ValueError(f"{name}: conformance.cpp has no {old!r}")
            choices.setdefault(old, []).append((name, new))
    texts = sorted(choices, key=len, reverse=True)
    used = set()

    def chosen(match: re.Match) -> str:
        used.add(match[0])
        return _choice(match[0], choices[match[0]])

    source = re.sub("|".join(map(re.escape, texts)), chosen, source)
    if used != set(texts):
        raise ValueError(f"these overlap with others: {sorted(set(texts) - used)}")
    for anchor, text in INSERTED:
        source = source.replace(anchor, f"{text}\n{anchor}", 1)
    main = "const std::filesystem::path vectors = arguments[1]"
    return source.replace(main, f'mistake = count > 3 ? arguments[3] : "";\n  {main}')


def _choice(old: str, choices: list[tuple[str, str]]) -> str:
    if old.endswith(";"):
        return "".join(f'if (is("{name}")) {{ {new} }} else ' for name, new in choices) + f"{{ {old} }}"
    return "(" + "".join(f'is("{name}") ? plain({new}) : ' for name, new in choices) + f"plain({old}))"


if __name__ == "__main__":
    if len(sys.argv) == 2:
        Path(sys.argv[1]).write_text(planted(SOURCE.read_text("utf-8")), "utf-8")
    else:
        print(*mistakes(), sep="\n")
