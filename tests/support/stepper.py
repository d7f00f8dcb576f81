"""A process that is driven step by step: it writes a line for each step it has come to and
waits for a letter on stdin.  What it has is measured from outside."""

import os
import subprocess


class Died(Exception):
    """The process ended before it was asked to."""


def numbers(words):
    """Of "name=value" each."""
    return {name: int(value) for name, value in (word.split("=") for word in words)}


def rollup(pid, field):
    """Bytes, exactly."""
    # By its last thread: one that has ended does not tell.
    task = max(map(int, os.listdir(f"/proc/{pid}/task")))
    with open(f"/proc/{task}/smaps_rollup") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(field)


class Stepper:
    def __init__(self, arguments, environment, prepare=None, errors=None):
        """`prepare` runs in the child before exec; `errors` is its stderr."""
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments], env=environment, preexec_fn=prepare,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        self.pid = self.process.pid
        self.step = None
        self.read_step()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()

    def line(self):
        """Its words."""
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.process.stdout.read(1)
            if not byte:
                raise Died(f"after step {self.step}: status {self.process.wait()}")
            line += byte
        return line.decode().split()

    def read_step(self):
        raise NotImplementedError

    def send(self, letter):
        self.process.stdin.write(letter)

    def rollup(self, field):
        return rollup(self.pid, field)
