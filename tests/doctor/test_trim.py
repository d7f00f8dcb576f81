"""cede trim: as much goes back as was predicted, the process notices nothing else, and is
left as it is wherever a call could harm it.

    test_trim.py COMMAND TARGET [CASE ...]
"""

import json
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import unittest

import support
from support import LIBRARIES, NO_CACHE, NOBODY, PAGE, Target

COMMAND = TARGET = None
STATIC_TARGET = os.environ.get("DOCTOR_STATIC_TARGET")
CYCLES = int(os.environ.get("CYCLES", 10))
WAIT4, RESTART_SYSCALL = 61, 219


def trim(*arguments, **how):
    return support.cede(COMMAND, "trim", *arguments, **how)


def begin(target, **how):
    """A trim that is not waited for."""
    return support.start(COMMAND, "trim", "--yes", target.pid, **how)


def call_of(pid):
    """The number of the system call that it waits in, or None."""
    try:
        with open(f"/proc/{pid}/syscall") as file:
            word = file.read().split()[0]
    except (OSError, IndexError):
        return None
    return None if word == "running" else int(word)


class Case(support.Case):
    def assert_hindered(self, result, *words):
        self.assert_says(result, 1, "was left as it is", *words)

    def trim(self, target):
        """Trims, and tells what is told; it must be what was predicted, to the page."""
        arenas = len(support.findings(COMMAND, target.pid)["arenas"])
        result = trim("--yes", "--json", target.pid)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result)
        told = json.loads(result.stdout)
        self.assertEqual(told["schema"], "cede-trim/1")
        self.assertLessEqual(abs(told["predicted_bytes"] - told["given_bytes"]), arenas * PAGE)
        self.assertEqual(told["given_bytes"], told["before_bytes"] - told["after_bytes"])
        return told


class Trims(Case):
    """What goes back, at each place of a heap."""

    def steps(self, *arguments, steps, **settings):
        with Target(TARGET, *arguments, **settings) as target:
            for _ in range(steps):
                target.go()
            first = self.trim(target)
            before = dict(target.info)
            target.send(b"i")
            target.read_step()
            for name in ("uordblks", "hblks", "hblkhd"):
                self.assertEqual(target.info[name], before[name], name)
            # A second time nothing is left.
            again = support.findings(COMMAND, target.pid)["trim"]["bytes"]
            self.assertLessEqual(again, PAGE)
            return first

    def test_list(self):
        self.assertGreater(self.steps("list", 10000, steps=2, **NO_CACHE)["given_bytes"],
                           614000000)
        self.assertGreater(self.steps("list", 10000, steps=3, **NO_CACHE)["given_bytes"],
                           614000000 if self.has_fast_bins() else 0)

    def has_fast_bins(self):
        with Target(TARGET, "list", 1) as target:
            version = support.findings(COMMAND, target.pid)["reading"]["glibc"]
        return tuple(map(int, version.split("."))) < (2, 43)

    def test_list_cached(self):
        self.steps("list", 2000, steps=3)

    def test_pin(self):
        self.steps("pin", 65536, steps=2, **NO_CACHE)

    def test_blocks(self):
        for size in (100, 120, 121, 500, 1024, 10240):
            with self.subTest(size):
                self.steps("blocks", size, 64 << 20, steps=2)

    def test_threads(self):
        for threads in (1, 4, 16):
            for steps in (0, 1):
                with self.subTest(threads, steps=steps):
                    self.steps("threads", threads, 40000, steps=steps)

    def test_foreign_and_blocked(self):
        self.steps("foreign", 3, 0x21, steps=1)
        self.steps("blocked", 1, 1, steps=1)

    def test_static(self):
        with Target(STATIC_TARGET, "list", 2000) as target:
            target.go()
            target.go()
            self.assertGreater(self.trim(target)["given_bytes"], 122000000)
            target.go()

    def test_nothing(self):
        with Target(TARGET, "list", 10) as target:
            self.assertIn("would give nothing back", trim("--yes", target.pid).stdout)
            self.assertEqual(self.trim(target)["stops"], 0)

    def test_text(self):
        with Target(TARGET, "list", 2000) as target:
            target.go()
            target.go()
            result = trim("--yes", target.pid)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"gave back 122\.\d MB \(122\d{6} bytes; predicted 122\d{6}")
        self.assertRegex(result.stdout, r"It stood still for \d+\.\d ms")


