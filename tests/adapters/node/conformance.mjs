// The file mode of the suite, from JavaScript alone: nothing to install, and no Python until the results are judged.
//
//     node conformance.mjs VECTORS RESULTS        VECTORS: data/vectors/v1, or refngd/_data/vectors/v1 where installed
//     refngd check --results RESULTS
//
// For every case it writes RESULTS/<case id>.json: {"outputs": {name: {"shape", "data"}}}, or {"error": ".."} where the
// input is refused, or {"unsupported": ".."}. Operations: forward, signals, jacobian, and direction for the mean squared
// error with the Fisher matrices in `root`. A matrix is an array of rows, a list of numbers an array.
//
//     u_l = h_{l-1} W_l^T,  h = [sigma_w/sqrt(M) phi(u) ; sigma_b]                 K&O (1); "standard": h = [phi(u) ; 1]
//     delta_l[n,c,i] = d f_c(x_n) / d u_l[i],  J[(n,c),(l,i,j)] = delta_l[n,c,i] h_{l-1}[n,j]                (S.65), (6)
//     direction = G^{-1/q} J^T (f - y) / N,  G blockwise R^T R / N + rho I                           (9), (18), (20), (23)

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

class Unsupported extends Error {}

// ---------------------------------------------------------------------------------------------------------- matrices

const range = (n) => Array.from({ length: n }, (_, i) => i);
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const transpose = (A) => A[0].map((_, j) => A.map((row) => row[j]));
const matmul = (A, B) => {
  const columns = transpose(B);
  return A.map((row) => columns.map((column) => dot(row, column)));
};
const scaled = (A, factor) => A.map((row) => row.map((v) => factor * v));

// Rotates the vectors pairwise until all are orthogonal (one-sided Jacobi), and `along` with them.
function orthogonalise(vectors, along) {
  for (let sweep = 0, rotated = true; rotated && sweep < 60; sweep++) {
    rotated = false;
    for (let p = 0; p < vectors.length; p++) {
      for (let r = p + 1; r < vectors.length; r++) {
        const [a, b] = [vectors[p], vectors[r]];
        const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
        if (Math.abs(ab) <= Number.EPSILON * Math.sqrt(aa * bb)) continue;
        rotated = true;
        const z = (bb - aa) / (2 * ab);
        const t = (z < 0 ? -1 : 1) / (Math.abs(z) + Math.hypot(1, z));
        const cos = 1 / Math.hypot(1, t);
        for (const family of [vectors, along]) {
          const [v, w] = [family[p], family[r]];
          family[p] = v.map((_, i) => cos * (v[i] - t * w[i]));
          family[r] = v.map((_, i) => cos * (t * v[i] + w[i]));
        }
      }
    }
  }
}

// (R^T R / N + rho I)^{-1/q} R^T (k, n) of R (n, k), by singular values; for rho = 0 the pseudo-inverse.
function powerOfRoot(R, N, rho, q) {
  const [n, k] = [R.length, R[0].length];
  if (q === Infinity) return transpose(R);
  const size = Math.max(...R.flat().map(Math.abs));
  const c = size > 0 ? 2 ** Math.floor(Math.log2(size)) : 1; // so that squares of squares stay in range,
  const top = Math.max(c, Math.sqrt(rho)); // and those of c and of the root of rho
  const vectors = scaled(n < k ? R : transpose(R), 1 / c); // the shorter list is orthogonalised
  const along = range(vectors.length).map((i) => range(vectors.length).map((j) => (i === j ? 1 : 0)));
  orthogonalise(vectors, along);
  const s = vectors.map((v) => Math.sqrt(dot(v, v)));
  const cutoff = Math.max(n, k) * Number.EPSILON * Math.max(...s);
  const result = range(k).map(() => new Array(n).fill(0));
  s.forEach((value, m) => {
    if (value <= cutoff) return;
    const power = Math.pow(((c / top) * value) ** 2 / N + rho / top / top, -1 / q);
    const gain = c * Math.pow(top, -1 / q) * Math.pow(top, -1 / q) * power; // R / c = sum of u v^T, ||u|| ||v|| = value
    const [u, v] = n < k ? [along[m], vectors[m]] : [vectors[m], along[m]];
    v.forEach((v_i, i) => u.forEach((u_j, j) => (result[i][j] += gain * v_i * u_j)));
  });
  return result;
}

// ----------------------------------------------------------------------------------------------------------- networks

// erf by its series with positive terms.
function erf(u) {
  let [term, sum] = [u, 0];
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    sum += term;
    term *= (2 * u * u) / (2 * n + 1);
  }
  return Math.abs(u) > 6 ? Math.sign(u) : (2 / Math.sqrt(Math.PI)) * Math.exp(-u * u) * sum;
}

