"""What giving back costs who goes on: how long single calls of malloc and free take while
the 2 GiB go back that their thread just freed, what a pool costs that comes and goes, and
what programs that never rest lose to the purger.

Each figure is the median of some rounds.  A call that its thread did not have a processor
for counts too, so the first rows, where there is nothing to give back, are the machine's
doing.  In the pool's table everything above the row without the purger is the purger's.
The last table has what the purger's thread ran, of all processor time of the process.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import support
import workloads

ROUNDS = 5
MIB, MS = 2048, 1500  # of calls: freed, and how long calls are timed from then on
POOL = (16, 1000, 10)  # MiB, ms a round, rounds
GOAL_NS = 1000000  # 99.99% of the calls
GOAL_SHARE = 0.01  # of a processor, for the pool; of their time, for busy programs
BUSY = ("random-1", "random-2", "phases", "large", "server", "relay-1-1", "crowd",
        "interpreter", "database")
LOOK_SECONDS = 0.005  # how often the purger's time is read: it ends with the process
PF_EXITING = 0x4  # of the kernel's flags of a thread

FIGURES = ("calls", "50%", "99.9%", "99.99%", "most")


def run(allocator, program, *numbers):
    ran = subprocess.run([program, *map(str, numbers)], env=allocator.environment, text=True,
                         stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    if ran.returncode != 0 or ran.stderr:
        sys.exit(f"{allocator.name}: {' '.join(ran.args)}: {ran.stderr}")
    return [line.split() for line in ran.stdout.splitlines()]


def without_purger(build):
    library = os.path.abspath(os.path.join(build, "lib", "libcede.so"))
    return support.Allocator("cede, background=off", library,
                             CEDE_OPTIONS="policy=default,background=off")


def print_calls(program, allocators, rounds, mib, ms):
    """Returns what 99.99% of the calls took at most, by allocator, in ns."""
    rows, reached = [], {}
    for freed in (0, mib):
        for allocator in allocators:
            runs = [run(allocator, program, "calls", freed, ms) for _ in range(rounds)]
            for call, name in enumerate(("malloc", "free")):
                figures = [statistics.median(int(lines[call][1 + i]) for lines in runs)
                           for i in range(len(FIGURES))]
                rows.append([f"{allocator.name}, {freed} MiB", name]
                            + [f"{figure:,.0f}" for figure in figures])
                reached[allocator.name] = max(figures[3], reached.get(allocator.name, 0))
    print(f"Calls in the {ms} ms after their thread freed so much, ns:\n")
    support.print_table(["", "", *FIGURES], rows)
    return reached


def print_pool(program, allocators, numbers):
    """Returns the share of a processor, by allocator."""
    mib, ms, count = numbers
    rows, shares = [], {}
    for allocator in allocators:
        (seconds, faults), = run(allocator, program, "pool", *numbers)
        shares[allocator.name] = float(seconds) / (count * ms / 1000)
        rows.append([allocator.name, f"{shares[allocator.name]:.2%}",
                     f"{int(faults) / count:,.0f}"])
    print(f"\nA pool of {mib} MiB, filled and freed every {ms} ms:\n")
    support.print_table(["", "of a processor", "page faults a round"], rows)
    return shares


def purger_ns(pid):
    """What the thread ran so far; 0 when there is none.  Nor when the process ends: the last
    of its threads, often this one, gives all its memory back to the system then."""
    for task in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{task}"
        with open(f"{folder}/comm", encoding="ascii") as comm:
            if comm.read().strip() != "cede-purger":
                continue
        with open(f"{folder}/schedstat", encoding="ascii") as times:
            ns = int(times.read().split()[0])
        with open(f"{folder}/stat", encoding="ascii") as stat:
            flags = int(stat.read().rpartition(")")[2].split()[6])
        return 0 if flags & PF_EXITING else ns
    return 0


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def share_of_purger(workload, allocator):
    ns, before = 0, children_seconds()
    environment = {**allocator.environment, **workload.settings}
    with workload.start([], env=environment) as process:
        while process.poll() is None:
            try:
                ns = max(ns, purger_ns(process.pid))
            except OSError:
                pass  # a thread that ended, or all of them
            time.sleep(LOOK_SECONDS)
        workload.finish(process, *process.communicate())
    return ns / 1e9 / (children_seconds() - before)


def print_busy(allocator, chosen, rounds, folder, is_tiny):
    """Returns the largest share."""
    shares = []
    for workload in chosen:
        workload.prepare(folder, is_tiny)
        shares.append(statistics.median(share_of_purger(workload, allocator)
                                        for _ in range(rounds)))
    print("\nWhat the purger takes of programs that never rest:\n")
    support.print_table(["", "of their processor time"],
                        [[workload.name, f"{share:.2%}"]
                         for workload, share in zip(chosen, shares)])
    return max(shares)


def main():
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it work at all?")
    arguments = parser.parse_args()
    program = os.path.join(support.programs_of(arguments.build), "stall")
    _, default = support.both_policies(arguments.build)
    off = without_purger(arguments.build)
    allocators = [support.glibc(), default, off, *arguments.allocator]
    support.require_loadable(allocators, [program, "pool", "1", "1", "1"])

    rounds, mib, ms, pool = ((1, 4, 20, (1, 10, 2)) if arguments.tiny else
                             (ROUNDS, MIB, MS, POOL))
    slowest = print_calls(program, allocators, rounds, mib, ms)
    shares = print_pool(program, allocators, pool)
    programs = support.programs_of(arguments.build)
    chosen = [workload for workload in workloads.all_workloads(programs)
              if workload.name in BUSY and workload.is_runnable()]
    with tempfile.TemporaryDirectory() as folder:
        busy = print_busy(default, chosen, rounds, folder, arguments.tiny)
    cost = shares[default.name] - shares[off.name]
    print(f"\n- 99.99% of the calls take at most {slowest[default.name]:,.0f} ns"
          f" (aim: {GOAL_NS:,}): {verdict(slowest[default.name] <= GOAL_NS)}"
          f"\n- the purger costs the pool {cost:.2%} of a processor (aim: {GOAL_SHARE:.0%}):"
          f" {verdict(cost <= GOAL_SHARE)}"
          f"\n- and of busy programs at most {busy:.2%} (aim: {GOAL_SHARE:.0%}):"
          f" {verdict(busy <= GOAL_SHARE)}")
    return 0


def verdict(is_reached):
    return "reached" if is_reached else "NOT reached"


if __name__ == "__main__":
    sys.exit(main())
