// The functions that an emitted step calls. They compute in float64 and store float32.

let sums = new Float64Array(256);

export const arithmetic = {
  // out[m, n] = the sum over k of x[m, k] * w[n, k]: a row of the matrix for each number of the result.
  rows(out, w, x, many, n, k) {
    const even = k - (k % 4);
    for (let m = 0; m < many; m++) {
      const from = m * k;
      for (let r = 0; r < n; r++) {
        const at = r * k;
        let a = 0;
        let b = 0;
        let c = 0;
        let d = 0;
        for (let i = 0; i < even; i += 4) {
          a += w[at + i] * x[from + i];
          b += w[at + i + 1] * x[from + i + 1];
          c += w[at + i + 2] * x[from + i + 2];
          d += w[at + i + 3] * x[from + i + 3];
        }
        for (let i = even; i < k; i++) a += w[at + i] * x[from + i];
        out[m * n + r] = a + b + (c + d);
      }
    }
  },

  // out[m, n] = the sum over k of x[m, k] * w[k, n].
  columns(out, w, x, many, n, k) {
    if (sums.length < n) sums = new Float64Array(n);
    const total = sums;
    for (let m = 0; m < many; m++) {
      total.fill(0, 0, n);
      for (let i = 0; i < k; i++) {
        const by = x[m * k + i];
        const at = i * n;
        for (let r = 0; r < n; r++) total[r] += by * w[at + r];
      }
      for (let r = 0; r < n; r++) out[m * n + r] = total[r];
    }
  },

  // 2 / sqrt(pi) * exp(-x^2) * the sum of 2^n x^(2n + 1) / (2n + 1)!!, all of whose terms have one sign.
  erf(x) {
    if (Number.isNaN(x) || Math.abs(x) > 6) return Number.isNaN(x) ? NaN : Math.sign(x);
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  },

  // The remainder with the sign of y, as in PyTorch.
  mod(x, y) {
    const rest = x % y;
    return rest !== 0 && rest < 0 !== y < 0 ? rest + y : rest;
  },

  // JavaScript has NaN where C has 1: of one, and of minus one to an infinite power.
  power(x, y) {
    return x === 1 || (x === -1 && Math.abs(y) === Infinity) ? 1 : Math.pow(x, y);
  },

  sign(x) {
    return (x > 0 ? 1 : 0) - (x < 0 ? 1 : 0);
  },
};

export function softmax(scores) {
  const peak = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const found = Float64Array.from(scores, (score) => Math.exp(score - peak));
  const total = found.reduce((a, b) => a + b, 0);
  return found.map((value) => value / total);
}