// phi and phi'; 1 / cosh^2 does not cancel as 1 - tanh^2 does, and phi' = 0 on the kink.
const activations = {
  linear: () => [(u) => u, () => 1],
  tanh: () => [Math.tanh, (u) => 1 / Math.cosh(u) ** 2],
  erf: () => [erf, (u) => (2 / Math.sqrt(Math.PI)) * Math.exp(-u * u)],
  relu: () => activations.shifted_relu(0),
  shifted_relu: (shift) => [(u) => Math.max(u, -shift), (u) => (u > -shift ? 1 : 0)],
};

function requireThat(condition, message) {
  if (!condition) throw new Error(message);
}

function listed(prefix, inputs) {
  const W = [];
  while (`${prefix}_${W.length + 1}` in inputs) W.push(inputs[`${prefix}_${W.length + 1}`]);
  return W;
}

// The numbers of the layers that are not frozen, the first k or those of a list, and whether the output bias is.
function trained({ frozen = 0, sigma_b }, L) {
  const fixed = Array.isArray(frozen) ? frozen : range(frozen).map((l) => l + 1);
  const known = [...range(L).map((l) => l + 1), ...(sigma_b > 0 && !fixed.includes(L) ? ["output-bias"] : [])];
  requireThat(
    fixed.every((item, i) => known.includes(item) && fixed.indexOf(item) === i),
    `frozen is ${frozen}; expected some of ${known}`,
  );
  const layers = range(L).map((l) => l + 1).filter((l) => !fixed.includes(l));
  requireThat(layers.length > 0, `frozen is ${frozen}; expected less than all ${L} layers`);
  return [layers, fixed.includes("output-bias")];
}

// f (N, C), and of the layers that are not frozen, h_{l-1} (N, k_l) and delta_l (N, C, M_l); whether they have a bias.
function signals(inputs, attrs) {
  const W = listed("W", inputs);
  const [phi, slope] = activations[attrs.activation](attrs.shift ?? 0);
  const standard = attrs.parameterization === "standard";
  const bias = attrs.sigma_b > 0 ? [standard ? 1 : attrs.sigma_b] : [];
  const factor = (M) => (standard ? 1 : attrs.sigma_w / Math.sqrt(M));
  const [L, [layers, isFixed]] = [W.length, trained(attrs, W.length)];

  const h = [];
  const u = [];
  let v = inputs.x;
  W.forEach((w, l) => {
    h.push(v.map((row) => [...row.map((a) => factor(row.length) * a), ...bias]));
    const [given, expected] = [w[0].length, h[l][0].length];
    requireThat(given === expected, `W_${l + 1} has ${given} columns; expected ${expected}`);
    u.push(matmul(h[l], transpose(w)));
    v = u[l].map((row) => row.map(phi));
  });

  const f = u[W.length - 1];
  const delta = [f.map((row) => row.map((_, c) => row.map((_, i) => (i === c ? 1 : 0))))];
  for (let l = L - 1; l > 0; l--) {
    const through = (rows, n) =>
      matmul(rows, W[l]).map((row) =>
        u[l - 1][n].map((value, j) => row[j] * factor(u[l - 1][n].length) * slope(value)), // less the bias
      );
    delta.unshift(delta[0].map(through));
  }
  if (isFixed) h[L - 1] = h[L - 1].map((row) => row.slice(0, -1));
  const biased = layers.map((l) => bias.length > 0 && !(isFixed && l === L));
  return { f, h: layers.map((l) => h[l - 1]), delta: layers.map((l) => delta[l - 1]), layers, L, biased };
}

const flatDelta = (delta) => delta.flat(); // (NC, M), sample-major
const repeated = (h, C) => h.flatMap((row) => range(C).map(() => row)); // (NC, k)

// The columns of J of one layer: J[(n,c), (i,j)].
function layerJacobian(h, delta) {
  const H = repeated(h, delta[0].length);
  return flatDelta(delta).map((row, n) => row.flatMap((d) => H[n].map((a) => d * a)));
}

function jacobian({ h, delta }) {
  const blocks = h.map((_, l) => layerJacobian(h[l], delta[l]));
  return blocks[0].map((_, n) => blocks.flatMap((J) => J[n]));
}

// -------------------------------------------------------------------------------------------------- natural gradients

const applied = (K, e, N) => K.map((row) => dot(row, e) / N);

// Roots R of the blocks of G, in the order of theta.
const root = {
  Exact: (s) => [jacobian(s)],
  BlockDiagonal: (s) => s.h.map((h, l) => layerJacobian(h, s.delta[l])),
  Unitwise: (s) =>
    s.h.flatMap((h, l) => {
      const [J, k] = [layerJacobian(h, s.delta[l]), h[0].length];
      return range(J[0].length / k).map((i) => J.map((row) => row.slice(i * k, (i + 1) * k)));
    }),
  Entrywise: (s) => transpose(jacobian(s)).map((column) => column.map((v) => [v])),
};

