"""What an operation costs as a program grows, under every allocator: nanoseconds of
processor time, user and system, of the whole process.

    threads   1 to 64; each replaces its own 1000 blocks of 16 B to 1 KiB at random
    live      1 MiB to 8 GiB of blocks of 768 to 1280 bytes, replaced at random
    blocks    10 to 10,000,000 of 64 bytes, taken, then given back in random order

The program is curve.c.  A figure is the median of three runs, or of as many as begin
within two seconds; the allocators take turns.  A point that needs more than two thirds
of the memory that is available is left out.  *grew* is the last figure over the first;
the chart shows each figure over glibc's.
"""

import collections
import os
import statistics
import subprocess
import sys
import time

import support

SUBJECT = "cede default"
RUNS = 3
ENOUGH_S = 2
MEMORY_FACTOR = 1.5
CYCLED = 4000000  # blocks, over all cycles of a run

# `command` and `mib`, what it holds: functions of the point; `figures`: what it prints.
Axis = collections.namedtuple("Axis", "title points command mib figures")
AXES = (
    Axis("threads", [1 << i for i in range(7)],
         lambda threads: ["replace", threads, 1000, 16, 1024, 1000000],
         lambda threads: threads, ["a replacement"]),
    Axis("MiB live", [1, 8, 64, 512, 4096, 8192],
         lambda mib: ["replace", 1, mib << 10, 768, 1280, 4000000],
         lambda mib: mib, ["a replacement"]),
    Axis("blocks", [10 ** i for i in range(1, 8)],
         lambda blocks: ["cycle", blocks, 64, max(CYCLED // blocks, 1)],
         lambda blocks: blocks >> 14, ["malloc", "free"]),
)


def mib_available():
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvail"))


def measure(command, environment):
    """Each figure that the command prints."""
    runs = []
    begin = time.monotonic()
    while not runs or len(runs) < RUNS and time.monotonic() - begin < ENOUGH_S:
        ran = subprocess.run(command, env=environment, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, check=True)
        runs.append([float(figure) for figure in ran.stdout.split()])
    return [statistics.median(figures) for figures in zip(*runs)]


def measure_axis(axis, program, allocators):
    """For each figure: {allocator: [ns at each point]}, and the points."""
    curves = [{a.name: [] for a in allocators} for _ in axis.figures]
    points = [point for point in axis.points
              if axis.mib(point) * MEMORY_FACTOR <= mib_available()]
    for point in points:
        command = [program, *map(str, axis.command(point))]
        for allocator in allocators:
            for curve, ns in zip(curves, measure(command, allocator.environment), strict=True):
                curve[allocator.name].append(ns)
    for point in axis.points[len(points):]:
        print(f"\nwithout {point:,} {axis.title}: only {mib_available():,} MiB are available")
    return curves, points


def print_curve(axis, figure, curve, points):
    base = curve[support.glibc().name]
    rows = [[name, *(f"{ns:.1f}" for ns in line), f"{line[-1] / line[0]:.1f}"]
            for name, line in curve.items()]
    if SUBJECT in curve:
        rows.append([f"{SUBJECT} / glibc", *(f"{ours / theirs:.2f}"
                                             for ours, theirs in zip(curve[SUBJECT], base)), ""])
    print(f"\nns for {figure}, by {axis.title}:\n", flush=True)
    support.print_table(["", *(f"{point:,}" for point in points), "grew"], rows)


def main():
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--allocators", metavar="NAME,...", help="only these beside glibc")
    parser.add_argument("--chart", metavar="FILE.svg", help="build/release/bench/curve.svg")
    parser.add_argument("--tiny", action="store_true",
                        help="each axis' first point: does it work at all?")
    arguments = parser.parse_args()
    programs = support.programs_of(arguments.build)
    program = os.path.join(programs, "curve")
    base = support.glibc()
    others = support.picked(parser, arguments.allocators, [
        *support.both_policies(arguments.build), *support.peers(), *arguments.allocator])
    allocators = [base, *others]
    support.require_loadable(allocators, [program, "cycle", "1", "64", "1"])

    panels = []
    for axis in AXES:
        if arguments.tiny:
            axis = axis._replace(points=axis.points[:1])
        curves, points = measure_axis(axis, program, allocators)
        for figure, curve in zip(axis.figures, curves):
            print_curve(axis, figure, curve, points)
            panels.append((f"{figure}, by {axis.title}, of {base.name}'s",
                           [(f"{point:,}", [curve[other.name][i] / curve[base.name][i]
                                            for other in others])
                            for i, point in enumerate(points)]))
    support.draw(programs, arguments.chart or os.path.join(programs, "curve.svg"),
                 [other.name for other in others], panels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
