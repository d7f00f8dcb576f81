"""cede doctor on cores of glibc's releases that no Debian release has any more.

    test_recorded.py COMMAND

The cores are of programs with the allocator of that release (docs/doctor.md tells how they
came to be); cores/expected.json has what each program said of itself: its mallinfo, its
blocks of more than 8 KiB, and what went back when it then called malloc_trim(0).
"""

import gzip
import json
import os
import shutil
import sys
import tempfile
import unittest

import support
from support import FIELDS, PAGE

COMMAND = None
CORES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cores")


class Recorded(unittest.TestCase):
    maxDiff = None

    def findings(self, name):
        with tempfile.NamedTemporaryFile() as core:
            with gzip.open(os.path.join(CORES, f"{name}.core.gz")) as packed:
                shutil.copyfileobj(packed, core)
            core.flush()
            return support.findings(COMMAND, core.name, "--core")

    def check(self, name, expected):
        found = self.findings(name)
        self.assertTrue(found["reading"]["audit_passed"])
        self.assertEqual({field: found["mallinfo2"][field] for field in FIELDS},
                         expected["mallinfo"])
        self.assertEqual(len(found["arenas"]), expected["arenas"])
        self.assertLessEqual(abs(found["trim"]["bytes"] - expected["trim"]),
                             expected["arenas"] * PAGE)
        large = [size for size in found["classes"] if size["block_bytes"] > 8192]
        self.assertEqual({"blocks": sum(size["live_blocks"] for size in large),
                          "bytes": sum(size["live_bytes"] for size in large)},
                         expected["large"])

    def test_all(self):
        with open(os.path.join(CORES, "expected.json")) as file:
            table = json.load(file)
        self.assertEqual({f"{name}.core.gz" for name in table} | {"expected.json"},
                         set(os.listdir(CORES)))
        for name, expected in table.items():
            with self.subTest(name):
                self.check(name, expected)


if __name__ == "__main__":
    COMMAND = sys.argv[1]
    unittest.main(argv=sys.argv[:1], verbosity=2)
