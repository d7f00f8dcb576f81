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
BUILD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                     "build", "release")
# All that a measured process gets of the caller's environment.
CLEAN = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


class Allocator:
    """`settings` are the variables that put a process on it."""

    def __init__(self, name, library=None, **settings):
        self.name = name
        self.settings = settings
        if library:
            self.settings["LD_PRELOAD"] = library
        self.environment = {**CLEAN, **self.settings}


def glibc():
    # Preloaded too: a program may be linked with another allocator, as redis-server is.
    return Allocator("glibc", "libc.so.6")


def glibc_without_tcache():
    return Allocator("glibc, no tcache", "libc.so.6",
                     GLIBC_TUNABLES="glibc.malloc.tcache_count=0")


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


def arguments_parser(description):
    """The options of every runner; `build` serves programs_of and both_policies."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", metavar="DIR", default=BUILD,
                        help="where cede and the workloads were built (build/release)")
    parser.add_argument("--allocator", metavar="NAME=PATH", type=named, action="append",
                        default=[], help="another allocator to measure")
    return parser


def programs_of(build):
    return os.path.abspath(os.path.join(build, "bench"))


def both_policies(build):
    library = os.path.abspath(os.path.join(build, "lib", "libcede.so"))
    return [Allocator(f"cede {policy}", library, CEDE_OPTIONS=f"policy={policy}")
            for policy in ("classic", "default")]


def picked(parser, text, things):
    """Those that `text` names, divided by commas; all without a text."""
    names = text.split(",") if text else [thing.name for thing in things]
    for name in names:
        if name not in (thing.name for thing in things):
            parser.error(f"no {name!r} among: {', '.join(thing.name for thing in things)}")
    return [thing for thing in things if thing.name in names]


def require_loadable(allocators, command):
    """Ends the program unless `command`, which is short, has no complaint on each: the
    loader ignores a library that it cannot preload, and measures libc instead."""
    for allocator in allocators:
        ran = subprocess.run(command, env=allocator.environment, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
        if ran.returncode != 0 or ran.stderr:
            sys.exit(f"{allocator.name}: {' '.join(command)}: status {ran.returncode}"
                     f"\n{ran.stderr}")


def progress(text):
    """On the terminal's last line, over what was there."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


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


def draw(programs, path, names, panels):
    """A chart of (title, [(row's name, a ratio for each of `names`)]), by chart.c."""
    lines = [["", *names]]
    for title, rows in panels:
        lines.append([title])
        lines += [[name, *(f"{ratio:.4f}" for ratio in ratios)] for name, ratios in rows]
    subprocess.run([os.path.join(programs, "chart"), path], check=True, text=True,
                   input="".join("\t".join(line) + "\n" for line in lines))
    print(f"\nChart: {path}")
