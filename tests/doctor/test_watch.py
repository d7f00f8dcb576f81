"""cede watch: in a real terminal, as lines and as JSON; its figures are the doctor's.

    test_watch.py COMMAND TARGET [CASE ...]
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest

import support
from support import Target
from terminal import Terminal

COMMAND = TARGET = None
LIVE, LEAK, RETENTION = 0, 10, 11
# Not built beside a sanitizer.
CEDE = os.environ.get("DOCTOR_LIBCEDE", "")
# Statm, which the screen shows between looks, lags behind by some pages for each CPU.
RESIDENT_SLACK = 1.0
ROWS = {"live": lambda found: found["resident"]["heap"]["live"],
        "free, whole": lambda found: found["resident"]["whole_free_bytes"],
        "free, shared": lambda found: found["resident"]["shared_free_bytes"]}


def watch(*arguments, **settings):
    return support.cede(COMMAND, "watch", *arguments, **settings)


def retaining():
    """A target that has freed its blocks, and keeps them."""
    target = Target(TARGET, "list", 2000)
    target.go()
    target.go()
    return target


class Screen(support.Case):
    def start(self, terminal, target, *options):
        """Its pid, once there is a screen."""
        terminal.type(COMMAND, "watch", *options, target.pid)
        terminal.shows("q quit")
        return self.pid(target)

    def pid(self, target):
        """Of the watch."""
        found = subprocess.run(["pgrep", "-f", f"^{re.escape(COMMAND)} watch.* {target.pid}$"],
                               capture_output=True, text=True, check=True).stdout
        return int(found)

    def wait_for_tracer(self, pid):
        deadline = time.monotonic() + 60
        tracer = 0
        while not tracer:
            self.assertLess(time.monotonic(), deadline)
            with open(f"/proc/{pid}/status") as status:
                tracer = int(re.search(r"TracerPid:\t(\d+)", status.read())[1])

    def row(self, screen, name):
        """The megabytes, and what is said of them."""
        for line in screen:
            match = re.match(rf"^ +([0-9.]+)  {re.escape(name)} +(\S.*)$", line)
            if match:
                return float(match[1]), match[2]
        self.fail("\n".join(screen))

    def looks(self, terminal):
        return int(re.search(r", (\d+) looks?", terminal.screen()[0])[1])

    def test_figures(self):
        with retaining() as target, Terminal() as terminal:
            found = support.findings(COMMAND, target.pid)
            self.start(terminal, target, "--interval", 0.1)
            screen = terminal.shows("sure)")
            self.assertTrue(screen[0].startswith(f"doctor-target ({target.pid})  glibc 2."))
            self.assertTrue(screen[1].startswith("retention: "), screen[1])
            for name, value in ROWS.items():
                self.assertEqual(self.row(screen, name)[0], round(value(found) / 1e6, 1), name)
            resident, trend = self.row(screen, "resident")
            self.assertAlmostEqual(resident, found["resident"]["process_bytes"] / 1e6,
                                   delta=RESIDENT_SLACK)
            self.assertRegex(trend, r"^steady \(\d\d% sure\)$")
            gate = found["gates"][0]
            self.assertEqual(self.row(screen, gate["gate"])[0],
                             round(gate["held_bytes"] / 1e6, 1))
            # In the chart's last column: free above what else is there.
            column = [line[99] for line in screen if len(line) == 100]
            self.assertGreater(column.count("\u2592"), 10)

    def test_quit(self):
        """By each way of quitting, the status is the verdict's and the terminal as before."""
        with retaining() as target, Terminal() as terminal:
            before = terminal.settings()
            for key in ("q", "C-c"):
                # A look is nearly always due.
                self.start(terminal, target, "--interval", 0.01)
                self.assertNotEqual(terminal.settings(), before)
                terminal.press(key)
                terminal.shows(f"doctor-target ({target.pid}): retention: ")
                terminal.type("echo", f"{key} was it")
                terminal.shows(f"\n{key} was it")
                self.assertEqual(terminal.settings(), before)
                terminal.type("clear")
            terminal.press("-l", f"{COMMAND} watch {target.pid}; echo status $?")
            terminal.press("Enter")
            terminal.shows("q quit")
            terminal.press("q")
            terminal.shows(f"status {RETENTION}")

    def test_killed(self):
        """By a signal, also one of an error of its own: the terminal is as before."""
        with retaining() as target, Terminal() as terminal:
            before = terminal.settings()
            for number in (signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT):
                terminal.press("-l", f"{COMMAND} watch {target.pid}; echo status $?")
                terminal.press("Enter")
                terminal.shows("q quit")
                os.kill(self.pid(target), number)
                terminal.shows(f"status {128 + number}")
                self.assertEqual(terminal.settings(), before)
                terminal.type("clear")

    def test_keys(self):
        with retaining() as target, Terminal() as terminal:
            self.start(terminal, target, "--interval", 0.1)
            terminal.press("?")
            terminal.shows("suspends looks")
            terminal.press("?")
            terminal.comes_to(lambda text: "suspends looks" not in text)

            terminal.press("p")
            terminal.shows("PAUSED")
            looks = self.looks(terminal)
            clock = terminal.screen()[0].split("watched for ")[1][:7]
            terminal.comes_to(lambda text: "watched for " + clock not in text)
            self.assertEqual(self.looks(terminal), looks)
            terminal.press("p")
            terminal.comes_to(lambda text: "PAUSED" not in text)
            terminal.comes_to(lambda text: self.looks(terminal) > looks)

            # Or it would be in the doctor's way.
            terminal.press("p")
            terminal.shows("PAUSED")
            terminal.press("s")
            name = next(line for line in terminal.shows("written: ") if "written" in line)
            path = os.path.join(terminal.folder.name, name.split("written: ")[1].strip())
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            live, filed = (support.findings(COMMAND, *what)
                           for what in ((target.pid,), (path, "--file")))
            self.assertEqual(filed["resident"], live["resident"])

    def test_trim(self):
        with retaining() as target, Terminal() as terminal:
            found = support.findings(COMMAND, target.pid)
            self.start(terminal, target)
            terminal.press("t")
            terminal.shows(f"({found['trim']['bytes']} bytes)")
            terminal.press("-l", "y")
            terminal.press("Enter")
            terminal.shows("gave back")
            terminal.press("Enter")
            screen = terminal.shows("live: of the heap's")
            whole = found["resident"]["whole_free_bytes"] - found["trim"]["bytes"]
            self.assertLess(self.row(screen, "free, whole")[0], whole / 1e6 + 0.2)
            self.assertGreater(self.row(screen, "given back")[0], 100)

            # Nothing is left; Ctrl-C is heard once the watch is back.
            terminal.press("t")
            terminal.comes_to(lambda text: text.count("Enter goes back.") == 2)
            terminal.press("C-c")
            terminal.press("Enter")
            terminal.shows("): live: ")

    def test_sizes(self):
        with retaining() as target, Terminal(100, 30) as terminal:
            self.start(terminal, target)
            for columns, lines in ((20, 3), (10, 2), (4, 1), (300, 80), (60, 14)):
                terminal.resize(columns, lines)
                head = f"doctor-target ({target.pid})"[:columns]
                terminal.comes_to(lambda text, head=head: text.startswith(head))
                if lines > 2:
                    terminal.shows(" t trim"[:columns - 1])
            self.row(terminal.screen(), "given back")
            # The chart needs room.
            self.assertFalse(any("a column" in line for line in terminal.screen()))
            terminal.resize(100, 30)
            terminal.shows("a column")
            terminal.press("q")
            terminal.shows("): retention: ")

    def test_plain_letters(self):
        with retaining() as target, Terminal(LC_ALL="C") as terminal:
            self.start(terminal, target)
            screen = terminal.shows("= free")
            self.assertGreater([line[-1:] for line in screen].count("="), 10)
            self.assertTrue("".join(screen).isascii())

    def test_target_ends(self):
        with retaining() as target, Terminal() as terminal:
            self.start(terminal, target)
            target.process.kill()
            screen = terminal.shows("HAS ENDED")
            self.assertGreater(self.row(screen, "free, whole")[0], 100)
            terminal.press("-l", "q")
            terminal.shows("): retention: ")

    def test_failing_looks(self):
        """A look that fails is said on the screen, which goes on."""
        with retaining() as target, Terminal() as terminal:
            self.start(terminal, target, "--interval", 0.1)
            # Or a look would be in the tracer's way.
            terminal.press("p")
            terminal.shows("PAUSED")
            with subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", str(target.pid)],
                                  stderr=subprocess.DEVNULL) as tracer:
                self.wait_for_tracer(target.pid)
                terminal.press("p")
                screen = terminal.shows("is traced by process")
                self.assertGreater(self.row(screen, "free, whole")[0], 100)
                tracer.terminate()
            terminal.comes_to(lambda text: "is traced by" not in text)

    def test_no_such_terminal(self):
        with Target(TARGET, "list", 10) as target:
            with Terminal() as terminal:
                for kind in ("dumb", "no-such-terminal"):
                    terminal.type("env", f"TERM={kind}", COMMAND, "watch", target.pid)
                    terminal.shows(f"(TERM={kind}) cannot place its cursor: --plain")
                    terminal.type("clear")
            result = watch(target.pid)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn("no terminal: --plain", result.stderr)


