"""Drives cede-lab-subject, the process of the two articles' experiments, and
measures it from outside.  Its protocol is described where it begins."""

import os
import subprocess
import tempfile

PAGE = os.sysconf("SC_PAGE_SIZE")
SKIPPED = 77


class Died(Exception):
    """The subject ended before it was asked to."""


class Subject:
    def __init__(self, program, library, policy, experiment, prepare=None, **parameters):
        """`library` None measures libc.  `prepare` runs in the child before exec."""
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        if library:
            environment["LD_PRELOAD"] = library
            environment["CEDE_OPTIONS"] = "policy=" + policy
        else:
            environment["GLIBC_TUNABLES"] = "glibc.malloc.tcache_count=0"
        self.errors = tempfile.TemporaryFile()
        arguments = [f"{name}={value}" for name, value in parameters.items()]
        self.process = subprocess.Popen(
            [program, experiment] + arguments, env=environment, preexec_fn=prepare,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0)
        self.step = self.live = self.pages = None
        self.read_step()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def read_line(self):
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.process.stdout.read(1)
            if not byte:
                raise Died(f"after step {self.step}: status {self.process.wait()}")
            line += byte
        return line.decode().split()

    def read_step(self):
        name, *values = self.read_line()
        if name == "failed":
            raise Died("the subject has no memory")
        values = dict(value.split("=") for value in values)
        self.step, self.live = name, int(values["live"])
        self.pages = int(values.get("pages", 0))

    def command(self, letter):
        self.process.stdin.write(letter)
        answer, result = self.read_line()
        assert answer == "done", answer
        return int(result)

    def go(self, step):
        """To the next step, which must be `step`."""
        self.process.stdin.write(b"g")
        self.read_step()
        assert self.step == step, f"step {self.step}, not {step}"

    def trim(self):
        return self.command(b"t")

    def stats(self):
        """(system bytes, bytes in use) of the first arena by malloc_stats."""
        start = self.errors.seek(0, os.SEEK_END)
        self.command(b"s")
        self.errors.seek(start)
        lines = self.errors.read().decode().splitlines()
        arena = lines.index("Arena 0:")
        values = [line.split("=") for line in lines[arena + 1:arena + 3]]
        assert [name.strip() for name, _ in values] == ["system bytes", "in use bytes"], lines
        return tuple(int(value) for _, value in values)

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE

    def anonymous(self):
        """Resident anonymous bytes, exactly."""
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Anonymous:"):
                    return int(line.split()[1]) * 1024
        raise Died("no smaps_rollup")

    def heap_size(self):
        """The [heap] of pmap: what the break spans."""
        with open(f"/proc/{self.process.pid}/maps") as maps:
            spans = [line.split()[0].split("-") for line in maps if line.endswith("[heap]\n")]
        return sum(int(end, 16) - int(start, 16) for start, end in spans)


def memory_available():
    with open("/proc/meminfo") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