// (B* + rho)^{-1/q} delta^T E h (A* + rho)^{-1/q} / N of one layer, K&O (20); its rows are flattened.
function kfacLayer(s, l, e, { rho = 0, q = 1, kfac_bias, kfac_last }) {
  const [N, C, delta] = [s.f.length, s.f[0].length, flatDelta(s.delta[l])];
  const identity = s.layers[l] === s.L && (kfac_last ?? "identity") === "identity"; // B*_L = I / N
  const left = identity ? scaled(transpose(delta), Math.pow(1 / N + rho, -1 / q)) : powerOfRoot(delta, N, rho, q);
  const separate = kfac_bias === "separate" && s.biased[l];
  const h = separate ? s.h[l].map((row) => row.slice(0, -1)) : s.h[l];
  const right = transpose(powerOfRoot(h, N, rho, q)); // (N, k)
  const weighted = repeated(right, C).map((row, n) => row.map((v) => (e[n] * v) / N)); // E right / N
  const step = matmul(left, weighted);
  if (!separate) return step.flat();
  const bias = s.h[l][0].at(-1); // a block of its own, b^2 delta^T delta / N^2 + rho I: (S.123)
  const bias_step = applied(powerOfRoot(scaled(delta, bias), N * N, rho, q), e, N);
  return step.flatMap((row, i) => [...row, bias_step[i]]);
}

function direction(inputs, attrs) {
  const { fisher, loss = "mse", rho = 0, q = 1, kfac_damping = "factors" } = attrs;
  if (loss !== "mse" || !(fisher === "KFAC" || fisher in root)) throw new Unsupported(`${fisher}, ${loss}`);
  if (kfac_damping !== "factors") throw new Unsupported("the damping of the product");
  requireThat(rho >= 0 && rho < Infinity, `rho is ${rho}; expected a finite number >= 0`);
  requireThat(q >= 1, `q is ${q}; expected q >= 1`);
  const s = signals(inputs, attrs);
  const [N, C, y] = [s.f.length, s.f[0].length, inputs.y];
  requireThat(y.length === N && y[0].length === C, `y is ${y.length} x ${y[0].length}; expected ${N} x ${C}`);
  const e = s.f.flatMap((row, n) => row.map((v, c) => v - y[n][c]));
  const parts =
    fisher === "KFAC"
      ? s.h.map((_, l) => kfacLayer(s, l, e, attrs))
      : root[fisher](s).map((R) => applied(powerOfRoot(R, N, rho, q), e, N));
  const theta = parts.flat();
  const outputs = numbered("h", s.h, s.layers.map((l) => l - 1));
  let start = 0;
  s.h.forEach((h, l) => {
    const [M, k] = [s.delta[l][0][0].length, h[0].length];
    outputs[`dW_${s.layers[l]}`] = range(M).map((i) => theta.slice(start + i * k, start + (i + 1) * k));
    start += M * k;
  });
  return { ...outputs, f: s.f, ...numbered("delta", s.delta, s.layers) };
}

const numbered = (prefix, values, numbers) =>
  Object.fromEntries(values.map((value, l) => [`${prefix}_${numbers[l]}`, value]));

const operations = {
  forward: (inputs, attrs) => ({ f: signals(inputs, attrs).f }),
  signals: (inputs, attrs) => {
    const { f, h, delta, layers } = signals(inputs, attrs);
    return { f, ...numbered("h", h, layers.map((l) => l - 1)), ...numbered("delta", delta, layers) };
  },
  jacobian: (inputs, attrs) => ({ J: jacobian(signals(inputs, attrs)) }),
  direction,
};

// -------------------------------------------------------------------------------------------------------------- files

const number = (value) => (value === "inf" ? Infinity : value);

// Nested arrays of {"shape", "data"}, and back.
function decoded({ shape, data }, name) {
  const values = data.map(number);
  requireThat(values.every(Number.isFinite), `${name} has non-finite entries`);
  const nested = (dims, start) => {
    if (dims.length === 0) return values[start];
    const size = dims.slice(1).reduce((a, b) => a * b, 1);
    return range(dims[0]).map((i) => nested(dims.slice(1), start + i * size));
  };
  return nested(shape, 0);
}

function encoded(array) {
  const shape = [];
  for (let a = array; Array.isArray(a); a = a[0]) shape.push(a.length);
  return { shape, data: [array].flat(Infinity) };
}

const mapped = (object, f) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, f(value, name)]));

function result({ inputs, attrs }, operation) {
  try {
    if (!(operation in operations)) throw new Unsupported(operation);
    return { outputs: mapped(operations[operation](mapped(inputs, decoded), mapped(attrs, number)), encoded) };
  } catch (error) {
    return { [error instanceof Unsupported ? "unsupported" : "error"]: error.message };
  }
}

const [vectors, results] = process.argv.slice(2);
if (!results) {
  console.error("usage: node conformance.mjs VECTORS RESULTS");
  process.exit(2);
}
mkdirSync(results, { recursive: true });
for (const { file, operation } of JSON.parse(readFileSync(join(vectors, "manifest.json"), "utf8")).files) {
  for (const item of JSON.parse(readFileSync(join(vectors, file), "utf8")).cases) {
    if (item.class === "superseded") continue;
    writeFileSync(join(results, `${item.id}.json`), JSON.stringify(result(item, operation)));
  }
}
