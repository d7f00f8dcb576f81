"""No system call for a page that is gone already: counts those of release.c, which calls
malloc_trim when the purger has given all back.

    calls.py --library LIBCEDE --program RELEASE
"""

import argparse
import os
import subprocess
import sys
import tempfile

SKIPPED = 77
DISCARDING = ("madvise", "process_madvise")


def traced(program, library, calls):
    """The names of these calls, of all threads, in order."""
    with tempfile.NamedTemporaryFile("r") as trace:
        subprocess.run(["strace", "-f", "-qq", "-e", "signal=none", "-o", trace.name,
                        "-e", "trace=" + ",".join(calls), "-E", "LD_PRELOAD=" + library,
                        program, "again"], check=True, env={"PATH": os.environ["PATH"]})
        return [line.split()[1].split("(")[0] for line in trace]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--program", required=True)
    options = parser.parse_args()
    if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"]).returncode != 0:
        print("skipped: strace may not trace here")
        return SKIPPED

    names = traced(options.program, options.library, (*DISCARDING, "getppid"))
    mark = names.index("getppid")
    before, after = names[:mark], names[mark + 1:]
    print(f"{len(before)} calls before malloc_trim, {len(after)} after")
    return 0 if before and not after else 1


sys.exit(main())
