"""cede snapshot, and what cede doctor makes of its files: the live answer from a file,
growth between two of them, and --watch, which is both at once.

    test_snapshots.py COMMAND TARGET [CASE ...]
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import unittest

import support
from support import Target

COMMAND = TARGET = None
LEAK, RETENTION = 10, 11
MIB = 1 << 20


def number_at(content, at):
    """Seven bits to a byte, the lowest first; the eighth says that more follow."""
    number = shift = 0
    while content[at] & 128:
        number |= (content[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return number | content[at] << shift


class Case(support.Case):
    def snapshot(self, pid, path, *options):
        return support.cede(COMMAND, "snapshot", pid, "-o", path, *options)

    def take(self, target, name):
        path = self.path(name)
        result = self.snapshot(target.pid, path)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
        return path

    def compare(self, *arguments, status):
        result = support.run(COMMAND, "--json", "--compare", *arguments)
        self.assertEqual(result.returncode, status, result)
        found = json.loads(result.stdout)
        self.assertEqual(found["schema"], "cede-comparison/1")
        live = found["live"]
        for name in ("blocks", "bytes"):
            self.assertEqual(live["before"][name], live["both"][name] + live["gone"][name])
            self.assertEqual(live["after"][name], live["both"][name] + live["new"][name])
            for change in live:
                self.assertEqual(live[change][name],
                                 sum(one[change][name] for one in found["classes"]))
        return found


class Files(Case):
    def assert_same_answer(self, target):
        path = self.path("heap")
        result = self.snapshot(target.pid, path, "--contents")
        self.assertEqual(result.returncode, 0, result)
        live = support.findings(COMMAND, target.pid)
        filed = support.findings(COMMAND, path, "--file")
        for found in (live, filed):
            del found["taken"]
            for name in ("pause_microseconds", "stops"):
                del found["reading"][name]
        self.assertEqual(live, filed)
        return path

    def test_as_if_live(self):
        with Target(TARGET, "list", 2000) as target:
            self.assert_same_answer(target)
            target.go()
            self.assert_same_answer(target)
            target.go()
            path = self.assert_same_answer(target)
            text = support.run(COMMAND, target.pid).stdout.splitlines()
        result = support.run(COMMAND, "--file", path)
        lines = result.stdout.splitlines()
        self.assertEqual(result.returncode, RETENTION)
        self.assertRegex(lines[0], rf"^{path}, taken 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        # The last line tells how long the process stood still; and of a live one is told how
        # it is trimmed from outside.
        outside = f"  or, from outside: cede trim {target.pid}"
        text = [line.replace(outside, " " * len(outside)) for line in text]
        self.assertEqual(lines[1:-1], text[:-1])

    def test_threads_and_arenas(self):
        with Target(TARGET, "threads", 4, 20000) as target:
            target.comes_to("S")
            self.assert_same_answer(target)

    def test_private(self):
        """Addresses help who attacks the process."""
        with Target(TARGET, "list", 10) as target:
            path = self.take(target, "heap")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    def test_small(self):
        """Less than a byte for each of a million blocks."""
        with Target(TARGET, "sparse", 1000000, 3) as target:
            target.go()
            path = self.take(target, "heap")
        self.assertLess(os.stat(path).st_size, 1000000)

    def test_start(self):
        """The file says which process it was, whatever later has its id."""
        with Target(TARGET, "list", 10) as target:
            path = self.take(target, "heap")
            with open(f"/proc/{target.pid}/stat") as stat:
                started = int(stat.read().rpartition(")")[2].split()[19])
        with gzip.open(path) as file:
            content = file.read()
        name = b"doctor-target"
        self.assertEqual(number_at(content, content.index(name) + len(name)), started)


class Comparisons(Case):
    def test_growth(self):
        """What is still reachable, yet grew: no look at it alone shows more than live memory."""
        with Target(TARGET, "list", 2000) as target:
            first = self.take(target, "first")
            target.go()
            second = self.take(target, "second")
            target.go()
            third = self.take(target, "third")
        self.assertEqual(support.run(COMMAND, "--file", second).returncode, 0)
        found = self.compare(first, second, status=LEAK)
        self.assertEqual(found["verdict"], "leak")
        most = max(found["classes"], key=lambda one: one["new"]["bytes"])
        self.assertEqual(most["block_bytes"], 128 * 1024)
        self.assertEqual(most["new"]["blocks"], 2000)
        nodes = next(one for one in found["classes"] if one["block_bytes"] == 32)
        self.assertEqual(nodes["new"], {"blocks": 2000, "bytes": 2000 * 32})

        # The nodes stay, the blocks go: the verdict is that of the second look.
        found = self.compare(second, third, status=RETENTION)
        self.assertEqual(found["verdict"], "retention")
        self.assertEqual(found["live"]["both"]["bytes"], 2000 * 32)
        self.assertEqual(found["live"]["new"]["blocks"], 0)
        self.assertEqual(found["live"]["gone"]["blocks"], 2000)
        self.compare(second, second, status=0)

    def test_thresholds(self):
        with Target(TARGET, "list", 320) as target:
            first = self.take(target, "first")
            target.go()
            second = self.take(target, "second")
        # 320 blocks of 65,552 bytes and as many nodes of 32.
        grown = 320 * (65552 + 32)
        self.assertGreater(grown, 16 * MIB)
        self.compare(first, second, status=LEAK)
        self.compare("--least", grown, first, second, status=LEAK)
        self.compare("--least", grown + 1, first, second, status=0)

    def test_share(self):
        with Target(TARGET, "growing", 1000, 1250) as target:
            target.go()
            first = self.take(target, "first")
            target.go()
            second = self.take(target, "second")
        limits = ("--least", 1)
        found = self.compare(*limits, "--share", 25, first, second, status=LEAK)
        self.assertEqual(found["live"]["new"]["blocks"], 250)
        self.compare(*limits, "--share", 26, first, second, status=0)

    def test_late_block(self):
        with Target(TARGET, "pin", 10000) as target:
            first = self.take(target, "first")
            target.go()
            target.go()
            second = self.take(target, "second")
        late = self.compare(first, second, status=RETENTION)["late"]
        self.assertEqual(late["blocks"], 1)
        self.assertLessEqual(late["bytes"], 32)
        self.assertGreater(late["held_bytes"], 9990 * 4096)
        # What the first top had; the rest is memory that came since.
        self.assertLess(late["old_bytes"], 256 * 1024)
        result = support.run(COMMAND, "--compare", first, second)
        self.assertRegex(result.stdout, r"\n1 new block of 32 bytes in all lies above 41\.\d MB "
                         r"of free memory, of which .* were free before,\nand above every "
                         rf"older block; the last at {late['address']}, {late['kind']}")

    def test_text(self):
        with Target(TARGET, "list", 2000) as target:
            first = self.take(target, "first")
            target.go()
            second = self.take(target, "second")
        result = support.run(COMMAND, "--compare", first, second)
        self.assertEqual((result.returncode, result.stderr), (LEAK, ""))
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0], f"doctor-target ({target.pid}): leak")
        self.assertRegex(lines[2], r"live memory grew by 131\.2 MB, from 0 bytes to 131\.2 MB\.$")
        self.assertEqual(lines[3], "Blocks of up to 131 kB grew most: by 131.1 MB, from 0 to "
                         "2000 blocks.")
        self.assertLessEqual(len(lines), 40)
        self.assertLessEqual(max(map(len, lines)), 120)

    def test_of_two_processes(self):
        with Target(TARGET, "list", 10) as one, Target(TARGET, "list", 10) as other:
            files = self.take(one, "one"), self.take(other, "other")
        self.assert_says(support.run(COMMAND, "--compare", *files), 1, "different processes")

    def test_wrong_order(self):
        with Target(TARGET, "list", 10) as target:
            first = self.take(target, "first")
            time.sleep(0.01)    # the files know milliseconds
            files = first, self.take(target, "second")
        self.assert_says(support.run(COMMAND, "--compare", *reversed(files)), 1,
                         "the other way round")


class Watching(Case):
    def watch(self, target, seconds):
        process = support.start(COMMAND, "doctor", "--json", "--watch", seconds, target.pid,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertRegex(process.stderr.readline(), "^cede: looked once; again in")
        return process

    def test_until_interrupted(self):
        with Target(TARGET, "list", 2000) as target:
            process = self.watch(target, 10000)
            target.go()
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (LEAK, ""))
        found = json.loads(out)
        self.assertEqual(found["verdict"], "leak")
        self.assertEqual(found["live"]["new"]["blocks"], 4000)

    def test_until_the_time_is_over(self):
        with Target(TARGET, "list", 10) as target:
            process = self.watch(target, 1)
            out, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (0, ""))
        self.assertGreaterEqual(json.loads(out)["seconds"], 1)

    def test_until_the_process_ends(self):
        with Target(TARGET, "list", 10) as target:
            process = self.watch(target, 10000)
            target.process.kill()
            out, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (1, ""))
        self.assertIn("ended before the second look", errors)


class Errors(Case):
    def test_usage(self):
        for arguments in (("--compare",), ("--compare", "a"), ("--compare", "a", "b", "c"),
                          ("--file", "a", "1"), ("--file", "a", "--compare", "b", "c"),
                          ("--file", "a", "--watch", "3"), ("--watch", "3"),
                          ("--watch", "0", "1"), ("--watch=-1", "1")):
            with self.subTest(arguments=arguments):
                self.assert_says(support.run(COMMAND, *arguments), 2, "doctor: ")
        for arguments in (("1",), ("-o", self.path("a")), ("-o", self.path("a"), "x")):
            with self.subTest(arguments=arguments):
                self.assert_says(support.cede(COMMAND, "snapshot", *arguments), 2, "snapshot: ")
        self.assertFalse(os.path.exists(self.path("a")))

    def test_files(self):
        missing, text = self.path("missing"), self.path("text")
        with open(text, "w") as file:
            file.write("a text")
        for path, reason in ((missing, "No such file"), (text, "no snapshot"),
                             (self.folder, "no regular file")):
            self.assert_says(support.run(COMMAND, "--file", path), 1, path, reason)
            self.assert_says(support.run(COMMAND, "--compare", path, text), 1, path, reason)

    def test_nowhere_to_write(self):
        with Target(TARGET, "list", 10) as target:
            self.assert_says(self.snapshot(target.pid, "/nowhere/at/all"), 1, "/nowhere/at/all")
            self.assert_says(self.snapshot(target.pid, "/dev/full"), 1, "No space left")

    def test_what_was_written_before_stays(self):
        path = self.path("heap")
        with Target(TARGET, "list", 10) as target:
            self.take(target, "heap")
        size = os.stat(path).st_size
        self.assert_says(self.snapshot(target.pid, path), 1, "no process has the number")
        self.assertEqual(os.stat(path).st_size, size)


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
