"""Is a share higher or lower than before, or is the difference noise? And how a share is rounded. Pure."""

from __future__ import annotations

import math
from typing import Literal

LEVEL = 0.05  # two-sided
CRITICAL_Z = 1.959964  # 97.5 % quantile of the standard normal distribution
FEW = 5  # expected counts below this are too few for the normal approximation
NOTICEABLE = 0.001  # a smaller difference of shares cannot be seen in percentages of one decimal


def direction(before_hits: int, before_trials: int, hits: int, trials: int) -> Literal["up", "flat", "down"]:
    """The direction of hits/trials against before_hits/before_trials; "flat" where it is not significant or a period is empty.

    z = (p₁ − p₀) / √(p̄ (1 − p̄) (1/n₁ + 1/n₀)), p̄ the share of both periods together (NIST/SEMATECH e-Handbook, 7.3.3);
    with an expected count below `FEW`, Fisher's exact test instead. A difference below `NOTICEABLE` is flat however certain.
    """
    if before_trials == 0 or trials == 0:
        return "flat"
    difference = hits / trials - before_hits / before_trials
    all_hits, all_trials = before_hits + hits, before_trials + trials
    if abs(difference) < NOTICEABLE or all_hits in (0, all_trials):
        return "flat"
    expected = min(all_hits, all_trials - all_hits) * min(trials, before_trials) / all_trials
    if expected < FEW:
        significant = exact_probability(before_hits, before_trials, hits, trials) < LEVEL
    else:
        pooled = all_hits / all_trials
        spread = math.sqrt(pooled * (1 - pooled) * (1 / trials + 1 / before_trials))
        significant = abs(difference) >= CRITICAL_Z * spread
    if not significant:
        return "flat"
    return "up" if difference > 0 else "down"


def exact_probability(before_hits: int, before_trials: int, hits: int, trials: int) -> float:
    """Fisher's exact test, two-sided: how likely a split of the hits is that is no likelier than this one, were the shares equal."""
    all_hits, all_trials = before_hits + hits, before_trials + trials

    def likelihood(here: int) -> float:
        return math.exp(
            log_choose(trials, here) + log_choose(before_trials, all_hits - here) - log_choose(all_trials, all_hits)
        )

    # Splits as likely as the observed one but for rounding belong to the tail too.
    bound = likelihood(hits) * (1 + 1e-7)
    possible = range(max(0, all_hits - before_trials), min(all_hits, trials) + 1)
    return math.fsum(found for found in map(likelihood, possible) if found <= bound)


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def rounded_share(part: int, whole: int, *, scale: int = 1, decimals: int) -> float:
    """scale · part / whole, rounded; never rounded onto "none" or "all" unless it is. 0 ≤ part ≤ whole, whole > 0.

    9999 of 10 000 are 99.9 %, not 100.0 %: a report must not claim perfection beside the exception it counts.
    """
    if part in (0, whole):
        return float(scale * part // whole)
    step = 10.0**-decimals
    return round(min(max(round(scale * part / whole, decimals), step), scale - step), decimals)