class Waits(Case):
    """What a thread that made the call finds where it waits."""

    READ, POLL, PPOLL, EPOLL, SUSPEND, SLEEP, FUTEX = range(7)
    EINTR, ETIMEDOUT = -4, -110

    def came(self, target):
        word, *values = target.line()
        self.assertEqual(word, "came")
        return support.numbers(values)

    def waits_in(self, target, *numbers):
        deadline = time.monotonic() + 30
        while call_of(target.pid) not in numbers:
            self.assertLess(time.monotonic(), deadline, f"not in {numbers}")

    def check(self, kind, number, result, *, seconds=0, locked=0, end=None):
        with Target(TARGET, "waits", kind, 1000 * seconds, locked) as target:
            for _ in range(1 if seconds else 3):
                self.waits_in(target, number)
                told = trim("--yes", target.pid)
                self.assertEqual((told.returncode, told.stderr), (0, ""))
                if kind in (self.POLL, self.SLEEP):
                    # The wait goes on as it was; it does not begin again.
                    self.waits_in(target, RESTART_SYSCALL)
                if end:
                    os.kill(target.pid, end)
                target.send(b"x")
                came = self.came(target)
                came.pop("handled")
                self.assertEqual(came, dict(result=result, bad=0, changed=0))
                target.read_step()

    def test_read(self):
        self.check(self.READ, 0, 1)

    def test_poll(self):
        self.check(self.POLL, 7, 1)

    def test_ppoll(self):
        self.check(self.PPOLL, 271, 1)

    def test_epoll(self):
        """Linux does not restart it, whoever interrupts."""
        self.check(self.EPOLL, 232, self.EINTR)

    def test_suspend(self):
        self.check(self.SUSPEND, 130, self.EINTR, end=signal.SIGUSR1)

    def test_sleep(self):
        self.check(self.SLEEP, 35, 0, seconds=3)

    def test_futex(self):
        self.check(self.FUTEX, 202, self.ETIMEDOUT, seconds=3)

    def test_errno_stays(self):
        """Of memory that is locked nothing goes, and malloc_trim's errno is not the thread's."""
        with Target(TARGET, "waits", self.READ, 0, 1) as target:
            self.waits_in(target, 0)
            result = json.loads(trim("--yes", "--json", target.pid).stdout)
            self.assertLess(result["given_bytes"], result["predicted_bytes"] / 2)
            target.send(b"x")
            self.assertEqual(self.came(target), dict(result=1, bad=0, changed=0, handled=0))

    def test_signals_wait(self):
        """Those that come meanwhile come afterwards: to handlers, and to stop it."""
        with Target(TARGET, "waits", self.SLEEP, 2000) as target:
            self.waits_in(target, 35)
            command = begin(target, stderr=subprocess.PIPE)
            while command.poll() is None and call_of(command.pid) != WAIT4:
                pass
            os.kill(target.pid, signal.SIGUSR1)
            self.assertEqual(command.wait(), 0, command.communicate())
            target.send(b"x")
            self.assertEqual(self.came(target), dict(result=self.EINTR, bad=0, changed=0,
                                                     handled=1))
            target.read_step()
            self.waits_in(target, 35)
            command = begin(target, stderr=subprocess.PIPE)
            while command.poll() is None and call_of(command.pid) != WAIT4:
                pass
            os.kill(target.pid, signal.SIGSTOP)
            self.assertEqual(command.wait(), 0, command.communicate())
            target.comes_to("T")
            os.kill(target.pid, signal.SIGCONT)
            target.send(b"x")
            self.assertEqual(self.came(target), dict(result=0, bad=0, changed=0, handled=1))

    def test_command_killed(self):
        """In the middle of the call, wherever: the thread finishes it, and goes on."""
        chance = random.Random(7)
        for kind, number, result in ((self.READ, 0, 1), (self.POLL, 7, 1), (self.PPOLL, 271, 1),
                                     (self.SLEEP, 35, 0), (self.FUTEX, 202, self.ETIMEDOUT)):
            killed = 0
            with self.subTest(kind), Target(TARGET, "waits", kind, 200) as target:
                for _ in range(CYCLES):
                    self.waits_in(target, number)
                    command = begin(target)
                    while command.poll() is None and call_of(command.pid) != WAIT4:
                        pass
                    time.sleep(chance.random() ** 3 * 0.05)
                    command.kill()
                    killed += command.wait() == -signal.SIGKILL
                    target.send(b"x")
                    self.assertEqual(self.came(target), dict(result=result, bad=0, changed=0,
                                                             handled=0))
                    target.read_step()
            self.assertGreater(killed, CYCLES / 4)


