"""What a process keeps after it freed: memory one second after the last free, with no call
after it, as a share of what it had at most; under every allocator.

The programs are those of tests/return, where rest.h says how they measure.  "in use" are
the pages that hold a live byte, under cede default: what an allocator that moves nothing
cannot do without.  Last, `cede lab` draws one case over time.
"""

import os
import re
import shutil
import subprocess
import sys

import support

SUBJECT = "cede default"
TIMEOUT_SECONDS = 300
HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = os.path.join(os.path.dirname(HERE), "tests", "return", "server.py")

# what, the case of tests/return/return.c, the same when tiny
CASES = (
    ("1 GiB of 100 B, all freed", "blocks 100 100 1024 0 0", "blocks 100 100 1 0 0"),
    ("1 GiB of 10 KiB, all freed", "blocks 10240 10240 1024 0 0", "blocks 10240 10240 1 0 0"),
    ("20 million of 16-48 B, freed at random", "blocks 16 48 610 0 1", "blocks 16 48 1 0 1"),
    ("1 GiB of 1-48 MiB, all freed", "blocks 1048576 50331648 1024 0 0",
     "blocks 1048576 2097152 4 0 0"),
    ("10,000 of 64 KiB among 20,000 list nodes, which stay", "list 10000 20000", "list 10 20"),
    ("65,536 of 4 KiB under one byte, which stays", "pin 65536", "pin 64"),
    ("10 million of 100 B, 1% stays", "blocks 100 100 954 100 0", "blocks 100 100 1 100 0"),
    ("512 MiB of 16-4000 B, 1% stays", "blocks 16 4000 512 100 0", "blocks 16 4000 1 100 0"),
    ("512 MiB of 4-120 KiB, 1% stays", "blocks 4096 122880 512 100 0",
     "blocks 4096 122880 4 100 0"),
    ("16 blocks grown to 256 MiB, cut to 100 B", "realloc 16 256", "realloc 2 1"),
    ("10 phases of 64 MiB, 16 B to 3 MB, 2% stays", "phases 64", "phases 4"),
    ("16 threads, all freed, asleep", "asleep 16 32", "asleep 2 1"),
    ("200 threads, all freed, asleep", "asleep 200 2", "asleep 4 1"),
    ("1,000 threads that ended", "ended 1000 1", "ended 16 1"),
    ("a producer and a consumer, asleep", "relay 2000000", "relay 1000"),
)


def figures_of(allocator, command):
    """What the program says first: {name: bytes}."""
    ran = subprocess.run(command, env=allocator.environment, text=True, capture_output=True,
                         timeout=TIMEOUT_SECONDS)
    found = dict(re.findall(r"(\w+)=(\d+)", ran.stdout.partition("\n")[0]))
    if ran.returncode != 0 or "kept" not in found:
        sys.exit(f"{allocator.name}: {' '.join(command)}: status {ran.returncode}"
                 f"\n{ran.stdout}{ran.stderr}")
    return {name: int(value) for name, value in found.items()}


def share(part, whole):
    percent = 100 * part / max(whole, 1)
    return f"{percent:.0f}%" if percent >= 9.5 else f"{percent:.1f}%"


def row_of(what, command, allocators):
    found = []
    for allocator in allocators:
        support.progress(f"{what}: {allocator.name}")
        found.append(figures_of(allocator, command))
    support.progress("")
    of_cede = next(figures for allocator, figures in zip(allocators, found)
                   if allocator.name == SUBJECT)
    return ([what, share(of_cede["floor"], of_cede["most"]) if "floor" in of_cede else "-"]
            + [share(figures["kept"], figures["most"]) for figures in found])


def draw(arguments, chart):
    """One case over time."""
    command = [os.path.join(arguments.build, "bin", "cede"), "lab", "list", "--chart", chart]
    for allocator in arguments.allocator:
        command += ["--allocator", f"{allocator.name}={allocator.settings['LD_PRELOAD']}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"\nOver time: {chart}")


def main():
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it work at all?")
    arguments = parser.parse_args()
    program = os.path.join(support.programs_of(arguments.build), "bench-return")
    classic, default = support.both_policies(arguments.build)
    allocators = ([default] if arguments.tiny else
                  [support.glibc(), classic, default, *support.peers(), *arguments.allocator])
    support.require_loadable(allocators, [program, "figures", *CASES[0][2].split()])

    rows = [row_of(what, [program, "figures", *(tiny if arguments.tiny else case).split()],
                   allocators)
            for what, case, tiny in CASES]
    if shutil.which("redis-server") is not None:
        keys = 1000 if arguments.tiny else 1000000
        rows.append(row_of(f"redis-server, {2 * keys:,} values set and deleted",
                           [sys.executable, "-B", SERVER, "figures", str(keys)], allocators))
    print("Memory 1 s after the last free, of the most there was:\n")
    support.print_table(["", "in use", *(allocator.name for allocator in allocators)], rows)
    if not arguments.tiny:
        draw(arguments, os.path.join(support.programs_of(arguments.build), "returns.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
