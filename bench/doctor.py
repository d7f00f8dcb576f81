"""What cede doctor takes of a heap, and how long the process waits for it.

Each heap is looked at three times, without and with --leaks: the median of the time that
the process is stopped, as the doctor says, of the whole command's, by the clock and in
processor time, and of the most memory that it had.
"""

import json
import os
import statistics
import subprocess
import sys

import support

HEAPS = (
    ("1 GiB in 16,384 blocks of 64 KiB, a half freed", 16384, 65536, "ordered", 50),
    ("the same, all in use", 16384, 65536, "ordered", 0),
    ("10 million blocks of 24 bytes", 10000000, 24, "ordered", 0),
    ("the same, linked at random", 10000000, 24, "shuffled", 0),
    ("10 million blocks of 100 bytes, a half freed at random", 10000000, 100, "shuffled", 50),
)
LOOKS = 3


def look(programs, command, pid, *options):
    """Pause, time and processor time in seconds, MiB."""
    reading, writing = os.pipe()
    ran = subprocess.run([os.path.join(programs, "measure"), str(writing), command, "doctor",
                          "--json", *options, str(pid)], stdout=subprocess.PIPE,
                         pass_fds=[writing], env=support.CLEAN)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        took, processor, _, peak_kib = map(float, pipe.read().split())
    found = json.loads(ran.stdout)
    if options and found["leaks"]["lost_bytes"]:
        sys.exit(f"{found['leaks']['lost_bytes']} bytes seem lost of a heap where none are")
    return found["reading"]["pause_microseconds"] / 1e6, took, processor, peak_kib / 1024


def measure(programs, command, heap, scale):
    """A row for each way to look."""
    name, blocks, size, *shape = heap
    process = subprocess.Popen([os.path.join(programs, "heap"), str(blocks // scale), str(size),
                                *map(str, shape)], env=support.CLEAN, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    if process.stdout.readline() != b"ready\n":
        sys.exit(f"{name}: the program ended with {process.wait()}")
    for options in ((), ("--leaks",)):
        figures = [statistics.median(column) for column in
                   zip(*(look(programs, command, process.pid, *options)
                         for _ in range(LOOKS)))]
        yield [", ".join((name, *options)), *(f"{figure:.2f} s" for figure in figures[:3]),
               f"{figures[3]:.0f} MiB"]
    process.communicate()


def main():
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--tiny", action="store_true", help="heaps of a thousandth the size")
    arguments = parser.parse_args()
    command = os.path.abspath(os.path.join(arguments.build, "bin", "cede"))
    programs = support.programs_of(arguments.build)
    rows = []
    for heap in HEAPS:
        support.progress(heap[0])
        rows += measure(programs, command, heap, 1000 if arguments.tiny else 1)
    support.progress("")
    support.print_table(["heap", "pause", "in all", "processor time", "memory"], rows)


if __name__ == "__main__":
    main()
