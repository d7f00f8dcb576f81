"""Whether any step of the heap is quadratic: processor time per operation as the
heap grows, for glibc and both policies of cede.

    scatter   2.5 to 20 million blocks of 100 bytes, freed in random order
    sizes     25,000 to 200,000 free chunks in one arena, of a tenth as many sizes
              from 1040 bytes up, kept apart by live blocks; then one is taken of
              each by best fit

The program is tests/integration/linear.c, which also says what each figure is.  A
curve is left when it has taken too long; its missing figures are dashes.
"""

import os
import re
import subprocess
import sys

import support

STEPS = 4
# (curve, its last count, seconds for one allocator)
CURVES = (("scatter", 20000000, 120), ("sizes", 200000, 20))


def measure(program, environment, curve, largest, seconds):
    """{operation: {count: ns}}, as far as it came."""
    with subprocess.Popen([program, curve, str(largest)], env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    found = {}
    for line in re.findall(r"^ *(\d+  .*ns)$", output, re.M):
        count, *figures = line.split("  ")
        for operation, ns in re.findall(r"(\w+) +([\d.]+) ns", " ".join(figures)):
            found.setdefault(operation, {})[int(count)] = float(ns)
    if not found:
        sys.exit(f"{program} {curve} {largest}: no figures\n{output}")
    return found


def rows_of(name, measured, counts):
    for operation, ns in measured.items():
        reached = [ns[count] for count in counts if count in ns]
        yield ([name, operation]
               + [f"{ns[count]:.0f}" if count in ns else "-" for count in counts]
               + [f"{reached[-1] / reached[0]:.1f}"])


def main():
    arguments = support.arguments_parser(__doc__).parse_args()
    linear = os.path.join(support.programs_of(arguments.build), "bench-linear")
    allocators = [support.glibc(), *support.both_policies(arguments.build),
                  *arguments.allocator]
    support.require_loadable(allocators, [linear, "sizes", "80"])

    for curve, largest, seconds in CURVES:
        counts = [largest >> (STEPS - 1 - step) for step in range(STEPS)]
        rows = []
        for allocator in allocators:
            measured = measure(linear, allocator.environment, curve, largest, seconds)
            rows += rows_of(allocator.name, measured, counts)
        print(f"\n{curve}, ns of processor time per block:\n")
        support.print_table(["", "step"] + [f"{count:,}" for count in counts] + ["grew"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
