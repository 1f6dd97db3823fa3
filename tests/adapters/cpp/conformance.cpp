// The file mode of the suite in C++17 with Eigen and nlohmann-json, both header-only: refngd/definitions.py, line by
// line, as a template for compiled languages. refngd/PORTING.md is its guide.
//
//     apt-get install g++ libeigen3-dev nlohmann-json3-dev
//     g++ -std=c++17 -O1 -I/usr/include/eigen3 conformance.cpp -o conformance
//     ./conformance VECTORS RESULTS             VECTORS: data/vectors/v1, or refngd/_data/vectors/v1 where installed
//     refngd check --results RESULTS
//
// For every case it writes RESULTS/<case id>.json: {"outputs": {name: {"shape", "data"}}}, or {"error": ".."} where the
// input is refused, or {"unsupported": ".."}. Not here: infinite width but for `kernels` of relu, erf and linear, batches,
// flows, modes, linearised networks and their dynamics, alpha, isotropy, preprocessing, empirical_kernels, null_update,
// euler_drift, statistics.
//
// G of an approximation is made of blocks with roots R, R^T R / N + rho I, and K = G^{-1/q} R^T goes through the
// singular values of R, which squares nothing. step = K e / N, Theta_bar(x', x) = J(x') K / N.

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <Eigen/Dense>
#include <nlohmann/json.hpp>

using Json = nlohmann::json;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;  // as the files: row by row
using Vector = Eigen::VectorXd;
using Matrices = std::vector<Matrix>;
using std::string;

const double infinity = std::numeric_limits<double>::infinity(), eps = std::numeric_limits<double>::epsilon();

struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(bool condition, const string& message) {
  if (!condition) throw Refused(message);
}

// --------------------------------------------------------------------------------------------------------------- files

struct Array {  // values in the order of the file, whatever their arrangement
  std::vector<long> shape;
  Matrix values;
  Array() = default;
  Array(double value) : values(Matrix::Constant(1, 1, value)) {}
  Array(const Matrix& a) : shape{a.rows(), a.cols()}, values(a) {}
  Array(std::vector<long> shape, const Matrix& a) : shape(std::move(shape)), values(a) {}
};
using Inputs = std::map<string, Matrix>;
using Outputs = std::map<string, Array>;

double number(const Json& value) {
  if (!value.is_string()) return value.get<double>();
  return value == "inf" ? infinity : value == "-inf" ? -infinity : throw Refused("no number: " + value.dump());
}

