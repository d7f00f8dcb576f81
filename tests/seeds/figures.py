"""The figures of the two articles, measured on real processes from outside.

    figures.py --subject PROGRAM [--library LIBCEDE] FIGURE [NUMBER]

In classic each figure is the article's own; in default it is the limit on the
anonymous memory that a process still holds, beyond what it had before its first
allocation, one second after its last free and without any further call.  Without a
library, classic's figures are taken of libc, whose they are.
"""

import argparse
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.subject import SKIPPED, Died, Subject, memory_available  # noqa: E402
from support.memory_group import MemoryGroup, NotPermitted  # noqa: E402
from support.rest import second_passes  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30
FAST_LIMIT = 120  # the largest request whose chunk a fast bin keeps


class Wrong(Exception):
    pass


def expect(name, value, low, high):
    print(f"{name}: {value:,} bytes (expected {low:,} to {high:,})")
    if not low <= value <= high:
        raise Wrong(f"{name} is {value:,}, not in {low:,}..{high:,}")


def expect_at_most(name, value, limit):
    print(f"{name}: {value:,} bytes (at most {limit:,})")
    if value > limit:
        raise Wrong(f"{name} is {value:,}, more than {limit:,}")


def chunk_of(size):
    return max(32, (size + 8 + 15) // 16 * 16)


def total_that_fits(total):
    """The experiment's own size, or as much of it as this machine has room for."""
    while total * 1.6 > memory_available():
        total //= 2
        print(f"little memory: {total // MIB} MiB of blocks")
    return total


class Figures:
    def __init__(self, program, library):
        self.program = program
        self.library = library

    def classic(self, experiment, **parameters):
        return Subject(self.program, self.library, "classic", experiment, **parameters)

    def default(self, experiment, **parameters):
        return Subject(self.program, self.library, "default", experiment, **parameters)

    # ---- classic, as the articles saw it ----

    def classic_list(self):
        with self.classic("list") as subject:
            figures = [("start", 0), ("allocated", 655_840_000), ("freed", 320_000),
                       ("cleared", 0)]
            for step, in_use in figures:
                if step != "start":
                    subject.go(step)
                system, used = subject.stats()
                expect(f"{step}: in use", used, in_use, in_use)
                if step != "start":
                    expect(f"{step}: system", system, 655_840_000, 655_990_000)
                    expect(f"{step}: [heap]", subject.heap_size(), 655_840_000, 656_200_000)

    def classic_pin(self):
        with self.classic("pin") as subject:
            subject.go("allocated")
            subject.go("freed")
            system, used = subject.stats()
            expect("in use", used, 32, 32)
            expect("system", system, 269_602_816 - 200_000, 269_602_816 + 200_000)

    def blocks_freed(self, subject):
        """What remained of the blocks once all were freed, and one second later."""
        start = subject.resident()
        subject.go("allocated")
        subject.go("freed")
        second_passes(subject.process.pid)
        return subject.resident() - start

    def classic_blocks(self, size):
        total = total_that_fits(2 * GIB)
        with self.classic("blocks", size=size, total=total) as subject:
            kept = self.blocks_freed(subject)
            chunks = total // size * chunk_of(size)
            if size <= FAST_LIMIT:
                expect("kept", kept, chunks, chunks + 8 * MIB)
            else:
                expect_at_most("kept", kept, 8 * MIB)

    def classic_mallopt(self, size):
        """The author's cure: both thresholds at 64 bytes."""
        total = total_that_fits(2 * GIB)
        with self.classic("blocks", size=size, total=total, mallopt=64) as subject:
            expect_at_most("kept", self.blocks_freed(subject), 8 * MIB)

    def classic_trim(self, size):
        """The other article's cure."""
        total = total_that_fits(2 * GIB)
        with self.classic("blocks", size=size, total=total) as subject:
            start = subject.resident()
            expect("kept", self.blocks_freed(subject), total, 2 * total)
            if subject.trim() != 1:
                raise Wrong("malloc_trim says that nothing went back")
            expect_at_most("kept after malloc_trim", subject.resident() - start, 8 * MIB)

    # ---- default, which gives it back ----

    def default_rest(self, subject, last, limit):
        """From the start, where nothing was allocated yet, to the step `last`."""
        start = subject.anonymous()
        subject.go("allocated")
        subject.go("freed")
        if last == "freed-again":
            second_passes(subject.process.pid)
            subject.go("allocated-again")
            subject.go("freed-again")
        second_passes(subject.process.pid)
        expect_at_most(f"anonymous 1 s after {last}", subject.anonymous() - start,
                       limit(subject))

    def default_blocks(self, size, shuffle=0):
        total = total_that_fits(2 * GIB)
        with self.default("blocks", size=size, total=total, shuffle=shuffle) as subject:
            self.default_rest(subject, "freed", lambda s: s.live + 8 * MIB)

    def default_shuffled(self, size):
        self.default_blocks(size, shuffle=1)

    def default_twice(self, size):
        """The second round finds the heap that the first one left."""
        total = total_that_fits(2 * GIB)
        with self.default("blocks", size=size, total=total, rounds=2) as subject:
            self.default_rest(subject, "freed-again", lambda s: s.live + 8 * MIB)

    def default_list(self):
        with self.default("list") as subject:
            self.default_rest(subject, "freed", lambda s: 48 * MIB)

    def default_pin(self):
        with self.default("pin") as subject:
            self.default_rest(subject, "freed", lambda s: 4 * MIB)

    def default_sparse(self):
        total = total_that_fits(GIB)
        with self.default("sparse", total=total) as subject:
            self.default_rest(subject, "freed",
                              lambda s: int(1.05 * s.pages * 4096) + 8 * MIB)

    # ---- two processes, memory for one ----

    def two(self, policy, limit):
        """Whether both finish."""
        with MemoryGroup(limit) as group, \
                Subject(self.program, self.library, policy, "blocks", prepare=group.enter) as first:
            first.go("allocated")
            first.go("freed")
            second_passes(first.process.pid)
            with Subject(self.program, self.library, policy, "blocks",
                         prepare=group.enter) as second:
                try:
                    second.go("allocated")
                    second.go("freed")
                except Died:
                    return False
                return first.process.poll() is None

    def two_processes(self, policy, survive):
        limit = 3_000_000_000
        if memory_available() < 1.2 * limit:
            raise NotPermitted("this machine has less than 3 GB of free memory")
        both = self.two(policy, limit)
        print(f"{policy}: {'both finished' if both else 'one was killed'}")
        if both != survive:
            raise Wrong("both should finish" if survive else "memory for one was enough for two")

    def default_two(self):
        self.two_processes("default", True)

    def classic_two(self):
        self.two_processes("classic", False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--subject", required=True)
    parser.add_argument("--library")
    parser.add_argument("figure")
    parser.add_argument("number", type=int, nargs="*")
    options = parser.parse_args()
    figures = Figures(options.subject, options.library)
    try:
        getattr(figures, options.figure)(*options.number)
    except (Wrong, Died) as what:
        print(f"{options.figure}: {what}", file=sys.stderr)
        return 1
    except NotPermitted as why:
        print(f"skipped: {why}")
        return SKIPPED
    return 0


sys.exit(main())
