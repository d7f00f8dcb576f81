"""cede stats: its figures against those of the process itself, why memory is held, and
what it says of processes that it cannot read.

    test_cli_stats.py COMMAND LIBRARY TARGET STATIC_TARGET

COMMAND is the built command, LIBRARY is preloaded into TARGET; STATIC_TARGET has the
library inside.
"""

import itertools
import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
import unittest

COMMAND = LIBRARY = TARGET = STATIC = None
JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
NOBODY = pwd.getpwnam("nobody").pw_uid
POLICIES = ["default", "classic"]
PURGERS = ["none", "asleep", "awake", "absent"]


def cede_stats(*arguments, **options):
    return subprocess.run([COMMAND, "stats", *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, **options)


def told(pid, seconds=0):
    result = cede_stats("--json", "--seconds", seconds, pid)
    if result.returncode != 0 or result.stderr:
        raise AssertionError(result.stderr)
    return json.loads(result.stdout)


class Case(unittest.TestCase):
    def started(self, *command, preload=None, options=None, **variables):
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("LD_PRELOAD", "CEDE_OPTIONS")} | variables
        if preload:
            environment["LD_PRELOAD"] = preload
        if options:
            environment["CEDE_OPTIONS"] = options
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment, text=True)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def begun(self, state, way="preloaded", options="policy=default", **variables):
        if way == "static":
            return self.started(STATIC, state, options=options, **variables)
        return self.started(TARGET, state, options=options, preload=LIBRARY, **variables)

    def target(self, *arguments, **options):
        """A target in its state; and what it says of itself."""
        process = self.begun(*arguments, **options)
        return process.pid, self.says(process)

    def says(self, process):
        line = process.stdout.readline()
        self.assertTrue(line, "the target ended")
        return json.loads(line)

    def until(self, met):
        deadline = time.monotonic() + 60
        while not met():
            self.assertLess(time.monotonic(), deadline, "it did not come about")
            time.sleep(0.02)

    def asleep(self, *command, **options):
        """A program that does nothing more."""
        pid = self.started(*command, **options).pid
        def sleeps():
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "S"
        self.until(sleeps)
        return pid

    def reasons(self, pid, seconds=0):
        return {reason["reason"]: reason for reason in told(pid, seconds)["why"]}

    def compiled(self, text, *options):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "program")
        result = subprocess.run(["gcc", "-x", "c", "-", "-o", path, *options], input=text,
                                text=True, capture_output=True)
        if result.returncode != 0:
            self.skipTest("it cannot be built here: " + result.stderr.splitlines()[-1])
        return path


class Agrees(Case):
    def agrees(self, process):
        own = self.says(process)
        report = told(process.pid)
        own[:2] = POLICIES[own[0]], PURGERS[own[1]]
        self.assertEqual(dict(zip(report["stats"], own)), report["stats"])
        self.assertFalse(report["while_it_ran"])
        self.assertGreater(report["stats"]["live_bytes"], 40 << 20)
        self.assertGreater(report["process"]["resident_bytes"], 1 << 20)
        self.assertNotIn("lately", report)
        return report["stats"]

    def test_with_what_the_process_says(self):
        cases = itertools.product(("single", "threads"), ("preloaded", "static"),
                                  ("policy=default", "policy=classic",
                                   "policy=default,background=off"))
        for case, process in [(case, self.begun(*case)) for case in cases]:
            with self.subTest(case):
                stats = self.agrees(process)
                # Or the figures compared would be zeros.
                if case[2] == "policy=default":
                    for field in ("purged_bytes", "refaulted_bytes", "pinned_bytes",
                                  "purge_ns", "slab_free_blocks"):
                        self.assertGreater(stats[field], 0, field)
                        self.assertEqual(stats["delay_ms"] % 50, 0)
                        self.assertGreaterEqual(stats["delay_ms"], 250)
                if case[0] == "threads":
                    self.assertGreater(stats["arenas"], 1)


