"""The text of the integrator's inner loop in C++: all steps of a block of systems while it is in registers.

The flow is not typed again: `recording` calls it once on quantities that write down what is done to them.
The steps come from the tables of `runge_kutta`, and the program does what `runge_kutta.eager` does, but for rounding.
"""

import math
from string import Template
from typing import NamedTuple

from stopgrad.linear_theory.simulation.recording import recorded
from stopgrad.linear_theory.simulation.runge_kutta import APART, EXTRAPOLATION, SIXTHS, STAGES, Problem


class Given(NamedTuple):
    """One tensor that a program takes: whether it varies over the batch, and the shape that it has in one system."""

    batched: bool
    shape: tuple[int, ...] = ()

    @property
    def cells(self) -> int:
        """How many numbers of one system it holds."""
        return math.prod(self.shape)


_PROGRAM = Template(r"""
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>
#define INLINE __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)
constexpr int WIDTH = 64;
#elif defined(__AVX__)
constexpr int WIDTH = 32;
#else
constexpr int WIDTH = 16;
#endif
typedef double Register __attribute__((vector_size(WIDTH)));
constexpr int REGISTERS = 4;  // a step is one long chain; so many side by side hide the time each link takes
constexpr int LANES = REGISTERS * WIDTH / 8;
constexpr int CLAIM = 8 * LANES;  // systems that a thread takes at a time

$tables

struct Lanes {  // one number of each of LANES systems
  Register part[REGISTERS];
  Lanes() = default;
  INLINE Lanes(double shared) { UNROLL for (auto& p : part) p = shared - Register{}; }
};
#define EACH(expression) { Lanes c; UNROLL for (int i = 0; i < REGISTERS; ++i) c.part[i] = expression; return c; }
INLINE inline Lanes operator+(const Lanes& a, const Lanes& b) EACH(a.part[i] + b.part[i])
INLINE inline Lanes operator-(const Lanes& a, const Lanes& b) EACH(a.part[i] - b.part[i])
INLINE inline Lanes operator*(const Lanes& a, const Lanes& b) EACH(a.part[i] * b.part[i])
INLINE inline Lanes operator/(const Lanes& a, const Lanes& b) EACH(a.part[i] / b.part[i])
INLINE inline Lanes operator-(const Lanes& a) EACH(-a.part[i])
INLINE inline Lanes magnitude(const Lanes& a) EACH(a.part[i] > -a.part[i] ? a.part[i] : -a.part[i])
INLINE inline Lanes larger(const Lanes& a, const Lanes& b)  // NaN if either is
  EACH((a.part[i] > b.part[i]) | (a.part[i] != a.part[i]) ? a.part[i] : b.part[i])
INLINE inline Lanes if_apart(const Lanes& a) EACH(a.part[i] <= APART ? Register{} : a.part[i])
INLINE inline Lanes nan_to_infinity(const Lanes& a) EACH(a.part[i] == a.part[i] ? a.part[i] : INFINITY - Register{})
INLINE inline Lanes smaller(const Lanes& a, const Lanes& b)
  EACH((a.part[i] < b.part[i]) | (a.part[i] != a.part[i]) ? a.part[i] : b.part[i])
INLINE inline Lanes chosen(const Lanes& test, const Lanes& a, const Lanes& b)  // test: 0 or 1
  EACH(test.part[i] != 0.0 ? a.part[i] : b.part[i])
#define TEST(name, sign) INLINE inline Lanes name(const Lanes& a, const Lanes& b) \
  EACH(a.part[i] sign b.part[i] ? 1.0 - Register{} : Register{})
TEST(above, >) TEST(below, <) TEST(at_least, >=) TEST(at_most, <=)
#define ONE_BY_ONE(name) INLINE inline Lanes name(Lanes a) { \
  double x[LANES]; \
  memcpy(x, &a, sizeof x); \
  for (double& v : x) v = std::name(v); \
  memcpy(&a, x, sizeof x); \
  return a; \
}
ONE_BY_ONE(exp) ONE_BY_ONE(log) ONE_BY_ONE(sqrt)
INLINE inline Lanes pow(Lanes a, const Lanes& b) {
  double x[LANES], y[LANES];
  memcpy(x, &a, sizeof x), memcpy(y, &b, sizeof y);
  for (int k = 0; k < LANES; ++k) x[k] = std::pow(x[k], y[k]);
  memcpy(&a, x, sizeof x);
  return a;
}

typedef $width Width;

INLINE inline Lanes gap(const Lanes (&fine)[FIELDS], const Lanes (&coarse)[FIELDS]) {
  Lanes widest = 0.0;
  UNROLL for (int m = 0; m < FIELDS; ++m)
    if (DECAY[m] < 0) widest = larger(magnitude(fine[m] - coarse[m]) / larger(magnitude(fine[m]), 1.0), widest);
  return widest;
}

INLINE inline void powers(const Lanes& g, Lanes (&of)[7]) {  // of a decay over a twelfth or a sixth of a step
  of[2] = g * g, of[3] = g * g * g, of[4] = of[2] * of[2], of[6] = of[3] * of[3];
}

template <class Flow>  // weights: the table's, times the step
INLINE inline void step(const Flow& flow, Lanes (&y)[FIELDS], const Width (&weights)[STAGES][STAGES],
                        const Lanes (&decays)[DECAYS + 1][7]) {
  Lanes slopes[STAGES][FIELDS], stage[FIELDS];
  UNROLL for (int i = 0; i < STAGES; ++i) {
    UNROLL for (int m = 0; m < FIELDS; ++m) {
      stage[m] = y[m];
      if (DECAY[m] < 0) {
        UNROLL for (int j = 0; j < i; ++j) if (WEIGHTS[i][j] != 0) stage[m] = stage[m] + weights[i][j] * slopes[j][m];
      } else if (SIXTHS[i] > 0) stage[m] = y[m] * decays[DECAY[m]][SIXTHS[i]];
    }
    if (i + 1 < STAGES) flow(stage, slopes[i]);
  }
  UNROLL for (int m = 0; m < FIELDS; ++m) y[m] = stage[m];  // the last row is the step itself
}

struct Call {
  long size, segments;
  const double* const* values;  // initial fields, then leaves, rates and the unit of time, each number by itself
  const double* widths;  // of each segment: the step of the coarse run, how many, whether to keep what is reached
  const long* counts;
  const bool* keeps;
  long outputs;
  double *fields, *errors;  // (fields, outputs, size) and (size)
};

static void follow(const Call& c, long first, long n) {  // systems first … first + n − 1 from start to end
  const double* const* given = c.values + FIELDS;
  auto load = [&](const double* from) { Lanes v = from[first]; memcpy(&v, from + first, 8 * n); return v; };
  auto store = [&](const Lanes& v, double* to) { memcpy(to + first, &v, 8 * n); };
$given
  auto flow = [&](const Lanes (&y)[FIELDS], Lanes (&slope)[FIELDS]) INLINE {
$flow
  };
  Lanes coarse[FIELDS], fine[FIELDS], before = 0.0, widest = 0.0, worst = 0.0;
  Width whole[STAGES][STAGES], half[STAGES][STAGES];
  Lanes over_whole[DECAYS + 1][7], over_half[DECAYS + 1][7];
  for (int m = 0; m < FIELDS; ++m) coarse[m] = fine[m] = load(c.values[m]);
  for (long s = 0, kept = 0; s < c.segments; ++s) {
    if (s == 0 || c.widths[s] != c.widths[s - 1]) {
      const Width h = c.widths[s] * unit;
      for (int i = 0; i < STAGES; ++i)
        for (int j = 0; j < i; ++j) whole[i][j] = WEIGHTS[i][j] * h, half[i][j] = WEIGHTS[i][j] * (h / 2.0);
      for (int k = 0; k < DECAYS; ++k) {
        const Lanes g = exp(rates[k] * h / -12.0);
        powers(g, over_half[k]), powers(g * g, over_whole[k]);
      }
    }
    for (long i = 0; i < c.counts[s]; ++i) {
      before = gap(fine, coarse);
      widest = larger(widest, before);
      step(flow, coarse, whole, over_whole);
      step(flow, fine, half, over_half);
      step(flow, fine, half, over_half);
    }
    if (!c.keeps[s]) continue;
    worst = larger(worst, nan_to_infinity(larger(gap(fine, coarse), before) + if_apart(widest)));
    for (int m = 0; m < FIELDS; ++m)
      store(fine[m] + (fine[m] - coarse[m]) * EXTRAPOLATION, c.fields + (m * c.outputs + kept) * c.size);
    ++kept;
  }
  store(worst, c.errors);
}

extern "C" void advance(const Call* call, int threads) {
  std::atomic<long> next{0};
  auto work = [&] {
    for (long claimed; (claimed = next.fetch_add(CLAIM)) < call->size;)
      for (long first = claimed; first < std::min(call->size, claimed + CLAIM); first += LANES)
        follow(*call, first, std::min<long>(LANES, call->size - first));
  };
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < threads && i * CLAIM < call->size; ++i) others.emplace_back(work);
  } catch (const std::system_error&) {}  // the system grants no further thread
  work();
  for (auto& other : others) other.join();
}
""")


