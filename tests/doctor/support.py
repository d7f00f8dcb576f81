"""Drives tests/doctor/target.c and asks the doctor about it."""

import functools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                             "support"))
from stepper import Stepper, numbers, rollup  # noqa: E402

PAGE = 4096
ON_CEDE = os.environ.get("DOCTOR_ON_CEDE")
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
LIBRARIES = "/usr/lib/x86_64-linux-gnu/"
NOBODY = pwd.getpwnam("nobody").pw_uid
NO_CACHE = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "fsmblks", "uordblks", "fordblks",
          "keepcost")
VERDICTS = {"live": 0, "leak": 10, "retention": 11, "fragmentation": 12, "not glibc": 13}


def environment(**settings):
    """Ours without what other tests preload, and with these settings; on cede, when
    DOCTOR_ON_CEDE is its library."""
    inherited = {name: value for name, value in os.environ.items()
                 if name not in ("LD_PRELOAD", "CEDE_OPTIONS", "GLIBC_TUNABLES")}
    if ON_CEDE and LIBC not in settings.get("LD_PRELOAD", ""):
        return {**inherited, "CEDE_OPTIONS": os.environ.get("DOCTOR_CEDE_OPTIONS", ""), **settings,
                "LD_PRELOAD": ":".join(filter(None, (settings.get("LD_PRELOAD"), ON_CEDE)))}
    return {**inherited, **settings}


class Target(Stepper):
    def __init__(self, program, *arguments, prepare=None, **settings):
        """`prepare` runs in the child before exec."""
        self.info = {}
        super().__init__([program, *arguments], environment(**settings), prepare)

    def read_step(self):
        self.step, *values = self.line()
        self.info = numbers(values)

    def go(self):
        self.send(b"g")
        self.read_step()

    def trim(self):
        self.send(b"t")
        assert self.line()[0] == "trimmed"

    def states(self):
        """The letters of the threads' states, as a set."""
        states = set()
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/stat") as stat:
                states.add(stat.read().rpartition(")")[2].split()[0])
        return states

    def comes_to(self, state):
        """Waits until all threads are in this state: S asleep, T stopped."""
        deadline = time.monotonic() + 60
        while self.states() != {state}:
            assert time.monotonic() < deadline, f"{self.states()}, not {state}"


def cede(command, *arguments, **how):
    """The command, to its end."""
    return subprocess.run([command, *map(str, arguments)], **{
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        "text": True, "timeout": 120, **how})


def start(command, *arguments, **how):
    """The command, which is not waited for."""
    return subprocess.Popen([command, *map(str, arguments)], **{
        "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
        "text": True, **how})


def run(command, *arguments, **how):
    return cede(command, "doctor", *arguments, **how)


def findings(command, pid, *options):
    """The doctor's JSON; the exit status must be its verdict's."""
    result = run(command, "--json", *options, pid)
    assert result.returncode in VERDICTS.values(), f"{result.returncode}: {result.stderr}"
    found = json.loads(result.stdout)
    assert VERDICTS[found["verdict"]] == result.returncode, result
    return found


def stats(command, pid):
    """The JSON of cede stats."""
    return json.loads(cede(command, "stats", "--json", "--seconds", 0, pid, check=True).stdout)


class Case(unittest.TestCase):
    maxDiff = None

    @functools.cached_property
    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def copies(self, *programs):
        """Where every user may run them."""
        os.chmod(self.folder, 0o755)
        return [shutil.copy(program, self.folder) for program in programs]

    def assert_says(self, result, status, *words):
        """One line, with these words."""
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
