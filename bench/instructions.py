"""Instructions per malloc+free pair, counted by callgrind.

Each figure is the difference of two runs that differ in their number of pairs
alone, so start-up falls out; the same difference of a program that calls no
allocator is subtracted.  Two patterns: a block taken and given back at once, and
1000 taken, then 1000 given back.  Counts hardly depend on the machine's load, so
here a limit can be set:

    --check     counts classic and glibc without its tcache only; status 1 when
                classic needs more than 1.1 of glibc's instructions anywhere,
                77 without valgrind
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

import support

SIZES = (16, 64, 256, 1024, 8192)
BATCHES = (1, 1000)
CELLS = [(size, batch) for batch in BATCHES for size in SIZES]
PAIRS = (10000, 30000)
LIMIT = 1.1


def instructions_of(command, environment):
    ran = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE)
    collected = re.search(r"Collected : (\d+)", ran.stderr)
    if ran.returncode != 0 or not collected:
        sys.exit(f"callgrind {' '.join(command)}: status {ran.returncode}\n{ran.stderr}")
    return int(collected.group(1))


def per_pair(program, environment, size, batch):
    few, many = (instructions_of([program, str(size), str(batch), str(pairs)], environment)
                 for pairs in PAIRS)
    return (many - few) / (PAIRS[1] - PAIRS[0])


def count(allocators, program, program_empty):
    """{allocator's name: [instructions of each cell]}"""
    bare = support.glibc().environment
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        def start(where, environment):
            return [pool.submit(per_pair, where, environment, *cell) for cell in CELLS]

        loops = start(program_empty, bare)
        counts = {a.name: start(program, a.environment) for a in allocators}
        return {name: [cell.result() - loop.result() for cell, loop in zip(cells, loops)]
                for name, cells in counts.items()}


def main():
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="fail above the limit")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed")
        return support.SKIPPED

    churn = os.path.join(support.programs_of(arguments.build), "churn")
    peer = support.glibc_without_tcache()
    classic, default = support.both_policies(arguments.build)
    allocators = [peer, classic] if arguments.check else [
        support.glibc(), peer, classic, default, *support.peers(), *arguments.allocator]
    support.require_loadable(allocators, [churn, "16", "1", "1"])
    counts = count(allocators, churn, f"{churn}-empty")
    ratios = [ours / theirs for ours, theirs in zip(counts[classic.name], counts[peer.name])]

    print("Instructions per malloc+free pair:\n")
    support.print_table(
        ["bytes"] + [f"{size} {'pair' if batch == 1 else batch}" for size, batch in CELLS],
        [[name] + [f"{cell:.0f}" for cell in cells] for name, cells in counts.items()]
        + [[f"{classic.name} / {peer.name}"] + [f"{ratio:.2f}" for ratio in ratios]])
    if arguments.check and max(ratios) > LIMIT:
        print(f"\n{classic.name} needs {max(ratios):.2f} of {peer.name}'s instructions,"
              f" more than {LIMIT}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