class Hindered(Case):
    """Where nothing is done."""

    def test_inside_malloc(self):
        """A handler that interrupted malloc, and waits; on either stack."""
        for own_stack, word in ((0, "inside malloc"), (1, "stacks of their own making")):
            with self.subTest(word), Target(TARGET, "handler", own_stack) as target:
                self.assertEqual(target.step, "inside")
                self.assert_hindered(trim("--yes", target.pid), word)
                target.send(b"g")
                self.assertEqual(target.line(), ["went", "changed=0"])
                target.read_step()
                self.assertGreater(self.trim(target)["given_bytes"], 1000000)

    def test_stale_address(self):
        """One of malloc that no function returns to: known when all ways out are told."""
        with Target(TARGET, "stale", 0) as target:
            self.assertGreater(self.trim(target)["given_bytes"], 1000000)
        with Target(TARGET, "stale", 1) as target:
            self.assert_hindered(trim("--yes", target.pid), "inside malloc")

    def test_coroutine(self):
        with Target(TARGET, "coroutine") as target:
            self.assert_hindered(trim("--yes", target.pid), "stacks of their own making")
            target.go()
            self.trim(target)

    def test_small_stack(self):
        with Target(TARGET, "small", 16384) as target:
            self.assert_hindered(trim("--yes", target.pid), "too little room")
        with Target(TARGET, "small", 65536) as target:
            self.trim(target)

    def test_stopped(self):
        with Target(TARGET, "pin", 5000) as target:
            target.go()
            target.go()
            os.kill(target.pid, signal.SIGSTOP)
            target.comes_to("T")
            self.assert_hindered(trim("--yes", target.pid), "SIGCONT")
            target.comes_to("T")
            os.kill(target.pid, signal.SIGCONT)
            self.trim(target)

    def test_strict(self):
        with Target(TARGET, "confined", 1) as target:
            self.assert_hindered(trim("--yes", target.pid), "seccomp allows")
            target.send(b"i")
            target.read_step()

    def test_filtered(self):
        """By a filter that would kill: put off by who may, else left alone."""
        with Target(TARGET, "confined", 2) as target:
            if os.geteuid() == 0:
                self.trim(target)
            else:
                self.assert_hindered(trim("--yes", target.pid), "CAP_SYS_ADMIN")
            target.send(b"i")
            target.read_step()

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_filtered_by_another_user(self):
        program, command = self.copies(TARGET, COMMAND)
        with Target(program, "confined", 2, prepare=lambda: os.setuid(NOBODY)) as target:
            result = support.cede(command, "trim", "--yes", target.pid, user=NOBODY)
            self.assert_hindered(result, "CAP_SYS_ADMIN")
            target.send(b"i")
            target.read_step()

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_by_its_own_user(self):
        """Without any right beyond that."""
        program, command = self.copies(TARGET, COMMAND)
        with Target(program, "stale", 0, prepare=lambda: os.setuid(NOBODY)) as target:
            result = support.cede(command, "trim", "--yes", target.pid, user=NOBODY)
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    @unittest.skipUnless(shutil.which("strip"), "no strip here")
    def test_stripped(self):
        """A static program without symbols."""
        path = self.path("target")
        subprocess.run(["strip", "-s", "-o", path, STATIC_TARGET], check=True)
        with Target(path, "list", 2000) as target:
            target.go()
            target.go()
            self.assert_hindered(trim("--yes", target.pid), "has no symbols")

    def test_never_waits(self):
        with Target(TARGET, "guarding", 0) as target:
            result = trim("--yes", target.pid)
            self.assertEqual(result.returncode, 1, result)
            self.assertRegex(result.stderr, "never wait|in the middle of changing")

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_of_another_user(self):
        with Target(TARGET, "list", 10) as target:
            result = trim("--yes", target.pid, user=NOBODY)
        self.assertEqual(result.returncode, 1)
        self.assertIn("belongs to another user (root)", result.stderr)

    def test_other_allocators(self):
        for name, library in (("jemalloc", "libjemalloc.so.2"), ("mimalloc", "libmimalloc.so.2.0"),
                              ("tcmalloc", "libtcmalloc_minimal.so.4")):
            if not os.path.exists(LIBRARIES + library):
                continue
            with self.subTest(name), \
                    Target(TARGET, "list", 10, LD_PRELOAD=LIBRARIES + library) as target:
                result = trim("--yes", target.pid)
                self.assertEqual((result.returncode, result.stdout), (13, ""))
                self.assertIn(f"runs on {name}", result.stderr)


