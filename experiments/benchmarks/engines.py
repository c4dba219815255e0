"""The engines that `experiments.benchmarks.ode` times, each behind one function: a task in, a call of no arguments out.

The call integrates every point of the task from 0 to t and returns (p, s) there as NumPy arrays; a caller may time it.
A package that is not installed shows as an ImportError when the engine is built, never when this module is imported.

Each adaptive peer's relative tolerance is the loosest of 1, 1.2, 1.5, 2, 3, 5, 7 × 10⁻ᵏ, the absolute one a hundredth
of it, that keeps the worst error over the 256 × 256 grid of the task within 1e-6: no peer works harder than it must.
The comment beside each constant is the worst error it reaches there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from stopgrad.linear_theory.flows.hyperparameters import Hyperparameters
from stopgrad.linear_theory.flows.modes import Mode
from stopgrad.linear_theory.simulation.trajectory import trajectory

Run = Callable[[], tuple[np.ndarray, np.ndarray]]

STOPGRAD_TOLERANCE = 1e-6
DIFFRAX_LOCKSTEP_TOLERANCE = 1.2e-7  # 8.7e-7, 81 steps
DIFFRAX_VMAP_TOLERANCE = 1.5e-7  # 9.6e-7, at most 75 steps
TORCHODE_TOLERANCE = 7e-8  # 9.2e-7, at most 84 steps
SCIPY_RK45_TOLERANCE = 7e-8  # 8.5e-7, 596 evaluations
SCIPY_DOP853_TOLERANCE = 1e-7  # 5.4e-7, 389 evaluations
SCIPY_LOOP_TOLERANCE = 1e-7  # 5.3e-7 on a 40 × 40 grid; LSODA and RK45 were slower at this error
NUMBA_DOPRI5_TOLERANCE = 1e-7  # 8.6e-7
RK4_STEPS = 256  # 6.5e-7
SIMD_BLOCK = 256


@dataclass(frozen=True)
class Task:
    """Integrate the modes (p0, s0) under weight decay `eta`, one point an element, from time 0 to `t`.

    `eta`, `p0` and `s0` are float64 vectors of one length; σ² is shared, τ = α_p = x = 1.
    """

    eta: np.ndarray
    p0: np.ndarray
    s0: np.ndarray
    t: float = 50.0
    sigma2: float = 0.1

    @cached_property
    def a(self) -> float:
        """1 + σ²."""
        return 1 + self.sigma2

    def spread(self, points: int | None) -> np.ndarray:
        """Indices of `points` of the points, evenly over the task; all of them for None or when it has no more."""
        return np.unique(np.linspace(0, self.p0.size - 1, points or self.p0.size).astype(int))

    def take(self, chosen: np.ndarray) -> "Task":
        """The task at the points with these indices."""
        return replace(self, eta=self.eta[chosen], p0=self.p0[chosen], s0=self.s0[chosen])


def grid_task(points: int) -> Task:
    """η = linspace(0, 0.3) × p0 = linspace(0.01, 1), `points` values each, with s0 = p0² (which no engine may use)."""
    eta, p0 = (v.ravel() for v in np.meshgrid(np.linspace(0, 0.3, points), np.linspace(0.01, 1, points), indexing="ij"))
    return Task(eta, p0, p0**2)


def flow(p, s, eta, a):
    """`linear_theory.flows.modes.mode_flow` at τ = α_p = x = 1, typed again for the peers (a test holds the two equal).

    Numba cannot compile a function of records, and the eager peers would pay for multiplying by one. The same text runs
    on floats, on NumPy and JAX arrays and on tensors.
    """
    pull = 1 - a * p
    return s * pull - eta * p, 2 * s * (p * pull - eta)


def stopgrad(task: Task) -> Run:
    """This project's `trajectory`: any (p0, s0), scaled units, the balance as an exactly decaying state."""
    state, h = Mode(task.p0, task.s0), Hyperparameters(sigma2=task.sigma2, eta=task.eta, tau=1.0, alpha_p=1.0)

    def run():
        p, s = trajectory(state, h, task.t, STOPGRAD_TOLERANCE).state
        return np.asarray(p), np.asarray(s)

    return run


