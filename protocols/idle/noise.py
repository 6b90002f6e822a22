"""The slow noise of the idle layer: random walks on a fixed grid of time, the same at every frame rate."""

import math

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.idle import kernels as k

FALL = 1.5
"""What the two walks fall by between them, f^-1.5; smoothed, 0.1 to 3 Hz fall by f^-1.8 (measured). The sway of
standing people is a random walk that posture draws back (f^-2, flat below; Collins & De Luca 1995), and the head on
top of it resonates near 3 Hz (Honegger et al. 2012)."""

FACE_BAND = (0.02, 0.3)
"""Hz, of the differences between left and right."""
DRIFT_BAND = (0.3, 4.0)
"""Hz, of gaze within a fixation."""

_ROWS = 32  # samples whose random numbers are drawn at once
_SETTLE = 256  # samples at the start, so that it begins in the middle of things: 8.5 s
_FREQUENCIES = 16384  # at which the filters are looked at to fix the RMS


def coefficients(low: float, high: float) -> NDArray[np.float64]:
    """Filter numbers of one noise of RMS 1 between two frequencies in Hz: float64[5].

    The two walks lie at the band's lower end and its middle, with variances that make the sum fall by FALL.
    """
    middle = math.sqrt(low * high)
    slow, fast = (math.exp(-2.0 * math.pi * f * k.GRID) for f in (low, middle))
    smooth = 1.0 - math.exp(-2.0 * math.pi * high * k.GRID)
    gains = math.sqrt(1.0 - slow * slow), math.sqrt(1.0 - fast * fast) * (middle / low) ** (0.5 * (1.0 - FALL))
    turns = np.exp(-1j * np.pi * (np.arange(_FREQUENCIES) + 0.5) / _FREQUENCIES)
    smoothing = np.abs(smooth / (1.0 - (1.0 - smooth) * turns)) ** 4
    power = sum(
        float(np.mean(smoothing * np.abs(gain / (1.0 - keep * turns)) ** 2))
        for gain, keep in zip(gains, (slow, fast), strict=True)
    )
    return np.array([slow, gains[0] / math.sqrt(power), fast, gains[1] / math.sqrt(power), smooth])


class Noise:
    """All noises of one face. `samples`, float64[NOISES, 4], holds the four around the time that `advance` reached.

    Args:
        seed: of the random numbers.
        head: `coefficients` of the head's motion.
    """

    def __init__(self, seed: int, *, head: NDArray[np.float64]) -> None:
        self.samples = np.zeros((k.NOISES, 4))
        self.at = 0.0
        """When the current stretch of the grid begins, s."""
        self._random = np.random.default_rng([seed, 0])
        self._normals = np.empty((_ROWS, k.NOISES, 2))
        self._row = _ROWS
        self._filters = np.zeros((k.NOISES, 4))
        self._coefficients = np.empty((k.NOISES, 5))
        self._coefficients[k.NOISE_BROWS : k.NOISE_CORNER + 1] = coefficients(*FACE_BAND)
        self._coefficients[k.NOISE_X : k.NOISE_Y + 1] = coefficients(*DRIFT_BAND)
        self.set_head(head)
        for _ in range(_SETTLE):
            self._step()

    def set_head(self, numbers: NDArray[np.float64]) -> None:
        """Filter the head's motion by `coefficients`. What it has reached goes on without a jump."""
        self._coefficients[k.NOISE_YAW : k.NOISE_ROLL + 1] = numbers

    @property
    def due(self) -> float:
        """When the next sample is needed, s."""
        return self.at + k.GRID

    def advance(self) -> None:
        """Go on to the next stretch of the grid."""
        self.at += k.GRID
        self._step()

    def _step(self) -> None:
        if self._row == _ROWS:
            self._random.standard_normal(out=self._normals)
            self._row = 0
        k.step_noise(self._normals, self._row, self._coefficients, self._filters, self.samples)
        self._row += 1