class Why(Case):
    def test_pinned(self):
        pid, _ = self.target("pins")
        reason = self.reasons(pid)["pinned"]
        self.assertGreater(reason["bytes"], 10 << 20)
        self.assertTrue(reason["text"].startswith(
            f"{reason['bytes'] / 1e6:.1f} MB are free, but pinned by live blocks"), reason)

    def test_background_off(self):
        pid, _ = self.target("freed", options="policy=default,background=off")
        report = told(pid)
        self.assertFalse(report["background"])
        reason = self.reasons(pid)["background_off"]
        self.assertGreater(reason["bytes"], 10 << 20)
        self.assertIn("background=off", reason["text"])

    def test_classic(self):
        pid, _ = self.target("freed", options="policy=classic")
        reason = self.reasons(pid)["classic"]
        self.assertGreater(reason["bytes"], 10 << 20)
        self.assertEqual(set(self.reasons(pid)), {"classic"})

    def test_nothing_to_tell(self):
        pid, _ = self.target("freed")
        self.assertNotIn("young", self.reasons(pid))
        self.assertLess(told(pid)["stats"]["free_resident_bytes"], 1 << 20)

    def test_cached(self):
        pid, _ = self.target("caches")
        stats = told(pid)["stats"]
        self.assertEqual(stats["caching_threads"], 1)
        self.assertGreaterEqual(stats["cached_bytes"], 48 * 1008)
        self.assertLess(stats["cached_bytes"], 1 << 20)
        self.assertIn("cached", self.reasons(pid))

    def test_young(self):
        pid, _ = self.target("busy")
        self.until(lambda: self.reasons(pid).get("young", {"bytes": 0})["bytes"] > 4 << 20)
        self.assertEqual(told(pid)["stats"]["purger"], "awake")

    def seen(self, pid, reason):
        """Its text, once it comes about."""
        reasons = {}

        def look():
            reasons.update(self.reasons(pid))
            return reason in reasons
        self.until(look)
        return reasons[reason]["text"]

    def test_locked(self):
        pid, _ = self.target("locked")
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            if "VmLck:\t       0 kB" in status.read():
                self.skipTest("the system lets no memory be locked")
        self.assertIn("mlockall", self.seen(pid, "locked"))
        self.assertEqual(told(pid)["stats"]["memory_locked"], 1)

    def test_no_thread(self):
        pid, _ = self.target("refused")
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            if "Seccomp:\t2" not in status.read():
                self.skipTest("no seccomp filters here")
        self.assertRegex(self.seen(pid, "no_thread"), r"refused .* again in [01] s\.$")
        self.assertGreater(told(pid)["stats"]["thread_retry_ms"], 0)

    def test_regret(self):
        pid, _ = self.target("slow")
        self.assertRegex(self.seen(pid, "regret"), r"after 0\.[3-6][05] s and not 0\.25")

    def test_short_of_memory(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fifo")
            os.mkfifo(path)
            began = time.monotonic()
            pid, _ = self.target("busy", MEMORY_PRESSURE_WATCH=path)
            self.assertEqual(told(pid)["stats"]["pressure_ms"], 0)
            with open(path, "wb") as fifo:
                fifo.write(b"now")
            self.until(lambda: told(pid)["stats"]["pressure_releases"] == 1)
        last = told(pid)["stats"]["pressure_ms"] / 1000
        self.assertGreater(last, began - 0.1)
        self.assertLess(last, time.monotonic())
        self.assertRegex(cede_stats("--seconds", 0, pid).stdout,
                         r"(?m)^memory was short +1  times, the last \d+\.\d s ago")

    def test_retain_max(self):
        pid, _ = self.target("busy", options="retain_max=4M")
        self.assertEqual(told(pid)["retain_max"], 4 << 20)
        self.assertRegex(cede_stats("--seconds", 0, pid).stdout,
                         r"(?m)^free, in whole pages .*; retain_max 4\.2$")
        pid, _ = self.target("busy")
        self.assertNotIn("retain_max", told(pid))

    def test_wanted_again(self):
        pid, _ = self.target("slow")
        def gone_and_back():
            lately = told(pid, 1)["lately"]
            return lately["purged_bytes"] > 4 << 20 and lately["refaulted_bytes"] > 4 << 20
        self.until(gone_and_back)


class Text(Case):
    def test_one_screen(self):
        pid, own = self.target("pins")
        result = cede_stats("--seconds", 0, pid)
        lines = result.stdout.splitlines()
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertLess(len(lines), 24)
        self.assertIn(f"process {pid} (stats_target) on cede", lines[0])
        self.assertRegex(result.stdout, r"(?m)^pinned +1[12]\.\d  free, on pages that live blocks")
        self.assertRegex(result.stdout, r"(?m)^purger +asleep  \d+ passes")
        self.assertRegex(result.stdout, r"(?m)^1[12]\.\d MB are free, but pinned by live blocks")
        self.assertNotIn("a second", result.stdout)
        self.assertIn("0.0 a second just now", cede_stats("--seconds", 0.1, pid).stdout)

    def test_of_classic(self):
        pid, _ = self.target("freed", options="policy=classic")
        result = cede_stats(pid, "--seconds=0")
        self.assertRegex(result.stdout, r"(?m)^free +\d+\.\d *$")
        self.assertNotIn("purger", result.stdout)

    def test_a_name_that_is_hostile(self):
        script = ("import ctypes, sys; ctypes.CDLL(None).prctl(15, b'\\x1b[2J\\nab'); "
                  "print(1, flush=True); sys.stdin.read()")
        process = self.started("/usr/bin/python3", "-c", script, preload=LIBRARY,
                               options="policy=default")
        process.stdout.readline()
        self.assertIn("(?[2J", cede_stats("--seconds", 0, process.pid).stdout)


class Refuses(Case):
    def refused(self, pid, *words, status=1, **options):
        result = cede_stats("--seconds", 0, pid, **options)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in ("cede: ", *words):
            self.assertIn(word, result.stderr)

    def test_wrong_calls(self):
        for arguments in ([], ["x"], ["1", "2"], ["-5"], ["0"], ["99999999999"], ["--no", "1"],
                          ["--seconds", "x", "1"], ["--seconds", "-1", "1"],
                          ["--seconds", "nan", "1"]):
            with self.subTest(arguments):
                result = cede_stats(*arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""), result.stderr)

    def test_no_such_process(self):
        process = self.started("/bin/true")
        process.wait()
        self.refused(process.pid, "no process has the number")

    def test_ended_but_not_waited_for(self):
        process = self.started("/bin/true")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.refused(process.pid, "has no memory")

    def test_glibc(self):
        self.refused(self.asleep("/bin/sleep", "60"),
                     "does not run on cede, but on glibc's malloc", "cede run")

    @unittest.skipUnless(os.path.exists(JEMALLOC), "jemalloc is not installed")
    def test_jemalloc(self):
        self.refused(self.asleep("/bin/sleep", "60", preload=JEMALLOC),
                     "but on jemalloc (libjemalloc.so.2)")

    def test_static_without(self):
        path = self.compiled("#include <unistd.h>\nint main(void) { write(1, \"\\n\", 1); pause(); }",
                             "-static")
        process = self.started(path)
        process.stdout.readline()
        self.refused(process.pid, "does not run on cede")

    def test_32_bit(self):
        # write(1, "\n", 1), then pause().
        path = self.compiled(
            'void _start(void) { for (;;) { __asm__ volatile("int $0x80" : : "a"(4), "b"(1), '
            '"c"("\\n"), "d"(1)); __asm__ volatile("int $0x80" : : "a"(29)); } }',
            "-m32", "-static", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie")
        try:
            process = self.started(path)
        except OSError:
            self.skipTest("this system runs no 32-bit programs")
        if not process.stdout.readline():
            self.skipTest("this system runs no 32-bit programs")
        self.refused(process.pid, "is a 32-bit program")

    @unittest.skipUnless(os.geteuid() == 0, "only root may become another user")
    def test_another_user(self):
        pid, _ = self.target("caches")
        try:
            subprocess.run([COMMAND, "--version"], user=NOBODY, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("another user cannot reach the command")
        self.refused(pid, "belongs to another user (root)", "CAP_SYS_PTRACE", user=NOBODY)

    def test_ends_meanwhile(self):
        pid, _ = self.target("caches")
        command = subprocess.Popen([COMMAND, "stats", "--seconds", "1", str(pid)],
                                   stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        out, error = command.communicate()
        self.assertEqual((command.returncode, out), (1, ""))
        self.assertIn(str(pid), error)


if __name__ == "__main__":
    COMMAND, LIBRARY, TARGET, STATIC = map(os.path.abspath, sys.argv[1:5])
    del sys.argv[1:5]
    unittest.main()
