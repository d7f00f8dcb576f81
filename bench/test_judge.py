"""That the judge believes a calm machine, refuses a noisy one, and finds what is slow."""

import itertools
import unittest

import judge

WORKLOADS = [f"w{i}" for i in range(10)]


def figures(noise=0.0, drift=1.0, rounds=5, noisy=WORKLOADS, slow=()):
    """One peer at 0.7 and "ours" at 0.6 of the base, but at 1.0 where it is slow; all
    but the base up and down by the noise."""
    def runs(level, workload):
        share = noise if workload in noisy else 0.0
        swings = itertools.cycle((-share, share, 0))
        return [level * (1 + next(swings)) for _ in range(rounds)]

    values = {workload: {
        "base": [1.0] * rounds, "again": runs(drift, workload),
        "peer": runs(0.7, workload), "ours": runs(1.0 if workload in slow else 0.6, workload),
    } for workload in WORKLOADS}
    return judge.Figures(values, ["base", "again", "peer", "ours"], "base", "again")


class Judge(unittest.TestCase):
    def test_calm(self):
        calm = figures(noise=0.01)
        self.assertIsNone(calm.doubt())
        self.assertTrue(judge.means_verdict(calm, "ours", ["peer"], 0.95)[1])
        self.assertFalse(judge.means_verdict(calm, "ours", ["peer"], 0.8)[1])
        self.assertTrue(judge.each_verdict(calm, "ours", ["peer"], 1.15)[1])

    def test_noisy(self):
        self.assertIn("w0, w1", figures(noise=0.5).doubt())
        self.assertIn("differs from itself by 5", figures(drift=1.05).doubt())
        self.assertIn("4 of 5 rounds", figures(rounds=4).doubt())

    def test_few_noisy(self):
        """They take part in the mean, and are judged by themselves no more."""
        few = figures(noise=0.4, noisy=["w3"], slow=["w3"])
        self.assertEqual(few.noisy(), ["w3"])
        self.assertIsNone(few.doubt())
        text, is_reached = judge.each_verdict(few, "ours", ["peer"], 1.15)
        self.assertTrue(is_reached)
        self.assertIn("too noisy to judge: w3", text)

    def test_slow(self):
        text, is_reached = judge.each_verdict(
            figures(noise=0.01, slow=["w7"]), "ours", ["peer"], 1.15)
        self.assertFalse(is_reached)
        self.assertIn("w7 1.4", text)
        self.assertNotIn("w6", text)

    def test_failed(self):
        """A workload that one of them failed counts for none."""
        values = figures(slow=["w7"]).values
        del values["w7"]["peer"]
        left = judge.Figures(values, ["base", "again", "peer", "ours"], "base", "again")
        self.assertNotIn("w7", left.common)
        self.assertAlmostEqual(left.mean("ours"), 0.6)

    def test_interval(self):
        self.assertEqual(judge.interval([3, 1, 2, 5, 4]), (1, 5))
        self.assertEqual(judge.interval([8, 7, 6, 5, 4, 3, 2, 1]), (2, 7))


if __name__ == "__main__":
    unittest.main()
