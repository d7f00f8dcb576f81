"""The right verdict on heaps of different sizes, threads and patterns.

    test_verdicts.py COMMAND TARGET [CASE ...]
"""

import os
import sys
import unittest

import support
from support import Target

COMMAND = TARGET = None
KEEP_ALL, KEEP_LAST, KEEP_ONE_IN, KEEP_LATER, KEEP_NONE = range(5)

# MiB, least and most bytes of a block, what is kept and its number, threads.
LIVE = [
    (64, 16, 16, KEEP_ALL, 0, 1),
    (64, 100, 1000, KEEP_ALL, 0, 1),
    (64, 1000, 100000, KEEP_ALL, 0, 4),
    (96, 24, 24, KEEP_ALL, 0, 8),
    (64, 200000, 900000, KEEP_ALL, 0, 1),       # mapped one by one
    (64, 200000, 900000, KEEP_NONE, 0, 1),      # and gone
    (64, 2000, 5000, KEEP_NONE, 0, 1),          # the top shrank
    (64, 100, 1000, KEEP_LATER, 15, 1),         # too little was freed
    (12, 100, 1000, KEEP_LAST, 0, 1),
    (64, 100, 1000, KEEP_LATER, 10, 4),
]
RETENTION = [
    (32, 4096, 4096, KEEP_LAST, 0, 1),
    (64, 100, 100, KEEP_LAST, 0, 1),
    (128, 24, 5000, KEEP_LAST, 0, 1),
    (64, 10000, 60000, KEEP_LAST, 0, 4),
    (64, 16, 64, KEEP_LATER, 60, 1),
    (64, 1000, 20000, KEEP_LATER, 40, 1),
    (96, 500, 1500, KEEP_LATER, 50, 8),
    (64, 60000, 70000, KEEP_ONE_IN, 10, 1),
    (128, 20000, 120000, KEEP_ONE_IN, 3, 4),
    (64, 100, 100, KEEP_ONE_IN, 1000, 1),
    (64, 100, 5000, KEEP_NONE, 0, 1),           # a thread's cache holds 20 MB
]
FRAGMENTATION = [
    (64, 100, 100, KEEP_ONE_IN, 10, 1),
    (64, 100, 100, KEEP_ONE_IN, 30, 1),
    (64, 16, 16, KEEP_ONE_IN, 50, 1),
    (64, 24, 40, KEEP_ONE_IN, 20, 4),
    (96, 500, 500, KEEP_ONE_IN, 4, 1),
    (96, 1000, 1000, KEEP_ONE_IN, 3, 8),
    (64, 16, 1000, KEEP_ONE_IN, 5, 1),
    (64, 200, 300, KEEP_ONE_IN, 8, 2),
    (128, 48, 48, KEEP_ONE_IN, 60, 1),
    (64, 2000, 2000, KEEP_ONE_IN, 2, 1),
]


class Verdicts(unittest.TestCase):
    def check(self, verdict, shapes):
        for shape in shapes:
            with self.subTest(shape), Target(TARGET, "shape", *shape) as target:
                found = support.findings(COMMAND, target.pid)
                self.assertEqual(found["verdict"], verdict, found["resident"])
                self.assertEqual({name: found["mallinfo2"][name] for name in target.info},
                                 target.info)

    def test_live(self):
        self.check("live", LIVE)

    def test_retention(self):
        self.check("retention", RETENTION)

    def test_fragmentation(self):
        self.check("fragmentation", FRAGMENTATION)


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
