"""Cores of targets: gdb's gcore writes them, and the kernel where it puts them into files.

A test that imports this has the command and the target as its first two arguments.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys

import support
from support import Target

COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
STATIC_TARGET = os.environ.get("DOCTOR_STATIC_TARGET")


def kernel_refusal():
    """Why the kernel puts no core into a process's folder, or None."""
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read().strip()
    if not pattern or pattern[0] == "|" or "/" in pattern:
        return f"the kernel's cores go elsewhere (core_pattern is '{pattern}')"
    if resource.getrlimit(resource.RLIMIT_CORE)[1] not in (-1, resource.RLIM_INFINITY):
        return "the size of cores is limited here (ulimit -H -c)"
    return None


class Case(support.Case):
    def target(self, *arguments, program=None, **settings):
        """Whose core the kernel would put into our folder."""
        folder = self.folder

        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
            os.chdir(folder)
        return Target(program or TARGET, *arguments,
                      prepare=None if kernel_refusal() else prepare, **settings)

    def gcore(self, pid):
        if not shutil.which("gcore"):
            self.skipTest("no gcore here (Debian's package gdb)")
        result = subprocess.run(["gcore", "-o", self.path("gcore"), str(pid)],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True)
        path = self.path(f"gcore.{pid}")
        self.assertTrue(os.path.exists(path), result)
        return path

    def killed(self, target):
        """The kernel's core of a target, which this ends."""
        before = {name for name in os.listdir(self.folder) if not name.startswith("core")}
        for name in set(os.listdir(self.folder)) - before:
            os.unlink(self.path(name))
        os.kill(target.pid, signal.SIGSEGV)
        target.process.wait()
        (name,) = set(os.listdir(self.folder)) - before
        return self.path(name)

    def doctor(self, *arguments):
        return support.run(COMMAND, *arguments)

    def findings(self, core, *options):
        """Without what the process's number would be."""
        return support.findings(COMMAND, core, *options, "--core")