def _diffrax(task: Task, tolerance: float, batch: Callable) -> Run:
    import diffrax
    import jax

    jax.config.update("jax_enable_x64", True)
    term = diffrax.ODETerm(lambda t, y, eta: flow(*y, eta, task.a))
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance / 100)

    def solve(y0, eta):
        solution = diffrax.diffeqsolve(
            term, diffrax.Tsit5(), 0.0, task.t, None, y0, eta, stepsize_controller=controller
        )
        return tuple(y[0] for y in solution.ys)

    compiled = jax.jit(batch(jax, solve))
    y0, eta = (jax.numpy.asarray(task.p0), jax.numpy.asarray(task.s0)), jax.numpy.asarray(task.eta)
    return lambda: tuple(np.asarray(y) for y in compiled(y0, eta))


def diffrax_lockstep(task: Task) -> Run:
    """diffrax Tsit5, compiled, all points as one system with one step size."""
    return _diffrax(task, DIFFRAX_LOCKSTEP_TOLERANCE, lambda jax, solve: solve)


def diffrax_vmap(task: Task) -> Run:
    """diffrax Tsit5, compiled, vmapped over points that each choose their step."""
    return _diffrax(task, DIFFRAX_VMAP_TOLERANCE, lambda jax, solve: jax.vmap(solve))


def torchode(task: Task) -> Run:
    """torchode's Dopri5, which chooses each point's step, as its documentation runs it (eager)."""
    import torchode

    y0 = torch.as_tensor(np.stack([task.p0, task.s0], axis=1))
    eta = torch.as_tensor(task.eta)
    term = torchode.ODETerm(lambda t, y: torch.stack(flow(y[:, 0], y[:, 1], eta, task.a), dim=1))
    controller = torchode.IntegralController(atol=TORCHODE_TOLERANCE / 100, rtol=TORCHODE_TOLERANCE, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)
    start, end = torch.zeros_like(eta), torch.full_like(eta, task.t)

    def run():
        with torch.inference_mode():
            problem = torchode.InitialValueProblem(y0=y0, t_start=start, t_end=end)
            return tuple(solver.solve(problem).ys[:, -1].numpy().T)

    return run


