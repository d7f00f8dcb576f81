"""What cede doctor does to its target: nothing that lasts, whatever happens.

    test_safety.py COMMAND TARGET [CASE ...]
"""

import os
import random
import signal
import sys
import time
import unittest

import support
from support import Target

COMMAND = TARGET = None
CYCLES = int(os.environ.get("CYCLES", 30))


class Case(unittest.TestCase):
    def turns(self, target):
        """Turns of the slowest thread since the start."""
        target.send(b"?")
        return int(target.line()[1])

    def assert_goes_on(self, target):
        """Every thread runs, untraced, and turns."""
        self.assertFalse(target.states() & {"t", "T", "Z", "X"})
        with open(f"/proc/{target.pid}/status") as status:
            self.assertIn("TracerPid:\t0\n", list(status))
        before, deadline = self.turns(target), time.monotonic() + 60
        while self.turns(target) == before:
            self.assertLess(time.monotonic(), deadline, "a thread stands still")


class Churning(Case):
    def test_cycles(self):
        """Attach and detach while eight threads allocate."""
        told = 0
        with Target(TARGET, "churn", 8) as target:
            for _ in range(CYCLES):
                result = support.run(COMMAND, target.pid)
                if result.returncode == 1:
                    self.assertIn("in the middle of changing its heap", result.stderr)
                else:
                    self.assertIn(result.returncode, support.VERDICTS.values(), result.stderr)
                    told += 1
                self.assert_goes_on(target)
        print(f"{told} of {CYCLES} told", file=sys.stderr)
        self.assertGreater(told, CYCLES / 2)

    def test_signals_arrive(self):
        """None is lost or comes twice, whatever it meets."""
        count = 0
        with Target(TARGET, "churn", 4) as target:
            for _ in range(5):
                doctor = support.start(COMMAND, "doctor", target.pid)
                # The kernel keeps some ten thousand for those who cannot take them.
                for sent in range(10000):
                    if doctor.poll() is None:
                        os.kill(target.pid, signal.SIGRTMIN)
                        count += 1
                        time.sleep(0 if sent % 20 else 0.0001)
                doctor.wait()
                self.assert_goes_on(target)
            deadline, came = time.monotonic() + 60, 0
            while came < count:
                self.assertLess(time.monotonic(), deadline, f"{came} of {count} came")
                target.send(b"?")
                came = int(target.line()[2])
            self.assertEqual(came, count)

    def test_doctor_ends_early(self):
        """Killed, interrupted or terminated at any moment."""
        chance = random.Random(1)
        with Target(TARGET, "churn", 8) as target:
            for _ in range(CYCLES):
                doctor = support.start(COMMAND, "doctor", target.pid)
                time.sleep(chance.random() * 0.02)
                doctor.send_signal(chance.choice(
                    [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
                doctor.wait()
                self.assert_goes_on(target)

    def test_doctor_killed_while_it_holds(self):
        """A large heap takes long enough to be sure of the moment."""
        with Target(TARGET, "sparse", 4000000, 2) as target:
            target.go()
            held = 0
            for _ in range(20):
                doctor = support.start(COMMAND, "doctor", target.pid)
                while doctor.poll() is None and "t" not in target.states():
                    pass
                doctor.kill()
                doctor.wait()
                held += doctor.returncode == -signal.SIGKILL
                target.comes_to("S")
            self.assertGreater(held, 10)
            target.send(b"i")
            target.read_step()

    def test_doctor_stopped_while_it_holds(self):
        """Ctrl-Z stops the doctor, and not its target with it."""
        with Target(TARGET, "sparse", 4000000, 2) as target:
            target.go()
            held = 0
            for _ in range(5):
                # In a group with nobody outside it the signal would do nothing.
                doctor = support.start(COMMAND, "doctor", target.pid, process_group=0)
                while doctor.poll() is None and "t" not in target.states():
                    pass
                doctor.send_signal(signal.SIGTSTP)
                _, status = os.waitpid(doctor.pid, os.WUNTRACED)
                held += os.WIFSTOPPED(status)
                target.comes_to("S")
                doctor.kill()
                if os.WIFSTOPPED(status):
                    os.waitpid(doctor.pid, 0)
                doctor.returncode = 0
            self.assertGreater(held, 2)


class Still(Case):
    def test_stopped_stays_stopped(self):
        with Target(TARGET, "list", 100) as target:
            os.kill(target.pid, signal.SIGSTOP)
            target.comes_to("T")
            self.assertEqual(support.findings(COMMAND, target.pid)["verdict"], "live")
            target.comes_to("T")
            os.kill(target.pid, signal.SIGCONT)
            target.go()

    def test_resident_memory_stays(self):
        """To look brings no page in: the same before and after, also the machine's zeros."""
        with Target(TARGET, "sparse", 200000, 50) as target:
            target.go()
            target.trim()

            def pages():
                # Whether a page of a file is shared depends on who else runs it just now.
                clean = target.rollup("Private_Clean") + target.rollup("Shared_Clean")
                return target.rollup("Rss"), target.rollup("Anonymous"), clean

            before = pages()
            if support.ON_CEDE:
                # Its thread may still be at work after the trim.
                while time.sleep(1) or before != pages():
                    before = pages()
            for _ in range(3):
                support.findings(COMMAND, target.pid)
            self.assertEqual(before, pages())
            first = support.findings(COMMAND, target.pid)
            again = support.findings(COMMAND, target.pid)
            for found in (first, again):
                found["reading"].pop("pause_microseconds")
                found.pop("taken")
            self.assertEqual(first, again)


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