def source(problem: Problem, given: tuple[Given, ...]) -> str:
    """The program; `given` describes the fields, the leaves, the rates of decay and the unit of time, in this order.

    Raises whatever a flow that cannot be recorded does when called on what are no numbers.
    """
    names, decaying = problem.kind._fields, problem.decaying
    fields, leaves = given[: len(names)], given[len(names) : len(given) - len(decaying) - 1]
    lines, slopes = recorded(problem, [one.shape for one in fields], [one.shape for one in leaves])
    loads = [f"load(given[{k}])" if varies else f"*given[{k}]" for k, varies in enumerate(_cells(given[len(names) :]))]
    count = len(_cells(leaves))
    constants = {
        "int FIELDS": len(slopes),
        "int DECAYS": len(decaying),
        "int DECAY[]": [
            decaying.index(name) if name in decaying else -1
            for name, one in zip(names, fields)
            for _ in range(one.cells)
        ],
        "int STAGES": len(STAGES),
        "int SIXTHS[]": SIXTHS,
        "double WEIGHTS[STAGES][STAGES]": STAGES,
        "double APART": APART,
        "double EXTRAPOLATION": EXTRAPOLATION,
    }
    return _PROGRAM.substitute(
        tables="\n".join(f"constexpr {name} = {_braced(value)};" for name, value in constants.items()),
        width="Lanes" if given[-1].batched else "double",
        given="\n".join(
            [f"  const auto x{k} = {value};" for k, value in enumerate(loads[:count])]
            + [
                f"  const Lanes rates[DECAYS + 1] = {{{', '.join(loads[count:-1])}}};",
                f"  const Width unit = {loads[-1]};",
            ]
        ),
        flow="\n".join(
            [f"    const auto {name} = {expression};" for expression, name in lines.items()]
            + [f"    slope[{m}] = {slope};" for m, slope in enumerate(slopes)]
        ),
    )


def _cells(given: tuple[Given, ...]) -> list[bool]:
    """For each number of a system, in the program's order: whether it varies over the batch."""
    return [one.batched for one in given for _ in range(one.cells)]


def _braced(value) -> str:
    return f"{{{', '.join(map(_braced, value))}}}" if isinstance(value, (tuple, list)) else repr(value)