string text(double value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

Matrix decoded(const string& name, const Json& array) {
  std::vector<double> data;
  for (const Json& value : array["data"]) data.push_back(number(value));
  for (double value : data) require(std::isfinite(value), name + " has non-finite entries");
  const std::vector<long> shape = array["shape"];
  const long rows = shape.size() == 2 ? shape[0] : 1, columns = shape.empty() ? 1 : shape.back();
  if (shape.size() > 2 || rows * columns != long(data.size())) throw Unsupported(name + " is no matrix");
  return Eigen::Map<const Matrix>(data.data(), rows, columns);
}

Json encoded(const Array& array) {
  const Matrix& a = array.values;
  Json data = Json::array();
  for (long i = 0; i < a.size(); i++) {
    const double value = a.data()[i];
    data.push_back(std::isinf(value) ? Json(value < 0 ? "-inf" : "inf") : Json(value));  // 17 digits where needed
  }
  return {{"shape", array.shape}, {"data", data}};
}

class Attributes {
  Json values;

 public:
  explicit Attributes(const Json& values) : values(values) {}
  bool has(const string& name) const { return values.contains(name); }
  double get(const string& name, double otherwise) const { return has(name) ? number(values[name]) : otherwise; }
  bool flag(const string& name) const { return values.value(name, false); }
  string word(const string& name, const string& otherwise) const { return values.value(name, otherwise); }
  Json frozen() const { return values.value("frozen", Json(0)); }
};

// W_1, W_2, ..
Matrices listed(const string& prefix, const Inputs& inputs) {
  Matrices found;
  for (int l = 1; inputs.count(prefix + "_" + std::to_string(l)); l++)
    found.push_back(inputs.at(prefix + "_" + std::to_string(l)));
  return found;
}

Outputs numbered(const string& prefix, const Matrices& matrices, const std::vector<int>& numbers = {}, int shift = 0) {
  Outputs outputs;
  for (size_t l = 0; l < matrices.size(); l++)
    outputs[prefix + "_" + std::to_string((numbers.empty() ? l + 1 : numbers[l]) + shift)] = matrices[l];
  return outputs;
}

string size_of(const Matrix& a) { return std::to_string(a.rows()) + " x " + std::to_string(a.cols()); }

// --------------------------------------------------------------------------------------------------- networks, K&O (1)

struct Net {
  string activation, parameterization;
  double sigma_w, sigma_b, shift;

  explicit Net(const Attributes& attrs)
      : activation(attrs.word("activation", "")),
        parameterization(attrs.word("parameterization", "ntk")),
        sigma_w(attrs.get("sigma_w", 1)),
        sigma_b(attrs.get("sigma_b", 0)),
        shift(activation == "relu" ? 0 : attrs.get("shift", 0)) {}

  double phi(double u) const {
    if (activation == "linear") return u;
    if (activation == "tanh") return std::tanh(u);
    if (activation == "erf") return std::erf(u);
    return std::max(u, -shift);
  }

  double derivative(double u) const {
    if (activation == "linear") return 1;
    if (activation == "tanh") return std::pow(std::cosh(u), -2);  // 1 - tanh^2 would cancel
    if (activation == "erf") return 2 / std::sqrt(M_PI) * std::exp(-u * u);
    return u > -shift ? 1 : 0;  // 0 at the kink
  }

  bool standard() const { return parameterization == "standard"; }
  double scale(long M) const { return standard() ? 1 : sigma_w / std::sqrt(M); }  // h = [scale phi(u) ; bias]
  double bias() const { return sigma_b > 0 && standard() ? 1 : sigma_b; }
};

struct Signals {
  Matrix f;          // (N, C)
  Matrices h;        // h_{l-1} (N, k), of the trained layers
  Matrices delta;    // delta_l (NC, M_l), row n C + c
  std::vector<double> bias;  // the last column of every h; 0: there is none
  std::vector<int> layers;   // their numbers, of 1 .. L
  int L;
  long N, C;
};

// What is fixed of the layers 1 .. L: the first k, or those of a list; L + 1 stands for "output-bias".
std::vector<bool> fixed(const Json& frozen, int L, bool bias) {
  std::vector<bool> found(L + 2, false);
  if (!frozen.is_array()) {
    require(frozen >= 0 && frozen < L, "frozen leaves no layer of W to be trained");
    for (int l = 1; l <= frozen; l++) found[l] = true;
    return found;
  }
  for (const Json& item : frozen) {
    const int l = item == "output-bias" ? (bias ? L + 1 : 0) : item.is_number_integer() ? item.get<int>() : 0;
    require(l >= 1 && l <= L + (item == "output-bias") && !found[l], "frozen has " + item.dump() + ", which is no layer");
    found[l] = true;
  }
  require(std::count(found.begin() + 1, found.end() - 1, false) > 0, "frozen leaves no layer of W to be trained");
  require(!found[L] || !found[L + 1], "frozen has the output bias and the layer that it belongs to");
  return found;
}

// u_l = h_{l-1} W_l^T, f = u_L, and delta_l = d f / d u_l, (S.65), of the layers that are trained.
Signals signals(const Net& net, const Matrices& W, const Matrix& x, const Json& frozen = 0) {
  const int L = W.size();
  const std::vector<bool> is_fixed = fixed(frozen, L, net.sigma_b > 0);
  Matrices h, u;
  Matrix phi = x;
  for (int l = 0; l < L; l++) {
    const long M = phi.cols(), k = M + (net.sigma_b > 0);
    require(W[l].cols() == k, "W_" + std::to_string(l + 1) + " is " + size_of(W[l]) + "; expected " +
                                  std::to_string(k) + " columns, as x has " + std::to_string(x.cols()));
    Matrix h_l = Matrix::Constant(x.rows(), k, net.bias());  // the bias is the last column
    h_l.leftCols(M) = net.scale(M) * phi;
    h.push_back(h_l);
    u.push_back(h_l * W[l].transpose());
    phi = u.back().unaryExpr([&](double v) { return net.phi(v); });
  }
  const long N = x.rows(), C = u.back().cols();
  Matrices delta(L);
  delta[L - 1] = Matrix::Identity(C, C).replicate(N, 1);
  for (int l = L - 1; l > 0; l--) {
    const long M = u[l - 1].cols();
    delta[l - 1] = delta[l] * W[l].leftCols(M);
    for (long r = 0; r < N * C; r++)
      for (long i = 0; i < M; i++) delta[l - 1](r, i) *= net.scale(M) * net.derivative(u[l - 1](r / C, i));
  }
  Signals s{u.back(), {}, {}, {}, {}, L, N, C};
  for (int l = 1; l <= L; l++) {
    if (is_fixed[l]) continue;
    const bool no_bias = l == L && is_fixed[L + 1];
    s.h.push_back(h[l - 1].leftCols(h[l - 1].cols() - no_bias));
    s.delta.push_back(delta[l - 1]);
    s.bias.push_back(no_bias ? 0 : net.bias());
    s.layers.push_back(l);
  }
  return s;
}

// J_l (NC, M k): row n C + c, column i k + j is delta_l[n,c,i] h_{l-1}[n,j], K&O (6).
Matrix layer_jacobian(const Signals& s, int l) {
  const long M = s.delta[l].cols(), k = s.h[l].cols();
  Matrix J(s.N * s.C, M * k);
  for (long r = 0; r < J.rows(); r++)
    for (long i = 0; i < M; i++) J.block(r, i * k, 1, k) = s.delta[l](r, i) * s.h[l].row(r / s.C);
  return J;
}

Matrices layer_jacobians(const Signals& s) {
  Matrices J;
  for (size_t l = 0; l < s.h.size(); l++) J.push_back(layer_jacobian(s, l));
  return J;
}

Matrix beside(const Matrices& parts) {
  long columns = 0, start = 0;
  for (const Matrix& a : parts) columns += a.cols();
  Matrix all(parts[0].rows(), columns);
  for (const Matrix& a : parts) all.middleCols(start, a.cols()) = a, start += a.cols();
  return all;
}

Matrix below(const Matrices& parts) {
  Matrices transposed;
  for (const Matrix& a : parts) transposed.push_back(a.transpose());
  return beside(transposed).transpose();
}

Matrix jacobian(const Signals& s) { return beside(layer_jacobians(s)); }

// v (N, C) as the vector of the n C + c, and theta as matrices of the shapes of W.
Vector flattened(const Matrix& v) { return Eigen::Map<const Vector>(v.data(), v.size()); }

Matrix folded(const Vector& v, long rows, long columns) { return Eigen::Map<const Matrix>(v.data(), rows, columns); }

Matrices unflattened(const Vector& theta, const Matrices& like) {
  Matrices parts;
  long start = 0;
  for (const Matrix& a : like) {
    parts.push_back(folded(theta.segment(start, a.size()), a.rows(), a.cols()));
    start += a.size();
  }
  return parts;
}

Matrices weights_like(const Signals& s) {
  Matrices like;
  for (size_t l = 0; l < s.h.size(); l++) like.push_back(Matrix(s.delta[l].cols(), s.h[l].cols()));
  return like;
}

Vector theta_of(const Matrices& dW) {
  Matrices rows;
  for (const Matrix& a : dW) rows.push_back(Eigen::Map<const Matrix>(a.data(), 1, a.size()));
  return beside(rows).row(0);
}

// -------------------------------------------------------------------------------------------------------------- powers

struct Svd {
  Matrix U, V;  // R = U diag(s) V^T, thin
  Vector s;     // 0 where it is 0 to rounding
};

Svd svd(const Matrix& R) {
  const Eigen::JacobiSVD<Matrix> found(R, Eigen::ComputeThinU | Eigen::ComputeThinV);
  Vector s = found.singularValues();
  const double largest = s.size() ? s.maxCoeff() : 0, cut = std::max(R.rows(), R.cols()) * eps * largest;
  for (long i = 0; i < s.size(); i++)
    if (s[i] <= cut) s[i] = 0;
  Matrix U = found.matrixU();
  for (long n = 0; n < R.rows(); n++)
    if (R.row(n).isZero(0)) U.row(n).setZero();  // not rounding: a residual of any size may stand there
  return {U, found.matrixV(), s};
}

// s (s^2/N + rho)^{-1/q}, and 0 at s = 0, which is the pseudo-inverse.
double gain(double s, double N, double rho, double q) {
  if (s == 0) return 0;
  const double t = std::hypot(s / std::sqrt(N), std::sqrt(rho));
  return s / t * std::pow(t, 1 - 2 / q);
}

// K = (R^T R / N + rho I)^{-1/q} R^T (p, n) for R (n, p).
Matrix power_of_root(const Matrix& R, double N, double rho, double q) {
  const Svd d = svd(R);
  const Vector gains = d.s.unaryExpr([&](double s) { return gain(s, N, rho, q); });
  return d.V * gains.asDiagonal() * d.U.transpose();
}

struct Eigen_ {
  Vector w;  // 0 where it is 0 to rounding
  Matrix V;
};

Eigen_ eigen(const Matrix& G) {
  const Eigen::SelfAdjointEigenSolver<Matrix> found(G);
  Vector w = found.eigenvalues();
  const double cut = G.rows() * eps * w.cwiseAbs().maxCoeff();
  for (long i = 0; i < w.size(); i++)
    if (std::abs(w[i]) <= cut) w[i] = 0;
  return {w, found.eigenvectors()};
}

Matrix applied(const Eigen_& d, const std::function<double(double)>& f) {
  return d.V * Vector(d.w.unaryExpr(f)).asDiagonal() * d.V.transpose();
}

// (G + rho I)^{-1/q} of a symmetric G, the pseudo-inverse if singular.
Matrix inverse_power(const Matrix& G, double rho, double q) {
  const Eigen_ d = eigen(G + rho * Matrix::Identity(G.rows(), G.cols()));
  require(q == 1 || std::isinf(q) || d.w.minCoeff() >= 0, "K + rho I has negative eigenvalues: q is to be 1 or inf");
  return applied(d, [&](double w) { return w == 0 ? 0 : std::pow(w, -1 / q); });
}

// ----------------------------------------------------------------------------------------------------- losses, K&O (3)

struct Loss {
  bool mse;
  double rho;
  explicit Loss(const Attributes& attrs)
      : mse(attrs.word("loss", "mse") == "mse"), rho(attrs.get("loss_rho", 0)) {
    require(rho >= 0 && std::isfinite(rho), "loss_rho is " + text(rho) + "; expected a finite number >= 0");
  }
};

// p (N, C); rest: 1 - p as the sum of the others, which does not cancel.
Matrix softmax(const Matrix& f, Matrix* rest = nullptr) {
  Matrix p = (f.colwise() - f.rowwise().maxCoeff()).array().exp();
  p = p.array().colwise() / p.rowwise().sum().array();
  if (rest) *rest = p * (Matrix::Ones(p.cols(), p.cols()) - Matrix::Identity(p.cols(), p.cols()));
  return p;
}

// ||f - y||^2 / (2N), or the mean of -log p_y.
double loss_value(const Loss& loss, const Matrix& f, const Matrix& y) {
  if (loss.mse) return (f - y).squaredNorm() / (2 * f.rows());
  double sum = 0;
  for (long n = 0; n < f.rows(); n++) {
    const Vector others = (f.row(n).array() - f.row(n).dot(y.row(n))).matrix().transpose();
    long first;
    const double largest = others.maxCoeff(&first);
    Vector rest = (others.array() - largest).exp();
    rest[first] = 0;  // log(1 + rest) does not cancel where p_y is near 1
    sum += largest + std::log1p(rest.sum());
  }
  return sum / f.rows();
}

// g (N, C), the derivative of the loss of a sample: f - y, or p - y = p (1 - y) - (1 - p) y.
Matrix residual(const Loss& loss, const Matrix& f, const Matrix& y) {
  if (loss.mse) return f - y;
  Matrix rest, p = softmax(f, &rest);
  return p.array() * (1 - y.array()) - rest.array() * y.array();
}

// R (C (C-1)/2, C) with the rows sqrt(p_a p_b) (1_a - 1_b): R^T R = Lambda = diag(p) - p p^T, (S.158).
Matrix hessian_root(const Matrix& p, long n) {
  const long C = p.cols();
  Matrix R = Matrix::Zero(C * (C - 1) / 2, C);
  long row = 0;
  for (long a = 0; a < C; a++)
    for (long b = a + 1; b < C; b++, row++) {
      R(row, a) = std::sqrt(p(n, a) * p(n, b));
      R(row, b) = -R(row, a);
    }
  return R;
}

// H^{1/2} delta in place of delta, and e = H^{-1/2} g, H = Lambda + loss_rho I: then J^T J / N has H in it, (S.159).
Matrix whiten(Signals& s, const Matrix& y, const Loss& loss) {
  Matrix e = residual(loss, s.f, y);
  if (loss.mse) return e;
  const Matrix p = softmax(s.f), I = Matrix::Identity(s.C, s.C);
  for (long n = 0; n < s.N; n++) {
    const Matrix R = below({hessian_root(p, n), std::sqrt(loss.rho) * I});  // H = R^T R
    const Matrix polar = power_of_root(R, 1, 0, 2);                         // H^{-1/2} R^T
    e.row(n) = (power_of_root(R, 1, 0, 1) * (polar.transpose() * e.row(n).transpose())).transpose();
    for (Matrix& delta : s.delta) delta.middleRows(n * s.C, s.C) = polar * R * delta.middleRows(n * s.C, s.C);
  }
  return e;
}

// ------------------------------------------------------------------------------------------------- approximations of F

struct Fisher {
  string name;
  Matrix Sigma;
  bool separate, gram;
  double rho, q;

  Fisher(const Inputs& inputs, const Attributes& attrs, const std::vector<int>& layers)
      : name(attrs.word("fisher", "")),
        separate(attrs.word("kfac_bias", "augmented") == "separate"),
        gram(attrs.word("kfac_last", "identity") == "gram"),
        rho(attrs.get("rho", 0)),
        q(attrs.get("q", 1)) {
    if (attrs.word("kfac_damping", "factors") != "factors") throw Unsupported("the damping of the product");
    require(rho >= 0 && std::isfinite(rho), "rho is " + text(rho) + "; expected a finite number >= 0");
    require(q >= 1, "q is " + text(q) + "; expected q >= 1");
    const long L = layers.size();
    Sigma = Matrix::Identity(L, L);
    if (name == "Exact") Sigma.setOnes();
    for (long l = 0; name == "BlockTridiagonal" && l + 1 < L; l++)  // neighbours in the network
      Sigma(l, l + 1) = Sigma(l + 1, l) = layers[l] + 1 == layers[l + 1];
    if (name != "Layerwise") return;
    Sigma = inputs.at("Sigma");
    require(Sigma.rows() == L && Sigma.cols() == L, "Sigma is " + size_of(Sigma) + "; there are " +
                                                        std::to_string(L) + " layers");
    require(Sigma == Sigma.transpose(), "Sigma is not symmetric");
  }
};

// (a U^T D U a / N + rho I)^{-1/q} X for X (r, n), U (n, r), a (r) > 0 and signs D (n): definitions.signed_power.
Matrix signed_power(const Matrix& U, const Vector& a, const Vector& D, double N, double rho, double q, Matrix X) {
  const Vector t = a.unaryExpr([&](double v) { return std::hypot(v / std::sqrt(N), std::sqrt(rho)); });
  if (a.size() == 0 || D.size() == 0 || D.minCoeff() > 0) return t.array().pow(-2 / q).matrix().asDiagonal() * X;
  require(q == 1, "G is indefinite: q is " + text(q) + "; expected 1 or inf");
  const Vector c = a.cwiseQuotient(t), inverse = t.cwiseInverse();
  Matrix Q = c.asDiagonal() * (U.transpose() * D.asDiagonal() * U) * c.asDiagonal() / N;
  Q.diagonal() += rho * inverse.cwiseAbs2();
  const Eigen::SelfAdjointEigenSolver<Matrix> found(Q);
  const double cut = Q.rows() * eps * a.maxCoeff() / t.minCoeff();
  Vector w = found.eigenvalues();
  const Matrix Z = found.eigenvectors();
  Matrices null;
  for (long i = 0; i < w.size(); i++) {
    if (std::abs(w[i]) <= cut) null.push_back(Z.col(i).cwiseQuotient(t));
    w[i] = std::abs(w[i]) <= cut ? 0 : 1 / w[i];
  }
  Matrix P = Matrix::Identity(Q.rows(), Q.rows());  // takes away the null space Z / t
  if (!null.empty()) {
    const Svd d = svd(beside(null));
    P -= d.U * d.U.transpose();
  }
  return P * (inverse.asDiagonal() * (Z * w.asDiagonal() * (Z.transpose() * (inverse.asDiagonal() * (P * X)))));
}

// K of G = S^T (Sigma (x) I) S / N + rho I, S = blockdiag(J_l), K&O (15): Sigma = T^T D T has signs D.
Matrix coupled(const Signals& s, const Fisher& fisher) {
  const Matrices J = layer_jacobians(s);
  const Matrix JT = beside(J).transpose();
  const Eigen_ sigma = eigen(fisher.Sigma);
  const long NC = s.N * s.C;
  Matrices rows;
  std::vector<double> sign, z;
  Vector reached = Vector::Zero(J.size());
  for (long m = 0; m < sigma.w.size(); m++) {
    if (sigma.w[m] == 0) continue;
    const double root = std::sqrt(std::abs(sigma.w[m])), along = sigma.V.col(m).sum();
    Matrices row;
    for (size_t l = 0; l < J.size(); l++) row.push_back(root * sigma.V(l, m) * J[l]);
    rows.push_back(beside(row));
    sign.push_back(sigma.w[m] > 0 ? 1 : -1);
    z.push_back(along / root);
    reached += along * sigma.V.col(m);
  }
  if (rows.empty()) return (fisher.rho > 0 ? std::pow(fisher.rho, -1 / fisher.q) : 0) * JT;  // Sigma = 0
  const Svd d = svd(below(rows));  // of (r NC, P)
  const long rank = (d.s.array() > 0).count();
  const Matrix U = d.U.leftCols(rank), V = d.V.leftCols(rank);
  const Vector a = d.s.head(rank);
  Vector D(U.rows());
  for (long i = 0; i < D.size(); i++) D[i] = sign[i / NC];
  const bool in_range = (reached.array() - 1).abs().maxCoeff() < 1e3 * eps;
  Matrix X = V.transpose() * JT;
  if (in_range) {  // J^T = R^T z
    X.setZero();
    for (size_t m = 0; m < z.size(); m++) X += z[m] * U.middleRows(m * NC, NC).transpose();
    X = a.asDiagonal() * X;
  }
  const Matrix K = V * signed_power(U, a, D, s.N, fisher.rho, fisher.q, X);
  if (in_range || fisher.rho == 0) return K;
  return K + std::pow(fisher.rho, -1 / fisher.q) * (JT - V * (V.transpose() * JT));
}

// The rows (M k, NC) of K of a layer: (B* + rho I)^{-1/q} delta^T times (A* + rho I)^{-1/q} h^T, sample by sample.
Matrix kfac(const Signals& s, const Fisher& fisher, size_t l) {
  const Matrix &h = s.h[l], &delta = s.delta[l];
  const bool separate = s.bias[l] > 0 && fisher.separate;
  const double rho = fisher.rho, q = fisher.q;
  const bool identity = s.layers[l] == s.L && !fisher.gram;  // B*_L = I / N
  const Matrix left = identity ? Matrix(std::pow(1.0 / s.N + rho, -1 / q) * delta.transpose())
                               : power_of_root(delta, s.N, rho, q);                  // (M, NC)
  const Matrix right = power_of_root(h.leftCols(h.cols() - separate), s.N, rho, q);  // (k, N)
  const Matrix bias = power_of_root(s.bias[l] * delta, s.N * s.N, rho, q);              // (M, NC), the matrix (S.123)
  Matrix K(delta.cols() * h.cols(), s.N * s.C);
  for (long i = 0; i < delta.cols(); i++)
    for (long j = 0; j < h.cols(); j++)
      for (long r = 0; r < K.cols(); r++)
        K(i * h.cols() + j, r) = j == right.rows() ? bias(i, r) : left(i, r) * right(j, r / s.C);
  return K;
}

// The rows (k, NC) of K of a unit with its bias, the last column of J (NC, k): definitions.quasi_diagonal.
Matrix quasi_diagonal(const Matrix& J, double N, double rho, double q) {
  const long k = J.cols();
  const Vector J_0 = J.col(k - 1);
  const double F_00 = J_0.squaredNorm(), A_00 = F_00 + rho > 0 ? F_00 / N + rho : 1;
  Matrix T = Matrix::Zero(k, k), X(k, J.rows());
  auto put = [&](long i, double D, const Vector& r) {
    T(i, i) = std::sqrt(D);
    X.row(i) = r.transpose() / (D > 0 ? std::sqrt(D) : 1);
  };
  for (long i = 0; i < k - 1; i++) {
    const double b = J.col(i).dot(J_0) / (F_00 > 0 ? F_00 : 1), beta = b * (F_00 / N / A_00);
    Vector o = J.col(i) - b * J_0;
    if (o.norm() <= J.rows() * eps * J.col(i).norm()) o.setZero();
    put(i, o.squaredNorm() / N + rho * (1 + b * beta), o + b * (rho / A_00) * J_0);
    T(k - 1, i) = std::sqrt(A_00) * beta;
  }
  put(k - 1, A_00, J_0);
  return power_of_root(T, 1, 0, q) * X;
}

// K = G^{-1/q} J^T (P, NC).
Matrix preconditioned(const Signals& s, const Fisher& fisher) {
  const double rho = fisher.rho, q = fisher.q;
  if (fisher.name == "Identity" || std::isinf(q)) return std::pow(1 + rho, -1 / q) * jacobian(s).transpose();
  if (fisher.name == "Exact") return power_of_root(jacobian(s), s.N, rho, q);
  if (fisher.name == "BlockTridiagonal" || fisher.name == "Layerwise") return coupled(s, fisher);
  Matrices K;
  for (size_t l = 0; l < s.h.size(); l++) {
    const Matrix J = layer_jacobian(s, l);
    const long k = s.h[l].cols();
    if (fisher.name == "KFAC") K.push_back(kfac(s, fisher, l));
    else if (fisher.name == "BlockDiagonal") K.push_back(power_of_root(J, s.N, rho, q));
    else if (fisher.name == "Unitwise")
      for (long i = 0; i < J.cols(); i += k) K.push_back(power_of_root(J.middleCols(i, k), s.N, rho, q));
    else if (fisher.name == "QuasiDiagonal" && s.bias[l] > 0)
      for (long i = 0; i < J.cols(); i += k) K.push_back(quasi_diagonal(J.middleCols(i, k), s.N, rho, q));
    else if (fisher.name == "Entrywise" || fisher.name == "QuasiDiagonal")
      for (long i = 0; i < J.cols(); i++) K.push_back(power_of_root(J.col(i), s.N, rho, q));
    else throw Unsupported(fisher.name);
  }
  return below(K);
}

// (B* + rho I) (x) (A* + rho I), K&O (20), (S.95); a separate bias has b^2 B* / N + rho I instead, (S.123).
Matrix kfac_block(const Signals& s, const Fisher& fisher, size_t l) {
  Matrix A = s.h[l].transpose() * s.h[l] / s.N, B = s.delta[l].transpose() * s.delta[l] / s.N;
  const Matrix I_A = Matrix::Identity(A.rows(), A.rows()), I_B = Matrix::Identity(B.rows(), B.rows());
  const Matrix bias_block = s.bias[l] * s.bias[l] * B / s.N + fisher.rho * I_B;
  if (s.layers[l] == s.L && !fisher.gram) B = I_B / s.N;
  A += fisher.rho * I_A;
  B += fisher.rho * I_B;
  const long k = A.rows(), M = B.rows();
  Matrix G(M * k, M * k);
  for (long i = 0; i < M; i++)
    for (long m = 0; m < M; m++) G.block(i * k, m * k, k, k) = B(i, m) * A;
  for (long i = 0; s.bias[l] > 0 && fisher.separate && i < M; i++)
    for (long m = 0; m < M; m++) {
      G.block(i * k, m * k, k, k).row(k - 1).setZero(), G.block(i * k, m * k, k, k).col(k - 1).setZero();
      G(i * k + k - 1, m * k + k - 1) = bias_block(i, m);
    }
  return G;
}

// G (P, P): what the approximation keeps of F = J^T J / N, with its damping. No step needs it.
Matrix matrix(const Signals& s, const Fisher& fisher) {
  struct Index { size_t l; long i, bias; };  // layer, unit, and the parameter that is the unit's bias
  std::vector<Index> index;
  for (size_t l = 0; l < s.h.size(); l++)
    for (long i = 0; i < s.delta[l].cols(); i++) {
      const long last = index.size() + s.h[l].cols() - 1;
      for (long j = 0; j < s.h[l].cols(); j++) index.push_back({l, i, last});
    }
  const Matrix J = jacobian(s);
  const long P = J.cols();
  const Matrix I = Matrix::Identity(P, P), F = fisher.name == "Identity" ? I : Matrix(J.transpose() * J / s.N);
  const Matrix A = F + fisher.rho * I;
  Matrix G = fisher.rho * I;
  if (fisher.name == "KFAC") {
    long start = 0;
    for (size_t l = 0; l < s.h.size(); l++) {
      const Matrix block = kfac_block(s, fisher, l);
      G.block(start, start, block.rows(), block.rows()) = block, start += block.rows();
    }
    return G;
  }
  for (long p = 0; p < P; p++)
    for (long r = 0; r < P; r++) {
      const Index &a = index[p], &b = index[r];
      const bool same_unit = a.l == b.l && a.i == b.i;
      if (p == r || fisher.name == "Identity" || fisher.name == "Entrywise") G(p, r) = p == r ? A(p, p) : 0;
      else if (fisher.name == "Unitwise") G(p, r) = same_unit ? F(p, r) : 0;
      else if (fisher.name != "QuasiDiagonal") G(p, r) = fisher.Sigma(a.l, b.l) * F(p, r);
      else if (s.bias[a.l] > 0 && same_unit) {
        const double A_00 = A(a.bias, a.bias);
        G(p, r) = A(a.bias, p) * A(b.bias, r) / (A_00 > 0 ? A_00 : 1);
      } else G(p, r) = 0;
    }
  for (long p = 0; fisher.name == "Layerwise" && p < P; p++)
    G(p, p) = fisher.Sigma(index[p].l, index[p].l) * F(p, p) + fisher.rho;
  return G;
}

// -------------------------------------------------------------------------- steps and predictions, K&O (9), (10), (11)

Matrices direction(const Signals& s, const Matrix& e, const Fisher& fisher) {
  return unflattened(preconditioned(s, fisher) * flattened(e) / s.N, weights_like(s));
}

Matrix coefficient(const Signals& test, const Signals& train, const Fisher& fisher) {
  return jacobian(test) * preconditioned(train, fisher) / train.N;
}

// ---------------------------------------------------------------------------------------------- infinite width, (S.66)

// E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of standard deviations a, b and correlation r, in closed form.
std::pair<double, double> averages(const string& activation, double r, double a, double b) {
  if (std::abs(r) > 1 - 4 * eps) r = r < 0 ? -1 : 1;  // or rounding, of which the angle takes the root
  if (activation == "linear") return {a * b * r, 1};
  if (activation == "relu") {
    const double angle = M_PI - std::acos(r);
    return {a * b * (std::sqrt(1 - r * r) + angle * r) / (2 * M_PI), angle / (2 * M_PI)};
  }
  if (activation != "erf") throw Unsupported("the averages of " + activation);
  const double A = 1 + 2 * a * a, B = 1 + 2 * b * b, c = 2 * a * b * r;
  return {2 / M_PI * std::atan2(c, std::sqrt(A * B - c * c)), 4 / M_PI / std::sqrt(A * B - c * c)};
}

struct Wide {
  Matrices A, B;  // A_0 .. A_{L-1} and B_1 .. B_L (N', N), the same for every output
};

Wide wide_kernels(const Net& net, int L, const Matrix& test, const Matrix& train) {
  const double w = net.sigma_w * net.sigma_w, b = net.sigma_b * net.sigma_b;
  const long M_0 = train.cols();
  Matrices A = {w * test * train.transpose() / M_0 + Matrix::Constant(test.rows(), train.rows(), b)}, slopes;
  Vector q1 = w * test.rowwise().squaredNorm() / M_0, q = w * train.rowwise().squaredNorm() / M_0;
  q1.array() += b, q.array() += b;  // the variances of u_l
  for (int l = 1; l < L; l++) {
    Matrix next(A[0].rows(), A[0].cols()), slope = next;
    for (long i = 0; i < next.rows(); i++)
      for (long j = 0; j < next.cols(); j++) {
        const bool same = test.row(i) == train.row(j);
        const double r = same ? 1 : A.back()(i, j) / std::sqrt(q1[i] * q[j]);
        if (!same && 1 - std::abs(r) < 1e-4 && r > 1e-14 - 1) throw Unsupported("angles too small for their cosines");
        const auto [product, derivative] = averages(net.activation, r, std::sqrt(q1[i]), std::sqrt(q[j]));
        next(i, j) = w * product + b;
        slope(i, j) = w * derivative;
      }
    const auto variance = [&](double v) {
      return w * averages(net.activation, 1, std::sqrt(v), std::sqrt(v)).first + b;
    };
    q1 = q1.unaryExpr(variance).eval(), q = q.unaryExpr(variance).eval();
    A.push_back(next);
    slopes.push_back(slope);
  }
  Matrices B(L, Matrix::Ones(test.rows(), train.rows()));
  for (int l = L - 1; l > 0; l--) B[l - 1] = B[l].cwiseProduct(slopes[l - 1]);
  return {A, B};
}

// ------------------------------------------------------------------------------------------------ deep linear networks

struct Linear {  // L_i = w_d .. w_{i+1}, R_i = w_{i-1} .. w_1 S, E = (w_d .. w_1 - w_star) S
  Matrices w, L, R;
  Matrix S, E;

  Linear(const Matrices& w, const Matrix& w_star, const Matrix& S) : w(w), S(S) {
    const int d = w.size();
    for (int i = 1; i < d; i++)
      require(w[i].cols() == w[i - 1].rows(), "w_" + std::to_string(i + 1) + " takes " + std::to_string(w[i].cols()) +
                                                  " inputs; w_" + std::to_string(i) + " has other outputs");
    L.assign(d, Matrix::Identity(w[d - 1].rows(), w[d - 1].rows()));
    R.assign(d, S);
    for (int i = d - 1; i > 0; i--) L[i - 1] = L[i] * w[i];
    const Matrix w_bar = L[0] * w[0];
    require(w_bar.rows() == w_star.rows() && w_bar.cols() == w_star.cols(),
            "w_star is " + size_of(w_star) + "; expected " + size_of(w_bar));
    for (int i = 1; i < d; i++) R[i] = w[i - 1] * R[i - 1];
    E = (w_bar - w_star) * S;
  }

  double loss() const { return E.squaredNorm() / 2; }  // Huh (1)

  Matrix push(const Matrices& dw) const {
    Matrix sum = Matrix::Zero(E.rows(), E.cols());
    for (size_t i = 0; i < w.size(); i++) sum += L[i] * dw[i] * R[i];
    return sum;
  }

  Matrices pull(const Matrix& Lambda) const {  // of E it is the gradient, Huh (4)
    Matrices g;
    for (size_t i = 0; i < w.size(); i++) g.push_back(L[i].transpose() * Lambda * R[i].transpose());
    return g;
  }

  Matrix jacobian() const {  // (n_in n_out, P): row n n_out + c
    Matrices parts;
    for (size_t i = 0; i < w.size(); i++) {
      Matrix J(S.cols() * E.rows(), w[i].size());
      for (long n = 0; n < S.cols(); n++)
        for (long a = 0; a < w[i].rows(); a++)
          for (long b = 0; b < w[i].cols(); b++)
            J.block(n * E.rows(), a * w[i].cols() + b, E.rows(), 1) = L[i].col(a) * R[i](b, n);
      parts.push_back(J);
    }
    return beside(parts);
  }

  Matrices conserved() const {  // Huh (15)
    Matrices c;
    for (size_t i = 0; i + 1 < w.size(); i++)
      c.push_back(w[i] * w[i].transpose() - w[i + 1].transpose() * w[i + 1]);
    return c;
  }
};

// H dw, Huh (2): H_+ dw, (3), and the change of L_i and R_i in the gradient, one factor w_m at a time, m != i.
Matrices hessian_product(const Linear& at, const Matrices& dw, const Matrix& w_star) {
  Matrices hv = at.pull(at.push(dw));
  for (size_t m = 0; m < dw.size(); m++) {
    Matrices w = at.w;
    w[m] = dw[m];
    const Matrices changed = Linear(w, w_star, at.S).pull(at.E);
    for (size_t i = 0; i < hv.size(); i++)
      if (i != m) hv[i] += changed[i];
  }
  return hv;
}

struct Rule {
  double q, rho, clip;
  bool block, regularised;

  explicit Rule(const Attributes& attrs)
      : q(attrs.get("q", 1)),
        rho(attrs.get("rho", 0)),
        clip(attrs.get("clip", infinity)),
        block(attrs.flag("block")),
        regularised(attrs.flag("regularised")) {
    require(q >= 1, "q is " + text(q) + "; expected q >= 1");
    require(rho >= 0 && std::isfinite(rho), "rho is " + text(rho) + "; expected a finite number >= 0");
    require(clip > 0, "clip is " + text(clip) + "; expected a number > 0");
  }
};

// (J_i^T J_i + rho I)^{-1/q} J_i^T E from the singular values, products, of J_i = R_i^T (x) L_i.
Matrix block_update(const Matrix& L, const Matrix& R, const Matrix& E, const Rule& rule) {
  const Svd l = svd(L), r = svd(R.transpose());
  Matrix gains(l.s.size(), r.s.size());
  for (long i = 0; i < gains.rows(); i++)
    for (long j = 0; j < gains.cols(); j++) gains(i, j) = gain(l.s[i] * r.s[j], 1, rule.rho, rule.q);
  const Matrix inner = l.U.transpose() * E * r.U;
  return l.V * gains.cwiseProduct(inner) * r.V.transpose();
}

// u of w' = -eta u: (H_+ + rho I)^{-1/q} J^T E, Huh (9), (12); block: d^{-1/q} times that of every layer, (19).
Matrices update(const Linear& at, const Rule& rule) {
  const double d = at.w.size();
  Matrices u;
  for (size_t i = 0; rule.block && i < at.w.size(); i++)
    u.push_back(std::pow(d, -1 / rule.q) * block_update(at.L[i], at.R[i], at.E, rule));
  if (!rule.block)
    u = unflattened(power_of_root(at.jacobian(), 1, rule.rho, rule.q) * flattened(at.E.transpose()), at.w);
  if (rule.regularised)
    for (Matrix& u_i : u) u_i *= std::pow(1 + rule.rho, 1 / rule.q);  // (S.I.15), before the clip
  const double size = theta_of(u).norm();
  for (Matrix& u_i : u)
    if (size > rule.clip) u_i *= rule.clip / size;
  return u;
}

// ---------------------------------------------------------------------------------------------------------- operations

struct Problem {
  const Inputs& inputs;
  const Attributes& attrs;

  const Matrix& input(const string& name) const {
    require(inputs.count(name), "the input " + name + " is missing");
    return inputs.at(name);
  }
  Signals trained(const string& x = "x") const {
    return signals(Net(attrs), listed("W", inputs), input(x), attrs.frozen());
  }
  Fisher fisher(const Signals& s) const { return Fisher(inputs, attrs, s.layers); }
  double eta() const {
    const double eta = attrs.get("eta", 1);
    require(eta > 0 && std::isfinite(eta), "eta is " + text(eta) + "; expected a finite number > 0");
    return eta;
  }
  int steps() const {
    const double steps = attrs.get("steps", 0);
    require(steps >= 0 && steps == std::floor(steps), "steps is " + text(steps) + "; expected 0, 1, 2, ..");
    return steps;
  }
  const Matrix& targets(const Matrix& f, const Loss& loss, const string& name = "y") const {
    const Matrix& y = input(name);
    require(y.rows() == f.rows() && y.cols() == f.cols(), name + " is " + size_of(y) + "; expected " + size_of(f));
    const bool binary = (y.array() == 0 || y.array() == 1).all();
    const bool one_hot = y.cols() > 1 && binary && (y.rowwise().sum().array() == 1).all();
    require(loss.mse || one_hot, "y is not one-hot");
    return y;
  }
  Linear linear() const {
    const Matrix& w_star = input("w_star");
    Matrix S = Matrix::Identity(w_star.cols(), w_star.cols());  // white inputs
    if (inputs.count("Sigma_x")) {
      const Matrix& Sigma_x = input("Sigma_x");
      require(Sigma_x.rows() == S.rows() && Sigma_x == Sigma_x.transpose(), "Sigma_x is not symmetric");
      const Eigen_ d = eigen(Sigma_x);
      require(d.w.minCoeff() >= 0, "Sigma_x has a negative eigenvalue");
      S = applied(d, [](double w) { return std::sqrt(w); });
    }
    return Linear(listed("w", inputs), w_star, S);
  }
};

Outputs together(std::initializer_list<Outputs> parts) {
  Outputs all;
  for (const Outputs& part : parts) all.insert(part.begin(), part.end());
  return all;
}

Outputs deltas(const string& name, const Signals& s) {
  Outputs outputs;
  for (size_t l = 0; l < s.delta.size(); l++)
    outputs[name + "_" + std::to_string(s.layers[l])] = Array({s.N, s.C, s.delta[l].cols()}, s.delta[l]);
  return outputs;
}

Outputs all_signals(const Signals& s) {
  return together({{{"f", s.f}}, numbered("h", s.h, s.layers, -1), deltas("delta", s)});
}

Outputs direction_of(const Problem& p) {  // with the intermediates, which are welcome
  const Signals s = p.trained();
  const Loss loss(p.attrs);
  const Matrix& y = p.targets(s.f, loss);
  Signals white = s;
  const Matrix e_white = whiten(white, y, loss);
  const Matrices dW = direction(white, e_white, p.fisher(s));
  Outputs found = together({numbered("dW", dW, s.layers), all_signals(s)});
  found["e"] = residual(loss, s.f, y);
  return loss.mse ? found : together({found, deltas("delta_white", white), {{"e_white", e_white}}});
}

Outputs training(const Problem& p) {
  const Loss loss(p.attrs);
  const Net net(p.attrs);
  const double eta = p.eta();
  Matrices W = listed("W", p.inputs);
  const Matrix &x = p.input("x"), y = p.targets(p.trained().f, loss);
  Matrix losses(1, p.steps() + 1);
  for (int t = 0; t <= p.steps(); t++) {
    Signals s = signals(net, W, x, p.attrs.frozen());
    losses(0, t) = loss_value(loss, s.f, y);
    if (t == p.steps()) break;
    const Matrix e = whiten(s, y, loss);
    const Matrices dW = direction(s, e, p.fisher(s));
    for (size_t l = 0; l < dW.size(); l++) W[s.layers[l] - 1].leftCols(dW[l].cols()) -= eta * dW[l];
  }
  return together({numbered("W", W), {{"loss", Array({losses.size()}, losses)}}});
}

Outputs prediction(const Problem& p) {  // t steps f <- f - eta Theta_bar (f - y) of the linearised network
  const Signals test = p.trained("x_test"), train = p.trained();
  const Matrix& y = p.targets(train.f, Loss(p.attrs));
  const Fisher fisher = p.fisher(train);
  const double eta = p.eta(), t = p.attrs.get("t", 0);
  require(t >= 0 && (std::isinf(t) || t == std::floor(t)), "t is " + text(t) + "; expected 0, 1, 2, .. or inf");
  const Matrix own = coefficient(train, train, fisher), cross = coefficient(test, train, fisher);
  Vector error = flattened(y - train.f), total = Vector::Zero(error.size());
  if (std::isinf(t)) {
    const double fastest = eta * eigen(own).w.maxCoeff();
    require(fastest <= 2, "t = inf: there is no limit, since eta times the largest eigenvalue is " + text(fastest));
    total = inverse_power(own, 0, 1) * error;
  }
  for (int i = 0; std::isfinite(t) && i < t; i++) {
    total += eta * error;
    error -= eta * (own * error);
  }
  return {{"f_train", Matrix(train.f + folded(own * total, train.N, train.C))},
          {"f_test", Matrix(test.f + folded(cross * total, test.N, test.C))}};
}

// Theta_bar; with the output Hessian H (y is given) J' K H^{-1/2} / N, (S.159).
Outputs coefficient_of(const Problem& p) {
  const Signals test = p.trained("x_test"), train = p.trained();
  if (!p.inputs.count("y")) return {{"Theta_bar", coefficient(test, train, p.fisher(train))}};
  const Loss loss(p.attrs);
  Signals white = train;
  whiten(white, p.targets(train.f, loss), loss);
  Matrix Theta_bar = coefficient(test, white, p.fisher(white));
  const Matrix probability = softmax(train.f);
  for (long n = 0; n < train.N; n++) {
    const Matrix R = hessian_root(probability, n);
    Theta_bar.middleCols(n * train.C, train.C) *= inverse_power(R.transpose() * R, loss.rho, 2);
  }
  return {{"Theta_bar", Theta_bar}};
}

Outputs push(const Problem& p) {
  const Signals s = p.trained();
  const Matrices dW = listed("dW", p.inputs), like = weights_like(s);
  require(dW.size() == like.size(), "dW has another number of layers than W");
  for (size_t l = 0; l < dW.size(); l++)
    require(dW[l].rows() == like[l].rows() && dW[l].cols() == like[l].cols(),
            "dW_" + std::to_string(l + 1) + " is " + size_of(dW[l]) + "; expected " + size_of(like[l]));
  return {{"Jv", folded(jacobian(s) * theta_of(dW), s.N, s.C)}};
}

Outputs pull(const Problem& p) {
  const Signals s = p.trained();
  const Vector v = flattened(p.targets(s.f, Loss(p.attrs), "v"));
  return numbered("dW", unflattened(jacobian(s).transpose() * v, weights_like(s)), s.layers);
}

Outputs fisher_matrix(const Problem& p) {
  Signals s = p.trained();
  const Loss loss(p.attrs);
  if (p.inputs.count("y")) whiten(s, p.targets(s.f, loss), loss);
  return {{"G", matrix(s, p.fisher(s))}};
}

Outputs cross_entropy(const Problem& p) {
  const Loss loss(Attributes({{"loss", "cross-entropy"}, {"loss_rho", p.attrs.get("loss_rho", 0)}}));
  const Matrix &f = p.input("f"), &y = p.targets(f, loss), g = residual(loss, f, y), probability = softmax(f);
  const long N = f.rows(), C = f.cols();
  Matrix hessian(N * C, C), velocity(N, C);
  for (long n = 0; n < N; n++) {  // the velocity is -alpha (Lambda + rho I)^{-1} Lambda g
    const Matrix R = hessian_root(probability, n);
    hessian.middleRows(n * C, C) = R.transpose() * R;
    const Vector change = power_of_root(R, 1, loss.rho, 1) * (R * g.row(n).transpose());
    velocity.row(n) = -p.attrs.get("alpha", 1) * change.transpose();
  }
  const Array hessians({N, C, C}, hessian);
  return {{"value", loss_value(loss, f, y)}, {"residual", g}, {"hessian", hessians}, {"velocity", velocity}};
}

Outputs inverse_power_of(const Problem& p) {
  const Matrix& K = p.input("K");
  const double q = p.attrs.get("q", 1);
  require(q >= 1, "q is " + text(q) + "; expected q >= 1");
  require(K.rows() == K.cols() && K == K.transpose(), "K is not symmetric");
  return {{"power", inverse_power(K, p.attrs.get("rho", 0), q)}};
}

Outputs kernels(const Problem& p) {
  const Net net(p.attrs);
  const Matrix &x = p.input("x"), &x_test = p.inputs.count("x_test") ? p.input("x_test") : x;
  require(!net.standard(), "parameterization is standard, which has no limit of infinite width");
  for (const auto& [name, a] : p.inputs)
    require(net.sigma_b > 0 || (a.rowwise().squaredNorm().array() > 0).all(), name + " has a sample of zeros");
  const Wide k = wide_kernels(net, p.attrs.get("depth", 1), x_test, x);
  Matrix Theta = Matrix::Zero(x_test.rows(), x.rows());
  for (size_t l = 0; l < k.A.size(); l++) Theta += k.B[l].cwiseProduct(k.A[l]) / x.rows();
  return together({numbered("A", k.A, {}, -1), numbered("B", k.B), {{"Theta", Theta}}});
}

Outputs deep_linear(const Problem& p) {
  const Linear at = p.linear();
  const Matrices dw = listed("dw", p.inputs);
  const Matrix J = at.jacobian();
  Outputs found = together({numbered("g", at.pull(at.E)), numbered("c", at.conserved()), {{"loss", at.loss()}}});
  found["K"] = Matrix(J * J.transpose());
  if (dw.empty()) return found;
  const Matrices hv = hessian_product(at, dw, p.input("w_star"));
  return together({found, numbered("gn", at.pull(at.push(dw))), numbered("hv", hv)});
}

Outputs deep_linear_step(const Problem& p) {
  const Rule rule(p.attrs);
  const double eta = p.eta();
  Linear at = p.linear();
  Matrix losses(1, p.steps() + 1);
  losses(0, 0) = at.loss();
  for (int t = 1; t <= p.steps(); t++) {
    const Matrices u = update(at, rule);
    Matrices w = at.w;
    for (size_t i = 0; i < w.size(); i++) w[i] -= eta * u[i];
    at = Linear(w, p.input("w_star"), at.S);
    losses(0, t) = at.loss();
  }
  return together({numbered("w", at.w), numbered("c", at.conserved()), {{"loss", Array({losses.size()}, losses)}}});
}

const std::map<string, std::function<Outputs(const Problem&)>> operations = {
    {"forward", [](const Problem& p) { return Outputs{{"f", p.trained().f}}; }},
    {"signals", [](const Problem& p) { return all_signals(p.trained()); }},
    {"jacobian", [](const Problem& p) { return Outputs{{"J", jacobian(p.trained())}}; }},
    {"push", push},
    {"pull", pull},
    {"ntk",
     [](const Problem& p) {
       const Signals test = p.trained("x_test"), train = p.trained();
       return Outputs{{"Theta", Matrix(jacobian(test) * jacobian(train).transpose() / train.N)}};
     }},
    {"fisher_matrix", fisher_matrix},
    {"direction", direction_of},
    {"coefficient", coefficient_of},
    {"prediction", prediction},
    {"training", training},
    {"cross_entropy", cross_entropy},
    {"inverse_power", inverse_power_of},
    {"kernels", kernels},
    {"deep_linear", deep_linear},
    {"deep_linear_update", [](const Problem& p) { return numbered("u", update(p.linear(), Rule(p.attrs))); }},
    {"deep_linear_step", deep_linear_step},
};

Json result(const string& operation, const Json& item) {
  try {
    if (!operations.count(operation)) throw Unsupported(operation);
    Inputs inputs;
    for (const auto& [name, array] : item["inputs"].items()) inputs[name] = decoded(name, array);
    const Attributes attrs(item["attrs"]);
    Json outputs = Json::object();
    for (const auto& [name, array] : operations.at(operation)({inputs, attrs})) outputs[name] = encoded(array);
    return {{"outputs", outputs}};
  } catch (const Unsupported& reason) {
    return {{"unsupported", reason.what()}};
  } catch (const Refused& reason) {
    return {{"error", reason.what()}};
  }
}

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: conformance VECTORS RESULTS\n";
    return 2;
  }
  const std::filesystem::path vectors = arguments[1], results = arguments[2];
  if (!std::filesystem::exists(vectors / "manifest.json")) {
    std::cerr << "conformance: error: there is no manifest.json in " << vectors << "\n";
    return 2;
  }
  std::filesystem::create_directories(results);
  const auto parsed = [](const std::filesystem::path& path) { return Json::parse(std::ifstream(path)); };
  const Json manifest = parsed(vectors / "manifest.json");
  for (const Json& file : manifest["files"]) {
    const Json content = parsed(vectors / file["file"].get<string>());
    for (const Json& item : content["cases"])
      if (item["class"] != "superseded")
        std::ofstream(results / (item["id"].get<string>() + ".json")) << result(file["operation"], item);
  }
}