class Lines(support.Case):
    def test_json(self):
        with retaining() as target:
            found = support.findings(COMMAND, target.pid)
            result = watch("--json", "--count", 3, "--interval", 0.1, target.pid)
        self.assertEqual((result.returncode, result.stderr), (RETENTION, ""))
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([line["looks"] for line in lines], [1, 2, 3])
        for line in lines:
            self.assertEqual(line["schema"], "cede-watch/1")
            for name in ("process_bytes", "heap_bytes", "whole_free_bytes", "shared_free_bytes"):
                self.assertEqual(line[name], found["resident"][name], name)
            self.assertEqual(line["live_resident_bytes"], found["resident"]["heap"]["live"])
            self.assertEqual(line["live_bytes"],
                             sum(one["live_bytes"] for one in found["classes"]))
            self.assertEqual([(one["reason"], one["bytes"]) for one in line["reasons"]],
                             [(one["gate"], one["held_bytes"]) for one in found["gates"]])
            self.assertEqual((line["verdict"], line["has_ended"]), ("retention", False))
        self.assertEqual([line["live"]["trend"] for line in lines],
                         ["unknown", "unknown", "steady"])

    def test_plain(self):
        with retaining() as target:
            found = support.findings(COMMAND, target.pid)
            result = watch("--plain", "--count", 2, "--interval", 0.1, target.pid)
        self.assertEqual((result.returncode, result.stderr), (RETENTION, ""))
        _, *looks, last = result.stdout.splitlines()
        self.assertEqual(len(looks), 2)
        for look in looks:
            taken, resident, live, whole, shared, _, verdict, *_ = look.split()
            self.assertRegex(taken, r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual(float(resident), round(found["resident"]["process_bytes"] / 1e6, 1))
            for figure, value in zip((live, whole, shared), ROWS.values()):
                self.assertEqual(float(figure), round(value(found) / 1e6, 1))
            self.assertEqual(verdict, "retention")
        self.assertRegex(last, rf"^doctor-target \({target.pid}\): retention: .* free, and could")

    def test_limits(self):
        with retaining() as target:
            result = watch("--plain", "--count", 1, "--least", 1 << 30, target.pid)
        self.assertEqual(result.returncode, LIVE)

    def watched(self, target, *options, prepare=None):
        return support.start(COMMAND, "watch", "--json", *options, target.pid, preexec_fn=prepare,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_leak_forms(self):
        """It grows at each step: a leak once that is sure, and no more when it ends."""
        steps = [1000 * (20 + 10 * i) for i in range(6)]
        verdicts = []
        with Target(TARGET, "growing", *steps) as target:
            target.go()
            with self.watched(target, "--interval", 0.2) as process:
                for _ in steps[1:]:
                    line = json.loads(process.stdout.readline())
                    verdicts.append(line["verdict"])
                    target.go()
                while line["verdict"] != "leak":
                    line = json.loads(process.stdout.readline())
                    self.assertLess(line["looks"], 100)
                self.assertEqual(line["live"]["trend"], "grows")
                self.assertGreaterEqual(line["live"]["confidence_percent"], 95)
                self.assertGreater(line["live"]["bytes_per_minute"], 0)
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)
        self.assertEqual(verdicts[:3], ["live"] * 3)
        self.assertEqual(process.returncode, LEAK)

    def test_rest_after_growth(self):
        """What has grown and does so no more is no leak."""
        with Target(TARGET, "growing", 1000, 60000) as target:
            target.go()
            with self.watched(target, "--interval", 0.05, "--count", 60) as process:
                process.stdout.readline()
                target.go()
                out, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (LIVE, ""))
        last = json.loads(out.splitlines()[-1])
        self.assertEqual(last["live"]["trend"], "steady")

    def test_target_ends(self):
        for option in ("--json", "--plain"):
            with self.subTest(option), retaining() as target:
                with support.start(COMMAND, "watch", option, "--interval", 10000, target.pid,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                    process.stdout.readline()
                    target.process.kill()
                    out, errors = process.communicate(timeout=60)
                self.assertEqual((process.returncode, errors), (RETENTION, ""))
                if option == "--json":
                    last = json.loads(out.splitlines()[-1])
                    self.assertEqual((last["has_ended"], last["verdict"]), (True, "retention"))
                else:
                    self.assertIn(f"process {target.pid} has ended\n", out)

    def test_terminated(self):
        with retaining() as target, self.watched(target) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_ignored_signals(self):
        """As under nohup, and in the background of a script."""
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        with retaining() as target, \
                self.watched(target, "--interval", 0.1, prepare=ignore) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            for _ in range(3):
                self.assertTrue(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        self.assertEqual(process.returncode, RETENTION)

    def test_full_disk(self):
        with retaining() as target, open("/dev/full", "w") as full:
            for option in ("--json", "--plain"):
                process = watch(option, "--interval", 10000, target.pid, stdout=full)
                self.assertEqual(process.returncode, 1)
                self.assertIn("could not be written", process.stderr)

    def test_interval(self):
        """Unless told, the target stands still for less than a hundredth of the time."""
        with Target(TARGET, "sparse", 400000, 1) as target:
            target.go()
            result = watch("--json", "--count", 2, target.pid)
        first, second = (json.loads(line) for line in result.stdout.splitlines())
        self.assertGreaterEqual(second["seconds"] - first["seconds"],
                                max(2, 100e-6 * first["pause_microseconds"]))

    def test_errors(self):
        result = watch("--plain", 1 << 30)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("no process has the number", result.stderr)
        for arguments in ((), ("x",), ("1", "2"), ("--count", "-1", "1"), ("--interval=-1", "1"),
                          ("--interval=nan", "1"), ("--json", "1"), ("--share", "0", "1"), ("--least=-1", "1")):
            with self.subTest(arguments=arguments):
                result = watch("--plain", *arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertTrue(result.stderr.startswith("cede: watch: "), result.stderr)

    @unittest.skipUnless(CEDE, "the library is not built here")
    def test_on_cede(self):
        """The figures are those of cede stats, and the process is not stopped."""
        with Target(TARGET, "list", 2000, LD_PRELOAD=CEDE,
                    CEDE_OPTIONS="background=off") as target:
            target.go()
            target.comes_to("S")
            result = watch("--json", "--count", 1, target.pid)
            stats = support.stats(COMMAND, target.pid)
        look = json.loads(result.stdout)
        held = stats["stats"]
        self.assertEqual(result.returncode, LIVE, result)
        self.assertTrue(look["allocator"].startswith("cede "))
        self.assertEqual(look["live_bytes"], held["live_bytes"] - held["cached_bytes"])
        self.assertEqual(look["whole_free_bytes"], held["free_resident_bytes"])
        self.assertEqual(look["shared_free_bytes"], held["pinned_bytes"])
        self.assertEqual(look["process_bytes"], stats["process"]["resident_bytes"])
        self.assertEqual(look["pause_microseconds"], 0)
        self.assertEqual([(one["reason"], one["bytes"], one["text"]) for one in look["reasons"]],
                         [(one["reason"], one["bytes"], one["text"]) for one in stats["why"]])


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
