"""Drives cede-lab-subject, the process of the two articles' experiments, and
measures it from outside.  Its protocol is described where it begins."""

import os
import tempfile

from support.stepper import Died, Stepper, numbers

PAGE = os.sysconf("SC_PAGE_SIZE")
SKIPPED = 77


class Subject(Stepper):
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
        super().__init__([program, experiment, *arguments], environment, prepare, self.errors)

    def __exit__(self, *unused):
        super().__exit__(*unused)
        self.errors.close()

    def read_step(self):
        name, *values = self.line()
        if name == "failed":
            raise Died("the subject has no memory")
        values = numbers(values)
        self.step, self.live, self.pages = name, values["live"], values.get("pages", 0)

    def command(self, letter):
        self.send(letter)
        answer, result = self.line()
        assert answer == "done", answer
        return int(result)

    def go(self, step):
        """To the next step, which must be `step`."""
        self.send(b"g")
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
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE

    def anonymous(self):
        """Resident anonymous bytes, exactly."""
        return self.rollup("Anonymous")

    def heap_size(self):
        """The [heap] of pmap: what the break spans."""
        with open(f"/proc/{self.pid}/maps") as maps:
            spans = [line.split()[0].split("-") for line in maps if line.endswith("[heap]\n")]
        return sum(int(end, 16) - int(start, 16) for start, end in spans)


def memory_available():
    with open("/proc/meminfo") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
