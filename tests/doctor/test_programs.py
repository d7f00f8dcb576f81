"""cede doctor on programs that are not ours, against what a preloaded witness makes
them tell of themselves.

    test_programs.py COMMAND TARGET [CASE ...]
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import support
from support import FIELDS, LIBC, PAGE

COMMAND = None
WITNESS = os.environ.get("DOCTOR_WITNESS")


class Case(support.Case):
    def setUp(self):
        self.told = self.path("told")
        open(self.told, "w").close()

    def start(self, *command, preload=(), **settings):
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=support.environment(LD_PRELOAD=":".join((WITNESS, *preload)), WITNESS=self.told,
                                    **settings))
        self.addCleanup(self.process.communicate)
        self.addCleanup(self.process.kill)

    def ask(self, number):
        """The line that the signal makes the program write."""
        with open(self.told) as told:
            told.seek(0, os.SEEK_END)
            os.kill(self.process.pid, number)
            deadline, line = time.monotonic() + 30, ""
            while not line.endswith("\n"):
                self.assertLess(time.monotonic(), deadline, "the witness is silent")
                line += told.readline()
        return support.numbers(line.split()[1:])

    def examine(self):
        """The findings of a moment in which the program did nothing else."""
        for _ in range(50):
            before = self.ask(signal.SIGUSR1)
            found = support.findings(COMMAND, self.process.pid)
            if self.ask(signal.SIGUSR1) == before:
                self.assertTrue(found["reading"]["audit_passed"])
                self.assertEqual({name: found["mallinfo2"][name] for name in FIELDS}, before)
                return found
        self.fail("the program does not rest")

    def rest(self):
        """Waits until the program has done what it does by itself from time to time."""
        for _ in range(60):
            before = self.ask(signal.SIGUSR1)
            time.sleep(0.5)
            if self.ask(signal.SIGUSR1) == before:
                return
        self.fail("the program does not rest")

    def check_trim(self):
        self.rest()
        found = self.examine()
        before = support.rollup(self.process.pid, "Anonymous")
        self.ask(signal.SIGUSR2)
        given = before - support.rollup(self.process.pid, "Anonymous")
        self.assertLessEqual(abs(found["trim"]["bytes"] - given), len(found["arenas"]) * PAGE)
        return found

    def trim_from_outside(self):
        """By cede trim: as much as is predicted, and little is left."""
        found, before = support.findings(COMMAND, self.process.pid), None
        while found["mallinfo2"] != before:
            before = found["mallinfo2"]
            time.sleep(0.5)
            found = support.findings(COMMAND, self.process.pid)
        result = support.cede(COMMAND, "trim", "--yes", "--json", self.process.pid)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        told = json.loads(result.stdout)
        left = support.findings(COMMAND, self.process.pid)["trim"]["bytes"]
        self.assertLess(left, told["predicted_bytes"] / 2)
        self.assertLessEqual(abs(told["predicted_bytes"] - told["given_bytes"]),
                             len(found["arenas"]) * PAGE)
        return told


PYTHON = """
import sys
kept = [[str(i) * (i % 50), {i: bytes(i % 3000)}] for i in range(40000)]
del kept[::3]
print("ready", flush=True)
sys.stdin.read()
"""


class Programs(Case):
    def python(self, **settings):
        # Not through a launcher's script.
        self.start(os.path.realpath(sys.executable), "-c", PYTHON, **settings)
        self.assertEqual(self.process.stdout.readline(), b"ready\n")

    def test_python_on_malloc(self):
        self.python(PYTHONMALLOC="malloc")
        found = self.check_trim()
        self.assertGreater(found["resident"]["heap_bytes"], 30 << 20)
        self.assertNotEqual(found["verdict"], "not glibc")

    @unittest.skipIf(support.ON_CEDE, "cede gives back by itself: there is nothing left")
    def test_python_trimmed(self):
        self.python(PYTHONMALLOC="malloc")
        self.assertGreater(self.trim_from_outside()["given_bytes"], 50000)
        self.process.communicate(timeout=30)
        self.assertEqual(self.process.returncode, 0)

    def test_python_on_its_own_pools(self):
        self.python()
        found = self.check_trim()
        self.assertGreater(found["resident"]["other_bytes"], 5 << 20)

    def redis(self, preload):
        server = shutil.which("redis-server")
        if not server:
            self.skipTest("no redis-server here")
        self.start(server, "--port", "0", "--unixsocket", self.path("socket"), "--save", "",
                   "--hz", "1", "--activerehashing", "no", preload=preload)
        self.connect()

    def connect(self):
        deadline = time.monotonic() + 30
        self.connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.connection.close)
        while self.connection.connect_ex(self.path("socket")) != 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.answers = self.connection.makefile("rb")
        self.addCleanup(self.answers.close)

    def hang_up(self):
        """Redis gives a client's buffers back in its own time, or at once when it goes."""
        folder = f"/proc/{self.process.pid}/fd"
        before = len(os.listdir(folder))
        self.answers.close()
        self.connection.close()
        while len(os.listdir(folder)) == before:
            time.sleep(0.01)

    def send(self, *lines):
        self.connection.sendall("".join(line + "\r\n" for line in lines).encode())
        for line in lines:
            self.assertIn(self.answers.readline()[:1], b"+:", line)

    def fill(self):
        for begin in range(0, 40000, 1000):
            self.send(*(f"SET key{i} v{'v' * (i % 600)}" for i in range(begin, begin + 1000)))

    def test_redis_on_libc(self):
        self.redis([LIBC])
        self.fill()
        found = self.examine()
        self.assertGreater(found["resident"]["heap_bytes"], 10 << 20)
        for begin in range(0, 40000, 1000):
            self.send("DEL " + " ".join(f"key{i}" for i in range(begin, begin + 999)))
        found = self.check_trim()
        self.assertGreater(found["trim"]["bytes"], 5 << 20)

    @unittest.skipIf(support.ON_CEDE, "cede gives back by itself: there is nothing left")
    def test_redis_trimmed(self):
        self.redis([LIBC])
        self.fill()
        for begin in range(0, 40000, 1000):
            self.send("DEL " + " ".join(f"key{i}" for i in range(begin, begin + 999)))
        self.hang_up()
        self.assertGreater(self.trim_from_outside()["given_bytes"], 5 << 20)
        self.connect()
        self.fill()

    def test_redis_as_it_comes(self):
        """Debian's is linked with jemalloc."""
        self.redis([])
        self.fill()
        found = support.findings(COMMAND, self.process.pid)
        self.assertEqual(found["verdict"], "not glibc")
        self.assertEqual(found["reading"]["allocator"], "jemalloc")


if __name__ == "__main__":
    COMMAND, _ = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
