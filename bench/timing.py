"""How long whole programs take, and what they hold afterwards.

The allocators take turns, five rounds; a time is the median, from the start of the
process to its last free.  The memory is that of the last round: the peak, and what
is resident when the program has done nothing for a second.  Figures, no verdicts:
they depend on the machine.
"""

import statistics
import subprocess
import sys
import time

import support

ROUNDS = 5
IDLE_SECONDS = 1
# (what it is, churn's size, batch and pairs)
WORKLOADS = (
    ("64 bytes, taken and given back at once, 20 million times", 64, 1, 20000000),
    ("64 bytes, 1000 taken, then given back, 20 million in all", 64, 1000, 20000000),
    ("1024 bytes, 1000 taken, then given back, 3 million in all", 1024, 1000, 3000000),
    ("2 GiB of 100 bytes taken, then given back", 100, (2 << 30) // 100, 1),
)


def status_mib(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise KeyError(field)


def run(command, environment, is_last):
    """(seconds, peak MiB, idle MiB or None)"""
    idle = None
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        if line != b"done\n":
            sys.exit(f"{' '.join(command)}: status {process.wait()}")
        peak = status_mib(process.pid, "VmHWM")
        if is_last:
            time.sleep(IDLE_SECONDS)
            idle = status_mib(process.pid, "VmRSS")
        process.stdin.close()
    return seconds, peak, idle


def compare(allocators, command):
    """A table row for each allocator."""
    seconds = {allocator.name: [] for allocator in allocators}
    memory = {}
    for number in range(ROUNDS):
        for allocator in allocators:
            taken, *memory[allocator.name] = run(
                command, allocator.environment, number == ROUNDS - 1)
            seconds[allocator.name].append(taken)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians[support.glibc().name]
    return [[name, f"{median:.2f}", f"{median / base:.2f}",
             *(f"{mib:.0f}" for mib in memory[name])] for name, median in medians.items()]


def main():
    arguments = support.arguments_parser(__doc__, "churn").parse_args()
    allocators = support.all_allocators(arguments.library, arguments.allocator)
    support.require_loadable(allocators, [arguments.churn, "16", "1", "1"])
    for what, *numbers in WORKLOADS:
        print(f"\n{what}:\n")
        support.print_table(
            ["", "s", "/ glibc", "peak MiB", "idle MiB"],
            compare(allocators, [arguments.churn, *map(str, numbers)]))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
