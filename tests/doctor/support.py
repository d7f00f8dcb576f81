"""Drives tests/doctor/target.c and asks the doctor about it."""

import json
import os
import subprocess
import time

PAGE = 4096
FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "fsmblks", "uordblks", "fordblks",
          "keepcost")
VERDICTS = {"live": 0, "leak": 10, "retention": 11, "fragmentation": 12, "not glibc": 13}


def environment(**settings):
    """Ours without what other tests preload, and with these settings."""
    inherited = {name: value for name, value in os.environ.items()
                 if name not in ("LD_PRELOAD", "CEDE_OPTIONS", "GLIBC_TUNABLES")}
    return {**inherited, **settings}


def numbers(words):
    """Of "name=value" each."""
    return {name: int(value) for name, value in (word.split("=") for word in words)}


def rollup(pid, field):
    # By its last thread: one that has ended does not tell.
    task = max(map(int, os.listdir(f"/proc/{pid}/task")))
    with open(f"/proc/{task}/smaps_rollup") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(field)


class Target:
    def __init__(self, program, *arguments, prepare=None, **settings):
        """`prepare` runs in the child before exec."""
        self.process = subprocess.Popen(
            [program, *map(str, arguments)], env=environment(**settings), bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=prepare)
        self.pid = self.process.pid
        self.step, self.info = None, {}
        self.read_step()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()

    def line(self):
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.process.stdout.read(1)
            assert byte, f"the target ended with {self.process.wait()} after {self.step}"
            line += byte
        return line.decode().split()

    def read_step(self):
        self.step, *values = self.line()
        self.info = numbers(values)

    def send(self, letter):
        self.process.stdin.write(letter)

    def go(self):
        self.send(b"g")
        self.read_step()

    def trim(self):
        self.send(b"t")
        assert self.line()[0] == "trimmed"

    def rollup(self, field):
        return rollup(self.pid, field)

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
def run(command, *arguments):
    return subprocess.run([command, "doctor", *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120)


def findings(command, pid, *options):
    """The doctor's JSON; the exit status must be its verdict's."""
    result = run(command, "--json", *options, pid)
    assert result.returncode in VERDICTS.values(), f"{result.returncode}: {result.stderr}"
    found = json.loads(result.stdout)
    assert VERDICTS[found["verdict"]] == result.returncode, result
    return found
