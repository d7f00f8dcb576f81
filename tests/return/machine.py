"""What leaves a process the machine has: the memory charged to its control group falls by
what its own resident memory falls.  Parts of huge pages would show: they leave the process,
while the system keeps the whole page, charged as before.

    machine.py --library LIBCEDE --subject PROGRAM small|huge|always EXPERIMENT [name=number]

The experiments are the lab's.  small: with the option huge=off; huge: as it is; always: the
system gives huge pages to all who did not ask, too (which needs root, and is put back).
"""

import argparse
import contextlib
import mmap
import signal
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.memory_group import MemoryGroup, NotPermitted  # noqa: E402
from support.rest import second_passes  # noqa: E402
from support.subject import SKIPPED, Subject, memory_available  # noqa: E402

MIB = 1 << 20
TOTAL = 1 << 30
SHARE = 0.93  # page tables stay, and huge pages that are split wait a moment
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"


@contextlib.contextmanager
def huge_pages_always():
    with open(HUGE_PAGES, encoding="ascii") as file:
        before = file.read().split("[")[1].split("]")[0]

    def choose(value):
        try:
            with open(HUGE_PAGES, "w", encoding="ascii") as file:
                file.write(value)
        except OSError as error:
            raise NotPermitted(f"huge pages cannot be given to all: {error}") from None

    # ctest ends a test that takes too long.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    choose("always")
    try:
        yield
    finally:
        choose(before)


def warm():
    """Memory that was just in use, which a virtual machine's host has not taken yet: huge
    pages come fast, and the heap uses them."""
    with mmap.mmap(-1, 2 * TOTAL, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, 2 * TOTAL, 2 * MIB):
            memory[at] = 1


def measure(options):
    """(what left the process, what the machine gained)"""
    policy = "default,huge=off" if options.pages == "small" else "default"
    parameters = dict(parameter.split("=") for parameter in options.parameters)
    of_slabs = options.experiment != "list" and int(parameters.get("size", 100)) <= 8192
    if options.pages != "small":
        warm()
    with MemoryGroup(4 * TOTAL) as group, \
            Subject(options.subject, options.library, policy, options.experiment,
                    prepare=group.enter, **parameters) as subject:
        subject.go("allocated")
        if options.pages != "small" and of_slabs and subject.rollup("AnonHugePages") < TOTAL // 4:
            raise NotPermitted("the system gave few huge pages, or slowly")
        resident, charged = subject.anonymous(), group.charged()
        subject.go("freed")
        second_passes(subject.process.pid)
        return resident - subject.anonymous(), charged - group.charged()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--subject", required=True)
    parser.add_argument("pages", choices=("small", "huge", "always"))
    parser.add_argument("experiment")
    parser.add_argument("parameters", nargs="*")
    options = parser.parse_args()
    always = huge_pages_always() if options.pages == "always" else contextlib.nullcontext()
    try:
        if memory_available() < 3 * TOTAL:
            raise NotPermitted("less than 3 GiB of memory are available")
        with always:
            left, gained = measure(options)
    except NotPermitted as why:
        print(f"skipped: {why}")
        return SKIPPED
    print(f"{left / MIB:,.0f} MiB left the process, {gained / MIB:,.0f} its group")
    if left < TOTAL // 2 or gained < SHARE * left:
        print("the machine did not gain what left the process", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
