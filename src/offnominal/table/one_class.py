"""The one-class support vector problem: exactly over a kernel matrix, or over explicit features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_TOLERANCE = 1e-3  # largest violation of the optimality conditions, of kernel values in 0 … 1
_STEPS = 200  # per row, at most


def solve_dual(kernel: Matrix, nu: float) -> tuple[Matrix, float]:
    """Minimise ½ αᵀKα subject to 0 ≤ α ≤ 1/(ν n), Σα = 1, by sequential minimal optimisation.

    Parameters
    ----------
    kernel : ndarray (n, n)
    nu : float

    Returns
    -------
    weights : ndarray (n,)
        α.
    offset : float
        ρ: a row is outside where Σ α K(x, ·) < ρ.

    Notes
    -----
    The pair is the most violating row and the one that promises most, to second order (Fan, Chen & Lin, JMLR
    2005).
    """
    n = len(kernel)
    total, full = nu * n, int(nu * n)  # within, α is scaled by ν n, so that bounded ones are 1
    alpha = np.zeros(n)
    alpha[:full] = 1.0
    if full < n:
        alpha[full] = total - full
    gradient = kernel @ alpha
    diagonal = np.diag(kernel).copy()
    for _ in range(_STEPS * n):
        up, down = alpha < 1.0, alpha > 0.0
        i = int(np.where(up, gradient, np.inf).argmin())
        gain = np.where(down, gradient, -np.inf) - gradient[i]
        if gain.max() < _TOLERANCE:
            break
        curve = np.maximum(diagonal[i] + diagonal - 2 * kernel[i], 1e-12)
        j = int(np.where(gain > 0, gain**2 / curve, -np.inf).argmax())
        step = min(gain[j] / curve[j], 1.0 - alpha[i], alpha[j])
        alpha[i] += step
        alpha[j] -= step
        # Rounding must not leave a row a hair from its bound.
        alpha[i] = 1.0 if alpha[i] > 1 - 1e-12 else alpha[i]
        alpha[j] = 0.0 if alpha[j] < 1e-12 else alpha[j]
        gradient += step * (kernel[i] - kernel[j])
    free = (alpha > 0) & (alpha < 1)
    if free.any():
        return alpha / total, float(gradient[free].mean()) / total
    inside, outside = gradient[alpha == 0], gradient[alpha == 1]
    ends = [
        *([float(inside.min())] if len(inside) else []),
        *([float(outside.max())] if len(outside) else []),
    ]
    return alpha / total, float(np.mean(ends)) / total


def solve_primal(features: Matrix, nu: float) -> tuple[Matrix, float]:
    """Minimise ½‖w‖² − ρ + Σ max(0, ρ − φ·w) / (ν n), the hinge rounded off, by L-BFGS.

    Parameters
    ----------
    features : ndarray (n, m)
        φ of each row.
    nu : float

    Returns
    -------
    normal : ndarray (m,)
        w.
    offset : float
        ρ.
    """
    from scipy.optimize import minimize

    n = len(features)
    scale = 1 / (nu * n)
    start = np.concatenate([features.mean(axis=0), [0.0]])
    values = features @ start[:-1]
    start[-1] = float(np.quantile(values, nu))
    corner = 0.02 * float(np.abs(values).mean() or 1.0)

    def objective(point: Matrix) -> tuple[float, Matrix]:
        short = point[-1] - features @ point[:-1]
        slope = np.clip((short + corner) / (2 * corner), 0.0, 1.0)
        loss = np.where(short >= corner, short, corner * slope**2)
        value = 0.5 * float(point[:-1] @ point[:-1]) - point[-1] + scale * float(loss.sum())
        return value, np.concatenate([point[:-1] - scale * (slope @ features), [scale * slope.sum() - 1.0]])

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-6})
    return found.x[:-1], float(found.x[-1])
