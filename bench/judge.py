"""What figures say, and whether they may be believed.  Pure: runs and prints nothing.

Two allocators are compared by the ratios of their runs in the same round, which were
close in time.  A ratio of a workload is the median of these; its interval holds the
true median with a probability of 90% or more, whatever the distribution, because it
is made of the ratios' ranks alone.

Noise is what the base shows against itself: it runs twice in each round under two
names, so that every difference between them is the machine's.
"""

import math
import statistics

SPREAD_LIMIT = 0.10  # quartile spread of the control's ratios: above, a workload is noisy
NOISY_LIMIT = 0.25  # share of the workloads that may be noisy
DRIFT_LIMIT = 0.02  # the control's geometric mean may differ from 1 by that
ROUNDS_NEEDED = 5  # fewer have no interval of 90%
CONFIDENCE = 0.9


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def quartile_spread(values):
    """As a share of the median; of two values or less, their whole distance."""
    if len(values) < 3:
        return (max(values) - min(values)) / statistics.median(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def interval(values):
    """(low, high); the whole range when there are too few values."""
    ordered = sorted(values)
    count = len(ordered)
    outside = 0.0  # the chance that the median is beyond the values at `rank`
    rank = 0
    while True:
        outside += 2 * math.comb(count, rank) / 2 ** count
        if 1 - outside < CONFIDENCE or 2 * (rank + 1) > count:
            break
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[-1 - rank]


class Figures:
    """One metric: {workload: {allocator: [a value for each round]}}.  A workload that
    an allocator failed is without it; the geometric means are over the workloads
    that all have, so that they compare."""

    def __init__(self, values, allocators, base, control):
        self.values = values
        self.base = base
        self.control = control
        self.common = [workload for workload, row in values.items()
                       if all(name in row for name in allocators)]

    def median(self, workload, name):
        return statistics.median(self.values[workload][name])

    def ratios(self, workload, name, to):
        row = self.values[workload]
        return [ours / theirs for ours, theirs in zip(row[name], row[to])]

    def ratio(self, workload, name):
        return statistics.median(self.ratios(workload, name, self.base))

    def mean(self, name):
        return geometric_mean(self.ratio(workload, name) for workload in self.common)

    def best(self, workload, peers):
        """The peer of the lowest ratio there, or None."""
        return min((name for name in peers if name in self.values[workload]),
                   key=lambda name: self.ratio(workload, name), default=None)

    def against(self, workload, name, to):
        """(ratio, low, high)"""
        ratios = self.ratios(workload, name, to)
        return statistics.median(ratios), *interval(ratios)

    def spread(self, workload, name):
        """Half the quartile spread of the ratios to the base: a "plus or minus"."""
        return quartile_spread(self.ratios(workload, name, self.base)) / 2

    def noisy(self):
        """The workloads whose ratios say little."""
        def is_noisy(workload):
            ratios = self.ratios(workload, self.control, self.base)
            return (quartile_spread(ratios) > SPREAD_LIMIT
                    or abs(statistics.median(ratios) - 1) > SPREAD_LIMIT)
        return [workload for workload in self.common if is_noisy(workload)]

    def doubt(self):
        """Why no verdict is due, or None."""
        if not self.common:
            return "no workload ran under every allocator"
        rounds = min(len(runs) for runs in self.values[self.common[0]].values())
        if rounds < ROUNDS_NEEDED:
            return f"{rounds} of {ROUNDS_NEEDED} rounds that an interval needs"
        drift = abs(self.mean(self.control) - 1)
        if drift > DRIFT_LIMIT:
            return ("the machine was too noisy:"
                    f" {self.base} differs from itself by {drift:.1%}, more than {DRIFT_LIMIT:.0%}")
        noisy = self.noisy()
        if len(noisy) > NOISY_LIMIT * len(self.common):
            return ("the machine was too noisy:"
                    f" {self.base} differs from itself by more than {SPREAD_LIMIT:.0%} in"
                    f" {len(noisy)} of {len(self.common)} workloads: {', '.join(noisy)}")
        return None


def means_verdict(figures, subject, peers, limit):
    """The subject's geometric mean against that of the best single peer."""
    best = min(peers, key=figures.mean)
    ratio = figures.mean(subject) / figures.mean(best)
    return (f"geometric mean {figures.mean(subject):.3f} of {figures.base}, {best}"
            f" {figures.mean(best):.3f}: {ratio:.3f} of it (aim: {limit})", ratio <= limit)


def base_verdict(figures, subject, limit):
    """The subject's geometric mean against the base."""
    ratio = figures.mean(subject)
    return f"geometric mean {ratio:.3f} of {figures.base} (aim: {limit})", ratio <= limit


def each_verdict(figures, subject, peers, limit):
    """Each workload against its best among `peers`, whole interval below the limit."""
    noisy = figures.noisy()
    above = []
    for workload in figures.common:
        best = figures.best(workload, peers)
        ratio, low, high = figures.against(workload, subject, best)
        if workload not in noisy and high > limit:
            above.append(f"{workload} {ratio:.2f} [{low:.2f}, {high:.2f}] {best}")
    names = "the best peer" if len(peers) > 1 else peers[0]
    text = f"workloads above {limit} of {names}: {', '.join(above) or 'none'}"
    if noisy:
        text += f"; too noisy to judge: {', '.join(noisy)}"
    return text, not above
