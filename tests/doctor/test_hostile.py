"""cede doctor on processes that are hard to look at, by chance or on purpose: it says so
or tells what it finds, within bounds of its own.

    test_hostile.py COMMAND TARGET [CASE ...]
"""

import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

import support
from support import Target

COMMAND = TARGET = None
LOOKS = 60
JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
# A sanitizer's memory is its own.
SANITIZED = bool(os.environ.get("DOCTOR_SANITIZED"))


class Case(support.Case):
    def look(self, pid, *options):
        """Told, or one line that says why not."""
        result = support.run(COMMAND, *options, pid)
        if result.returncode == 1:
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        else:
            self.assertIn(result.returncode, support.VERDICTS.values(), result.stderr)
            self.assertEqual(result.stderr, "")
        return result

    def examine(self, target, megabytes, *options):
        """The findings of a heap at rest, made with so much memory at most."""
        read, write = os.pipe()
        doctor = os.fork()
        if doctor == 0:
            os.dup2(write, 1)
            os.execv(COMMAND, [COMMAND, "doctor", "--json", *options, str(target.pid)])
        os.close(write)
        with os.fdopen(read) as pipe:
            found = support.json.loads(pipe.read())
        usage = os.wait4(doctor, 0)[2]
        if not SANITIZED:
            self.assertLess(usage.ru_maxrss, megabytes << 10)
        self.assertEqual({name: found["mallinfo2"][name] for name in target.info}, target.info)
        return found

    def bytes_read(self, pid):
        """That a look takes from the process."""
        support.cede("strace", "-o", self.path("trace"), "-e", "trace=process_vm_readv", COMMAND,
                     "doctor", pid, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        with open(self.path("trace")) as trace:
            counts = re.findall(r" = (\d+)$", trace.read(), re.MULTILINE)
        self.assertTrue(counts)
        return sum(map(int, counts))


class Many(Case):
    def test_mappings(self):
        """As many as the system allows: 65,530."""
        with Target(TARGET, "mappings", 60000, 1) as target:
            for options in ([], ["--leaks"]):
                found = self.examine(target, 100, *options)
                self.assertEqual(found["reading"]["stops"], 1)

    @unittest.skipUnless(shutil.which("strace") and os.path.exists(JEMALLOC),
                         "needs strace and jemalloc")
    def test_large_mappings(self):
        """1.2 GiB that might hold a heap, when libc's is not in use: of one file of 60 MiB."""
        with Target(TARGET, "mappings", 40, 15000, LD_PRELOAD=JEMALLOC) as target:
            self.assertEqual(self.look(target.pid).returncode, 13)
            # 512 MiB where libc's data may be, 256 where cede's may.
            self.assertLess(self.bytes_read(target.pid), 850 << 20)

    def test_threads(self):
        with Target(TARGET, "crowd", 5000) as target:
            threads = len(os.listdir(f"/proc/{target.pid}/task"))
            found = self.examine(target, 50, "--leaks")
            self.assertEqual(found["reading"]["threads"], threads)
            self.assertEqual(found["leaks"]["lost_bytes"], 0)

    def test_large_symbol_table(self):
        """Of a file that occupies nothing: what it says of itself is 4 GiB."""
        tables = (4 << 30) // 24 * 24
        header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
            "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 4096, 0, 64, 0, 0, 64, 3, 2)
        sections = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, 8192, tables, 2, 0, 8, 24) + \
            struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 8192, tables, 0, 0, 1, 0)
        with tempfile.NamedTemporaryFile() as file:
            file.write(header.ljust(4096, b"\0") + sections)
            file.truncate(tables + 8192)
            with open(file.name, "r+b") as opened, \
                    mmap.mmap(opened.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC):
                child = os.fork()
                if child == 0:
                    signal.pause()
                try:
                    doctor = support.start(COMMAND, "doctor", child)
                    _, status, usage = os.wait4(doctor.pid, 0)
                    doctor.returncode = os.waitstatus_to_exitcode(status)
                finally:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
        self.assertIn(doctor.returncode, support.VERDICTS.values())
        if not SANITIZED:
            self.assertLess(usage.ru_maxrss, 100 << 10)


class Restless(Case):
    """A process that changes what the doctor reads."""

    def test_becomes_another(self):
        with Target(TARGET, "execs") as target:
            for _ in range(LOOKS):
                result = self.look(target.pid)
                if result.returncode == 1:
                    self.assertRegex(result.stderr, "has no memory|in the middle of changing")
            self.assertIsNone(target.process.poll())

    def test_makes_others(self):
        with Target(TARGET, "forks") as target:
            told = sum(self.look(target.pid).returncode == 0 for _ in range(LOOKS))
            self.assertGreater(told, 0)
            self.assertIsNone(target.process.poll())

    def test_unmaps(self):
        """By another process with the same memory, which is not stopped."""
        with Target(TARGET, "shared") as target:
            for _ in range(LOOKS):
                for options in ([], ["--leaks"]):
                    self.look(target.pid, *options)
            found = self.examine(target, 50)
            self.assertTrue(found["reading"]["audit_passed"])

    def test_ends(self):
        """At any moment of the look."""
        for i in range(LOOKS):
            with Target(TARGET, "list", 300) as target:
                target.go()
                doctor = support.start(COMMAND, "doctor", target.pid, stderr=subprocess.PIPE)
                for _ in range(i * 200):
                    pass
                target.process.kill()
                words = doctor.communicate()[1]
                if doctor.returncode == 1:
                    self.assertRegex(words, "no process has the number|has no memory|changing")
                else:
                    self.assertEqual(words, "")


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
