"""Regression by a Gaussian process with a length scale per parameter (Rasmussen and Williams, 2006, chapter 5).

The kernel is Matérn 5/2. Length scales, signal and noise are the most probable ones under weak priors. Values are
standardised before, so that the priors fit any objective.
"""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]

_PRIOR_MEAN: Final = {"scale": 1.0, "signal": 0.0, "noise": -3.0}
_PRIOR_SD: Final = {"scale": 1.0, "signal": 1.5, "noise": 2.0}
"""Normal priors of the logarithms of a length scale, in units of a parameter's range, and of the two variances."""
_BOUNDS: Final = {"scale": (-2.0, 5.0), "signal": (-3.0, 3.0), "noise": (-8.0, 1.0)}
_STEPS: Final = 40
_JITTER: Final = 1e-6


class GaussianProcess:
    """A fitted process."""

    def __init__(self, points: Floats, values: Floats, parameters: Sequence[int], logs: Floats) -> None:
        """Condition a process with given hyperparameters on observations; see `fit`, which also finds these.

        Args:
            points: (n, d) coordinates.
            values: (n,) observations.
            parameters: for each coordinate, the index of its parameter.
            logs: logarithms of the length scale of each parameter, of the signal's and of the noise's variance.
        """
        self._points = points
        self._parameters = parameters
        self._logs = logs
        self._mean = values.mean()
        self._sd = values.std() or 1.0
        covariance = _kernel(_squares(points, points, parameters), logs)
        covariance[np.diag_indices(len(values))] += np.exp(logs[-1]) + _JITTER
        self._inverse = np.linalg.inv(covariance)
        self._weights = self._inverse @ ((values - self._mean) / self._sd)

    @classmethod
    def fit(cls, points: Floats, values: Floats, parameters: Sequence[int]) -> Self:
        """Return the process with the most probable hyperparameters.

        Args:
            points: (n, d) coordinates, n ≥ 1.
            values: (n,) finite observations.
            parameters: for each coordinate, the index of its parameter; coordinates of one parameter share a scale.
        """
        num_scales = max(parameters) + 1
        names = ["scale"] * num_scales + ["signal", "noise"]
        centre = np.array([_PRIOR_MEAN[name] for name in names])
        spread = np.array([_PRIOR_SD[name] for name in names])
        squares = _squares(points, points, parameters)
        standard = (values - values.mean()) / (values.std() or 1.0)

        def cost(logs: Floats) -> tuple[float, Floats]:
            value, gradient = _negative_log_likelihood(logs, squares, standard)
            off = (logs - centre) / spread
            return value + 0.5 * float(off @ off), gradient + off / spread

        bounds = [_BOUNDS[name] for name in names]
        found = minimize(cost, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
        return cls(points, values, parameters, found.x)

    def with_observations(self, points: Floats, values: Floats) -> Self:
        """Return the process with other observations and the same hyperparameters."""
        return type(self)(points, values, self._parameters, self._logs)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the noise-free values at (m, d) points, each (m,)."""
        covariance = _kernel(_squares(points, self._points, self._parameters), self._logs)
        variance = np.exp(self._logs[-2]) - np.einsum("ij,jk,ik->i", covariance, self._inverse, covariance)
        mean = covariance @ self._weights
        return mean * self._sd + self._mean, np.sqrt(np.maximum(variance, 0.0)) * self._sd


def _squares(first: Floats, second: Floats, parameters: Sequence[int]) -> Floats:
    """Return the squared distances of two sets of points along each parameter, (parameters, n, m)."""
    along = (first[:, None, :] - second[None, :, :]) ** 2
    groups = np.array(parameters)
    return np.stack([along[:, :, groups == index].sum(axis=2) for index in range(max(parameters) + 1)])


def _distances(squares: Floats, logs: Floats) -> Floats:
    """Return √5 times the scaled distances."""
    # Not 0, because the gradient of a root is infinite there.
    return np.asarray(np.sqrt(5 * np.maximum(np.tensordot(np.exp(-2 * logs[:-2]), squares, 1), 1e-12)))


def _kernel(squares: Floats, logs: Floats) -> Floats:
    r = _distances(squares, logs)
    return np.asarray(np.exp(logs[-2]) * (1 + r + r * r / 3) * np.exp(-r))


def _negative_log_likelihood(logs: Floats, squares: Floats, values: Floats) -> tuple[float, Floats]:
    """Return it, without its constant, and its gradient by the logarithms."""
    r = _distances(squares, logs)
    signal = np.exp(logs[-2]) * (1 + r + r * r / 3) * np.exp(-r)
    noise = np.exp(logs[-1])
    lower = np.linalg.cholesky(signal + (noise + _JITTER) * np.eye(len(values)))
    half = np.linalg.inv(lower)
    inverse = half.T @ half
    weights = inverse @ values
    # Half of the trace of this matrix times the kernel's derivative is the derivative of the likelihood.
    outer = np.outer(weights, weights) - inverse
    slope = outer * np.exp(logs[-2]) * (5 / 3) * (1 + r) * np.exp(-r)
    by_scale = -0.5 * np.tensordot(squares, slope, ([1, 2], [0, 1])) * np.exp(-2 * logs[:-2])
    by_signal = -0.5 * float((outer * signal).sum())
    by_noise = -0.5 * noise * float(np.trace(outer))
    value = 0.5 * float(values @ weights) + float(np.log(np.diag(lower)).sum())
    return value, np.array([*by_scale, by_signal, by_noise])
