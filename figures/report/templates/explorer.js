"use strict";
// The closed forms of linear_theory in the browser: exact/fixed_points.py, exact/basin.py, exact/closed_loop.py and
// flows/modes.py, name by name; tests hold each number to Python's. A mode's input variance x is 1, η_p = η.
globalThis.theory = (() => {
  const split = (x) => { const t = 134217729 * x, high = t - (t - x); return [high, x - high]; };
  const sum = (x, y) => { const total = x + y, part = total - x; return [total, x - (total - part) + (y - part)]; };
  const product = (x, y) => {
    const [xh, xl] = split(x), [yh, yl] = split(y), whole = x * y;
    return [whole, xh * yh - whole + xh * yl + xl * yh + xl * yl];
  };

  // τ² − 4ηa in double-double, so that what follows is right to rounding however near the transition lies.
  function discriminant({ eta, sigma2, tau }) {
    const square = product(tau, tau), a = sum(1, sigma2), [high, low] = product(a[0], 4 * eta);
    const decay = sum(high, low + a[1] * (4 * eta)), gap = sum(square[0], -decay[0]);
    const found = gap[0] + (gap[1] + (square[1] - decay[1]));
    return Math.abs(found) <= 4 * Number.EPSILON * square[0] ? 0 : found;
  }

  const criticalEta = ({ sigma2, tau }) => tau * tau / (4 * (1 + sigma2));

  function restPoints(h) {
    const a = 1 + h.sigma2, d = Math.sqrt(discriminant(h)); // NaN beyond the critical weight decay
    const plus = (h.tau + d) / (2 * a), minus = Math.min(2 * h.eta / (h.tau + d), plus);
    const strength = (p) => p * p / h.alpha_p;
    return { p_plus: plus, s_plus: strength(plus), p_minus: minus, s_minus: strength(minus) };
  }

  // The rates at which a deviation from (p₊, s₊) and from (p₋, s₋) goes: −2η along time's own, and −(τp ∓ …) across.
  function eigenvalues(h) {
    const d = Math.sqrt(discriminant(h)), rest = restPoints(h);
    const both = (p, gap) => {
      const trace = -h.tau * p, fast = (trace - Math.abs(trace + 4 * h.eta)) / 2;
      const slow = fast ? 2 * p * h.eta * gap / fast : Number.isNaN(fast) ? NaN : 0;
      return [Math.min(fast, slow) + 0, Math.max(fast, slow) + 0];
    };
    return { plus: both(rest.p_plus, d), minus: both(rest.p_minus, -d) };
  }

  const flow = ([p, s], h) => {
    const pull = h.tau - (1 + h.sigma2) * p;
    return [h.alpha_p * s * pull - h.eta * p, 2 * s * (p * pull - h.eta)];
  };

  // Dormand and Prince's pair of orders 5 and 4: y at each of `ends`, rising, from y at 0; `near` is told every step.
  // The tolerance is relative above 1, or where `grows` is 0 absolute.
  const NODES = [0, 0.2, 0.3, 0.8, 8 / 9, 1, 1];
  const STAGES = [
    [], [0.2], [3 / 40, 9 / 40], [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
  ];
  const ERROR = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40];
  const STEPS = 100000;

  function solve(slope, start, ends, tolerance, near = () => {}, grows = 1) {
    let t = 0, y = start, h = ends.length ? Math.min(0.01, ends.at(-1)) : 0, steps = 0, first = slope(0, y);
    return ends.map((end) => {
      while (t < end) {
        if (++steps > STEPS || !y.every(Number.isFinite)) return y.map(() => NaN);
        const step = Math.min(h, end - t), slopes = [first];
        let next = y;
        for (let k = 1; k < 7; k++) {
          next = y.map((v, i) => v + step * STAGES[k].reduce((all, w, j) => all + w * slopes[j][i], 0));
          slopes.push(slope(t + NODES[k] * step, next));
        }
        const wrong = Math.max(...y.map((v, i) =>
          Math.abs(step * ERROR.reduce((all, w, j) => all + w * slopes[j][i], 0)) /
          (tolerance * (1 + grows * Math.max(Math.abs(v), Math.abs(next[i]))))));
        if (wrong <= 1) {
          t = step < end - t ? t + step : end;
          y = next;
          first = slopes[6];
          near(t, y);
        }
        const factor = Math.min(5, Math.max(0.2, 0.9 * wrong ** -0.2));
        if (wrong > 1 || step === h || factor < 1) h = step * (Number.isNaN(factor) ? 0.2 : factor);
      }
      return y;
    });
  }

  // s on the border between life and collapse at every p of a list, Infinity where all collapse.
  function border(ps, h) {
    const a = 1 + h.sigma2, unit = h.tau / a, height = unit * unit / h.alpha_p, eta = h.eta * a / (h.tau * h.tau);
    if (h.eta === 0) return ps.map((p) => height * (p < 0 ? (p / unit) ** 2 : Math.max((p / unit) ** 2 - 1, 0)));
    if (!(discriminant(h) >= 0)) return ps.map(() => Infinity);
    const rest = restPoints({ eta, sigma2: 0, tau: 1, alpha_p: 1 }); // in units in which η alone is left
    const gap = rest.p_plus - rest.p_minus, strength = rest.s_minus, found = new Array(ps.length);
    const middle = strength + eta, twice = 4 * gap;
    const tangent = -twice / (middle + Math.sqrt(middle * middle + 2 * twice * eta * rest.p_minus));
    const steep = (d, y) => {
      const lift = Math.expm1(Math.min(y, 700));
      return 2 * d * (gap - d) / (eta * (rest.p_minus * lift - d) - strength * d * (1 + lift));
    };
    const away = ps.map((p, k) => ({ k, d: p / unit - rest.p_minus }));
    for (const side of [-1, 1]) {
      const start = side * 1e-7 * rest.p_minus;
      const there = away.filter(({ d }) => side * d > Math.abs(start)).sort((one, other) => side * (one.d - other.d));
      const slope = (u, [y]) => { const d = start * Math.exp(u); return [d * steep(d, y)]; };
      const ys = solve(slope, [tangent * start], there.map(({ d }) => Math.log(d / start)), 1e-12, undefined, 0);
      there.forEach(({ k }, i) => { found[k] = height * rest.s_minus * Math.exp(ys[i][0]); });
    }
    for (const { k, d } of away) if (found[k] === undefined) found[k] = height * rest.s_minus * Math.exp(tangent * d);
    return found;
  }

  // (p, s) at each of the rising times, from a start.
  const path = (start, times, h, near) => solve((_, y) => flow(y, h), start, times, 1e-12, near);

  // DirectPred with ε, set from the views' correlation q = (1 + σ²)s: where s rests, its least start, what ε lifts.
  const setS = (q, h) => q / (1 + h.sigma2);
  function directpred(h) {
    const rest = restPoints(h), leading = (p) => (2 * p / (1 + Math.sqrt(1 + 4 * h.eps * p))) ** 2;
    const gap = rest.p_plus - rest.p_minus;
    const least = Number.isNaN(gap) ? NaN : gap > 0 ? rest.p_minus / (gap * gap) : Infinity;
    return { s_plus: setS(leading(rest.p_plus), h), s_minus: setS(leading(rest.p_minus), h), lifts: least };
  }
  // Its predictor eigenvalue at s: √q + εq.
  const setP = (s, h) => { const q = (1 + h.sigma2) * s; return Math.sqrt(q) + h.eps * q; };

  return { discriminant, criticalEta, restPoints, eigenvalues, flow, border, path, directpred, setP };
})();
