"""Tests whether at most a share of the requests is bad, and may be looked at after each of them."""

from __future__ import annotations

import math

RATES = 8
"""How many rates above the bound are betted on."""

LEAST_BAD = 2
"""No alarm before as many bad requests, however small the bound: one may happen to anybody."""

_HIGHEST_RATE = 0.95


class ShareTest:
    """Alarms when bad requests are more frequent than a bound, soon and with few false alarms.

    Null hypothesis: given all that came before, each request is bad with a probability of at most
    `p0`. Against it stands that from some request on the probability is a larger `q`.

    Statistic: each rate `q` of a grid bets on every request. Its wealth is multiplied by `q / p0`
    where the request is bad, by `(1 - q) / (1 - p0)` where it is not: the likelihood ratio, whose
    expectation under the null hypothesis is at most 1, whatever came before. Half of the stake is
    betted from the first request on. The other half is kept back, and the same part of it starts at
    each of the first `horizon` requests, so that a version that turns bad after many good
    answers is found as soon, and not only when all that the good ones have cost is won back. The
    mean over the grid,

        E_n = mean_q [ 1/2 prod_(i<=n) f_i + 1/(2N) sum_(s<=n) prod_(s<=i<=n) f_i ] + (N-n)+/(2N),

    is a non-negative supermartingale that starts at 1. By Ville's inequality it reaches
    `1 / false_alarm` with a probability of at most `false_alarm`, ever, however often it is looked
    at. The grid has 8 rates whose odds are spaced evenly in the logarithm, from twice those of `p0`
    to those of 0.95.

    Sources: J. Ville, Étude critique de la notion de collectif, 1939; A. Wald, Sequential Tests of
    Statistical Hypotheses, Annals of Mathematical Statistics 16, 1945; A. Ramdas, P. Grünwald,
    V. Vovk, G. Shafer, Game-theoretic statistics and safe anytime-valid inference, Statistical
    Science 38, 2023. To start bets at each time is after J. Shin, A. Ramdas, A. Rinaldo,
    E-detectors, New England Journal of Statistics in Data Science, 2024.

    Attributes:
        bound: `p0`.
        seen: how many requests were looked at.
        bad: how many of them were bad.
        evidence: `E_n`, against the null hypothesis.

    >>> test = ShareTest(bound=0.02, false_alarm=0.001, horizon=1000)
    >>> [test.add(bad) for bad in (True, False, False)]  # one of the first three
    [False, False, False]
    >>> [test.add(True) for _ in range(4)]  # from now on always
    [False, False, True, True]
    """

    def __init__(self, bound: float, false_alarm: float, horizon: int) -> None:
        """Start the test.

        Args:
            bound: largest share of bad requests that is allowed; above 0, below 1.
            false_alarm: largest probability of an alarm where there should be none.
            horizon: how many requests the test is made for; longer ones are tested as well, only
                that no further bets start.

        Raises:
            ValueError: one of them is out of range.
        """
        if not (0.0 < bound < 1.0 and 0.0 < false_alarm < 1.0 and horizon >= 1):
            raise ValueError(f"no test with {bound=}, {false_alarm=}, {horizon=}")
        self.bound = bound
        self.seen = 0
        self.bad = 0
        self.evidence = 1.0
        self._alarm_at = 1.0 / false_alarm
        self._unstarted = horizon
        self._part = 0.5 / horizon
        self._factors = [(q / bound, (1.0 - q) / (1.0 - bound)) for q in rates_above(bound)]
        self._wealth = [0.5] * len(self._factors)

    def add(self, bad: bool) -> bool:
        """Take in one request.

        Returns:
            Whether there is an alarm; once there was one, there always is.
        """
        if self.alarmed:
            return True
        self.seen += 1
        self.bad += bad
        started = 0.0
        if self._unstarted:
            self._unstarted -= 1
            started = self._part
        column = 0 if bad else 1
        self._wealth = [
            (wealth + started) * factor[column]
            for wealth, factor in zip(self._wealth, self._factors, strict=True)
        ]
        mean = sum(self._wealth) / len(self._wealth)
        self.evidence = mean + self._unstarted * self._part
        return self.alarmed

    @property
    def alarmed(self) -> bool:
        """Whether the share is beyond its bound."""
        return self.bad >= LEAST_BAD and self.evidence >= self._alarm_at


def rates_above(bound: float) -> list[float]:
    """Return the grid of rates that are betted on, ascending, all between `bound` and 1."""
    odds = bound / (1.0 - bound)
    lowest = 2.0 * odds
    highest = max(_HIGHEST_RATE / (1.0 - _HIGHEST_RATE), 2.0 * lowest)
    step = math.log(highest / lowest) / (RATES - 1)
    grid = [lowest * math.exp(step * number) for number in range(RATES)]
    return [one / (1.0 + one) for one in grid]