def scipy_one_system(task: Task, method: str, rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """All points as one system of SciPy's `solve_ivp`, with the absolute tolerance a hundredth of the relative one."""
    from scipy.integrate import solve_ivp

    def rate(t, y):
        p, s = y.reshape(2, -1)
        return np.concatenate(flow(p, s, task.eta, task.a))

    y0 = np.concatenate([task.p0, task.s0])
    y = solve_ivp(rate, (0, task.t), y0, method=method, t_eval=[task.t], rtol=rtol, atol=rtol / 100).y[:, -1]
    return tuple(y.reshape(2, -1))


def scipy_rk45(task: Task) -> Run:
    """SciPy RK45, vectorised: all points as one system."""
    return lambda: scipy_one_system(task, "RK45", SCIPY_RK45_TOLERANCE)


def scipy_dop853(task: Task) -> Run:
    """SciPy DOP853, vectorised: all points as one system."""
    return lambda: scipy_one_system(task, "DOP853", SCIPY_DOP853_TOLERANCE)


def scipy_loop(task: Task) -> Run:
    """SciPy DOP853, a Python loop over the points."""
    from scipy.integrate import solve_ivp

    def one(p0, s0, eta):
        solution = solve_ivp(
            lambda t, y: flow(y[0], y[1], eta, task.a),
            (0, task.t),
            (p0, s0),
            method="DOP853",
            t_eval=[task.t],
            rtol=SCIPY_LOOP_TOLERANCE,
            atol=SCIPY_LOOP_TOLERANCE / 100,
        )
        return solution.y[:, -1]

    points = list(zip(task.p0.tolist(), task.s0.tolist(), task.eta.tolist()))
    return lambda: tuple(np.array([one(*point) for point in points]).T)


def _numba(task: Task, make_kernel: Callable) -> Run:
    import numba

    # Numba's OpenMP layer shares its thread count with torch in this process: keep the two equal.
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    kernel = make_kernel(numba, numba.njit(flow, fastmath=True, inline="always"))

    def run():
        p, s = np.empty_like(task.p0), np.empty_like(task.s0)
        kernel(task.p0, task.s0, task.eta, task.a, task.t, p, s)
        return p, s

    return run


def numba_dopri5(task: Task) -> Run:
    """Dormand–Prince 5(4) typed in Numba, each point with its own steps, points over threads."""

    def make_kernel(numba, f):
        @numba.njit(parallel=True, fastmath=True)
        def kernel(p0, s0, eta, a, t_end, p_out, s_out):
            for i in numba.prange(p0.size):
                p_out[i], s_out[i] = _dopri5(p0[i], s0[i], eta[i], a, t_end, NUMBA_DOPRI5_TOLERANCE)

        _dopri5 = numba.njit(_dopri5_of(f), fastmath=True)
        return kernel

    return _numba(task, make_kernel)


def _dopri5_of(f):
    def dopri5(p, s, e, a, t_end, tolerance):
        t, h = 0.0, 0.1
        k1p, k1s = f(p, s, e, a)
        while t < t_end:
            h = min(h, t_end - t)
            k2p, k2s = f(p + h * k1p / 5, s + h * k1s / 5, e, a)
            k3p, k3s = f(p + h * (3 * k1p + 9 * k2p) / 40, s + h * (3 * k1s + 9 * k2s) / 40, e, a)
            k4p, k4s = f(
                p + h * (44 / 45 * k1p - 56 / 15 * k2p + 32 / 9 * k3p),
                s + h * (44 / 45 * k1s - 56 / 15 * k2s + 32 / 9 * k3s),
                e,
                a,
            )
            k5p, k5s = f(
                p + h * (19372 / 6561 * k1p - 25360 / 2187 * k2p + 64448 / 6561 * k3p - 212 / 729 * k4p),
                s + h * (19372 / 6561 * k1s - 25360 / 2187 * k2s + 64448 / 6561 * k3s - 212 / 729 * k4s),
                e,
                a,
            )
            k6p, k6s = f(
                p + h * (9017 / 3168 * k1p - 355 / 33 * k2p + 46732 / 5247 * k3p + 49 / 176 * k4p - 5103 / 18656 * k5p),
                s + h * (9017 / 3168 * k1s - 355 / 33 * k2s + 46732 / 5247 * k3s + 49 / 176 * k4s - 5103 / 18656 * k5s),
                e,
                a,
            )
            new_p = p + h * (35 / 384 * k1p + 500 / 1113 * k3p + 125 / 192 * k4p - 2187 / 6784 * k5p + 11 / 84 * k6p)
            new_s = s + h * (35 / 384 * k1s + 500 / 1113 * k3s + 125 / 192 * k4s - 2187 / 6784 * k5s + 11 / 84 * k6s)
            k7p, k7s = f(new_p, new_s, e, a)
            error_p = 71 / 57600 * k1p - 71 / 16695 * k3p + 71 / 1920 * k4p
            error_p += -17253 / 339200 * k5p + 22 / 525 * k6p - k7p / 40
            error_s = 71 / 57600 * k1s - 71 / 16695 * k3s + 71 / 1920 * k4s
            error_s += -17253 / 339200 * k5s + 22 / 525 * k6s - k7s / 40
            scaled_p = h * error_p / (tolerance * (0.01 + max(abs(p), abs(new_p))))
            scaled_s = h * error_s / (tolerance * (0.01 + max(abs(s), abs(new_s))))
            error = ((scaled_p * scaled_p + scaled_s * scaled_s) / 2) ** 0.5
            if error <= 1:
                t += h
                p, s, k1p, k1s = new_p, new_s, k7p, k7s
            h *= min(10.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
        return p, s

    return dopri5


def numba_rk4_simd(task: Task) -> Run:
    """RK4 typed in Numba: all steps on one cached block of points, then the next; LLVM vectorises over points."""

    def make_kernel(numba, f):
        @numba.njit(parallel=True, fastmath=True)
        def kernel(p0, s0, eta, a, t_end, p_out, s_out):
            h = t_end / RK4_STEPS
            for block in numba.prange((p0.size + SIMD_BLOCK - 1) // SIMD_BLOCK):
                here = slice(block * SIMD_BLOCK, (block + 1) * SIMD_BLOCK)
                ps, ss, es = p0[here].copy(), s0[here].copy(), eta[here].copy()
                for _ in range(RK4_STEPS):
                    for i in range(ps.size):
                        p, s, e = ps[i], ss[i], es[i]
                        k1p, k1s = f(p, s, e, a)
                        k2p, k2s = f(p + h / 2 * k1p, s + h / 2 * k1s, e, a)
                        k3p, k3s = f(p + h / 2 * k2p, s + h / 2 * k2s, e, a)
                        k4p, k4s = f(p + h * k3p, s + h * k3s, e, a)
                        ps[i] = p + h / 6 * (k1p + 2 * (k2p + k3p) + k4p)
                        ss[i] = s + h / 6 * (k1s + 2 * (k2s + k3s) + k4s)
                p_out[here], s_out[here] = ps, ss

        return kernel

    return _numba(task, make_kernel)