@unittest.skipUnless(os.environ.get("DOCTOR_LIBCEDE"), "needs the library")
class OnCede(Case):
    """A process on cede is asked to give back by itself."""

    def target(self, *arguments, options="policy=default"):
        return Target(TARGET, *arguments, LD_PRELOAD=os.environ["DOCTOR_LIBCEDE"],
                      CEDE_OPTIONS=options)

    def heap(self, target):
        return support.stats(COMMAND, target.pid)["stats"]

    def rests(self, target, most):
        """Waits until the purger sleeps, and tells what is free and resident then."""
        deadline = time.monotonic() + 60
        while True:
            heap = self.heap(target)
            if heap["purger"] == "asleep" and heap["free_resident_bytes"] < most:
                return heap["free_resident_bytes"]
            self.assertLess(time.monotonic(), deadline, heap)
            time.sleep(0.05)

    def test_asleep(self):
        with self.target("remains") as target:
            target.go()
            self.rests(target, 1 << 20)
            target.send(b"g")
            self.assertEqual(target.line(), ["changed", "0"])
            target.read_step()
            left = self.rests(target, 2 << 20)
            self.assertGreater(left, 400000)
            result = trim("--yes", "--json", target.pid)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            told = json.loads(result.stdout)
            self.assertGreater(told["given_bytes"], 400000)
            self.assertLess(self.rests(target, 1 << 20), 100000)
            target.send(b"i")
            target.read_step()

    def test_awake(self):
        """While other threads go on; their blocks stay as they are."""
        with self.target("guarding", 4) as target:
            for _ in range(20):
                result = trim("--yes", target.pid)
                self.assertEqual((result.returncode, result.stderr), (0, ""), result)
                target.send(b"?")
                self.assertEqual(target.line()[2], "0")

    def test_nobody_to_ask(self):
        for options, word in (("policy=classic", "policy classic"),
                              ("background=off", "no thread of its own"),
                              ("policy=default", "has not begun to give back")):
            with self.subTest(options), self.target("list", 5, options=options) as target:
                self.assert_hindered(trim("--yes", target.pid), word)


class Asks(Case):
    def asked(self, pid, answer):
        """On a terminal: what it asks there, and the result."""
        master, terminal = pty.openpty()
        command = subprocess.Popen([COMMAND, "trim", str(pid)], stdin=terminal, stderr=terminal,
                                   stdout=subprocess.PIPE, text=True)
        os.close(terminal)
        question = ""
        while "[y/N]" not in question and select.select([master], [], [], 30)[0]:
            question += os.read(master, 4096).decode()
        os.write(master, answer)
        output = command.communicate()[0]
        os.close(master)
        return question, command.returncode, output

    def test_on_a_terminal(self):
        with Target(TARGET, "pin", 5000) as target:
            target.go()
            target.go()
            for answer in (b"\n", b"n\n", b"\x04"):
                question, status, output = self.asked(target.pid, answer)
                self.assertIn("malloc_trim(0) gives back 2", question)
                self.assertEqual((status, output), (1, ""))
            self.assertGreater(support.findings(COMMAND, target.pid)["trim"]["bytes"], 20000000)
            question, status, output = self.asked(target.pid, b"y\n")
            self.assertEqual(status, 0)
            self.assertIn("gave back 2", output)

    def test_wrong_usage(self):
        for arguments in ([], ["x"], ["--yes"], ["--yes", "1", "2"], ["--nonsense", "1"]):
            with self.subTest(arguments):
                result = trim(*arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
        result = trim(os.getppid())
        self.assertEqual(result.returncode, 2)
        self.assertIn("--yes", result.stderr)

    def test_help(self):
        result = trim("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for word in ("--yes", "--json", "Exit status", "PID"):
            self.assertIn(word, result.stdout)


class Churning(Case):
    """Threads that change the heap all the time, and look after their blocks."""

    def turns(self, target):
        target.send(b"?")
        words = target.line()
        self.assertEqual(words[2], "0", "blocks changed")
        return int(words[1])

    def assert_goes_on(self, target):
        with open(f"/proc/{target.pid}/status") as status:
            self.assertIn("TracerPid:\t0\n", list(status))
        before, deadline = self.turns(target), time.monotonic() + 60
        while self.turns(target) == before:
            self.assertLess(time.monotonic(), deadline, "a thread stands still")

    def test_trims(self):
        done = 0
        with Target(TARGET, "guarding", 6) as target:
            for _ in range(CYCLES):
                result = trim("--yes", target.pid)
                if result.returncode == 1:
                    self.assertRegex(result.stderr, "was left as it is|in the middle of changing")
                else:
                    self.assertEqual((result.returncode, result.stderr), (0, ""))
                    done += "gave back" in result.stdout
                self.assert_goes_on(target)
        print(f"{done} of {CYCLES} done", file=sys.stderr)
        self.assertGreater(done, CYCLES / 4)

    def test_command_killed(self):
        chance = random.Random(5)
        with Target(TARGET, "guarding", 6) as target:
            for _ in range(CYCLES):
                command = begin(target)
                time.sleep(chance.random() * 0.05)
                command.send_signal(chance.choice(
                    [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
                command.wait()
                self.assert_goes_on(target)


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
