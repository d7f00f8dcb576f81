"""How soon and how fast free memory goes back when memory is short: cede hears of it by a
FIFO, as from a service manager.

The rates are by processor time, of the thread that gives back and of a plain
madvise(MADV_DONTNEED) of as much in the same process: what else runs does not count.  Each
figure is the median of some rounds.
"""

import os
import statistics
import sys
import tempfile

import stall
import support

ROUNDS = 5
MIB = 2048
GOAL_MS = 60
GOAL_GIB_PER_SECOND = 8
GOAL_RATIO = 0.9  # of the system's own rate, where that is less
CASES = (("one block", "region"), ("blocks of 64 KiB", "blocks"))


def measure(allocator, program, pattern, mib):
    """(ms to the first, GiB a second, and of the plain call)"""
    with tempfile.TemporaryDirectory() as folder:
        fifo = os.path.join(folder, "fifo")
        os.mkfifo(fifo)
        watching = support.Allocator(allocator.name, **allocator.settings,
                                     MEMORY_PRESSURE_WATCH=fifo)
        (first, purger, kernel), = stall.run(watching, program, pattern, mib)
    return float(first), mib / 1024 / float(purger), mib / 1024 / float(kernel)


def main():
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it work at all?")
    arguments = parser.parse_args()
    program = os.path.join(support.programs_of(arguments.build), "pressure")
    _, default = support.both_policies(arguments.build)
    rounds, mib = (1, 64) if arguments.tiny else (ROUNDS, MIB)

    rows, reached = [], True
    for what, pattern in CASES:
        runs = [measure(default, program, pattern, mib) for _ in range(rounds)]
        first, rate, kernel = (statistics.median(figures) for figures in zip(*runs))
        ratio = statistics.median(run[1] / run[2] for run in runs)
        rows.append([f"{mib} MiB, {what}", f"{first:.1f}", f"{rate:.1f}", f"{kernel:.1f}",
                     f"{ratio:.2f}"])
        reached &= first <= GOAL_MS and (rate >= GOAL_GIB_PER_SECOND or ratio >= GOAL_RATIO)
    print("Free memory when memory is short:\n")
    support.print_table(["", "starts after, ms", "GiB/s", "one madvise", "ratio"], rows)
    print(f"\n- within {GOAL_MS} ms, at {GOAL_GIB_PER_SECOND} GiB/s or {GOAL_RATIO} of the"
          f" system's own rate (aim): {stall.verdict(reached)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
