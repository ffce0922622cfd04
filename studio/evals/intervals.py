"""Means with 95 % intervals, of one recipe and of the difference of two. A prompt counts once, whatever its seeds.

Seeds of one prompt are more alike than prompts are, so the mean over a prompt's seeds is one observation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

LEVEL = 0.95
Z = 1.959964  # of the normal distribution at LEVEL


@dataclass(frozen=True)
class Interval:
    """low, high: None where fewer than two prompts leave them unknown. count: of prompts."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def decides(self) -> bool:
        """Whether 0 lies outside: a difference is more than chance."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float]) -> Interval:
    """Of numbers of any scale: Student's t."""
    count, mean = len(values), math.fsum(values) / len(values)
    if count < 2:
        return Interval(mean, None, None, count)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half, count)


def share_interval(values: Sequence[float]) -> Interval:
    """Of shares and of 0 or 1: Wilson's (JASA 1927), which stays within 0..1 and has a width at 0 and 1 too."""
    count, mean = len(values), math.fsum(values) / len(values)
    if count < 2:
        return Interval(mean, None, None, count)
    middle = (mean + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(mean * (1 - mean) / count + Z * Z / (4 * count * count))
    return Interval(mean, max(middle - half, 0.0), min(middle + half, 1.0), count)


def difference_interval(differences: Sequence[float], of_shares: bool) -> Interval:
    """Of the differences of two recipes prompt by prompt. of_shares: of 0 or 1, where many are 0 and t is too sure:

    Agresti and Min (Statistics in Medicine 2005): half a prompt is added to each cell of wins and losses.
    """
    if not of_shares or len(differences) < 2:
        return mean_interval(differences)
    count = len(differences)
    wins = math.fsum(max(value, 0.0) for value in differences) + 0.5
    losses = math.fsum(max(-value, 0.0) for value in differences) + 0.5
    middle = (wins - losses) / (count + 2)
    half = Z * math.sqrt(max(wins + losses - (wins - losses) ** 2 / (count + 2), 0.0)) / (count + 2)
    return Interval(math.fsum(differences) / count, max(middle - half, -1.0), min(middle + half, 1.0), count)
