"""What the runners share: the allocators, how a process is put on one, and tables."""

import argparse
import glob
import os
import subprocess
import sys

SKIPPED = 77

PEERS = {
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "mimalloc": "libmimalloc.so.[0-9]",
}
LIBRARY_FOLDERS = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


class Allocator:
    def __init__(self, name, library=None, **settings):
        self.name = name
        self.environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), **settings}
        if library:
            self.environment["LD_PRELOAD"] = library


def glibc():
    return Allocator("glibc")


def glibc_without_tcache():
    return Allocator("glibc, no tcache", GLIBC_TUNABLES="glibc.malloc.tcache_count=0")


def cede(library, policy):
    return Allocator(f"cede {policy}", library, CEDE_OPTIONS=f"policy={policy}")


def peers():
    """Those that this machine has."""
    for name, file in PEERS.items():
        found = [path for folder in LIBRARY_FOLDERS
                 for path in sorted(glob.glob(f"{folder}/{file}"))]
        if found:
            yield Allocator(name, found[0])


def named(text):
    """An --allocator: NAME=PATH."""
    name, _, path = text.partition("=")
    if not name or not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"not NAME=PATH of a library: {text}")
    return Allocator(name, os.path.abspath(path))


def arguments_parser(description, program):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="the built libcede.so")
    parser.add_argument(f"--{program}", required=True, help="the workload's program")
    parser.add_argument("--allocator", metavar="NAME=PATH", type=named, action="append",
                        default=[], help="another allocator to measure")
    return parser


def all_allocators(library, others):
    return [glibc(), glibc_without_tcache(), cede(library, "classic"),
            cede(library, "default"), *peers(), *others]


def require_loadable(allocators, command):
    """Ends the program unless `command`, which is short, is silent on each: the
    loader ignores a library that it cannot preload, and measures libc instead."""
    for allocator in allocators:
        ran = subprocess.run(command, env=allocator.environment, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
        if ran.returncode != 0 or ran.stderr:
            sys.exit(f"{allocator.name}: {' '.join(command)}: status {ran.returncode}"
                     f"\n{ran.stderr}")


def print_table(head, rows):
    """A table that reads well in a terminal and in Markdown: texts to the left,
    the rest to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells):
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join(padded) + " |"

    print(line(head))
    print("|" + "|".join("-" * (width + 1) + (":" if i else "-")
                         for i, width in enumerate(widths)) + "|")
    for row in rows:
        print(line(row))
