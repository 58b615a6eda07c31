"""Ranges narrower than what was seen: rare values are cut off for finer steps elsewhere."""

import numpy as np
import numpy.typing as npt

BINS = 2048
_LEVELS = 128  # steps that int8 has for the magnitude of a tensor with both signs
_STRIDE = 16  # of the thresholds that are tried, in bins

Counts = npt.NDArray[np.int64]


class Histogram:
    """How often a tensor took values in each of `BINS` equal parts of its range.

    Args:
        low: the least value there is.
        high: the greatest.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.counts: Counts = np.zeros(BINS, np.int64)

    def add(self, values: npt.NDArray[np.generic]) -> None:
        """Count the values."""
        counts, _ = np.histogram(values, BINS, (self.low, self.high))
        self.counts += counts

    def percentile(self, share: float) -> tuple[float, float]:
        """The narrowest range, in whole bins, that leaves out at most half the rest at each end.

        Args:
            share: in percent, of the values that are to be inside.
        """
        allowed = self.counts.sum() * (1 - share / 100) / 2
        below = np.searchsorted(np.cumsum(self.counts), allowed, side="right")
        above = np.searchsorted(np.cumsum(self.counts[::-1]), allowed, side="right")
        width = (self.high - self.low) / BINS
        return self.low + below * width, self.high - above * width

    def entropy(self) -> tuple[float, float]:
        """The range whose int8 histogram tells most of this one.

        Of growing thresholds on the magnitude, the one with the least Kullback-Leibler divergence
        between the histogram with what is beyond moved to the threshold, and the same in int8's
        steps (Migacz, "8-bit Inference with TensorRT", GTC 2017).
        """
        reach = max(abs(self.low), abs(self.high))
        edges = np.linspace(self.low, self.high, BINS + 1)
        middles = np.abs(edges[:-1] + edges[1:]) / 2
        weights = self.counts.astype(np.float64)
        magnitudes, _ = np.histogram(middles, BINS, (0, reach), weights=weights)
        magnitudes[0] = magnitudes[1]  # zeros are exact in int8 and say nothing of the steps
        levels = _LEVELS if self.low < 0 else 2 * _LEVELS
        tried = range(levels, BINS + 1, _STRIDE)
        best = min(tried, key=lambda bins: _divergence(magnitudes, bins, levels))
        threshold = reach * best / BINS
        return max(self.low, -threshold), min(self.high, threshold)


def _divergence(magnitudes: npt.NDArray[np.float64], bins: int, levels: int) -> float:
    """Kullback-Leibler divergence, in nats, of int8's version cut off after `bins`."""
    inside = magnitudes[:bins]
    wanted = inside.copy()
    wanted[-1] += magnitudes[bins:].sum()
    level = np.arange(bins) * levels // bins
    filled = inside > 0
    total = np.bincount(level, inside, levels)
    sharing = np.bincount(level, filled, levels)
    spread = np.where(filled, (total / np.maximum(sharing, 1))[level], 0)
    if not wanted.any() or not spread.any():
        return np.inf
    wanted /= wanted.sum()
    spread = np.maximum(spread / spread.sum(), np.finfo(np.float32).tiny)
    some = wanted > 0
    return float(np.sum(wanted[some] * np.log(wanted[some] / spread[some])))
