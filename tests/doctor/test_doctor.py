"""cede doctor against what its targets know of themselves: totals equal to their own
mallinfo2, resident memory to the kernel's count, and predictions to what
malloc_trim then gives back.

    test_doctor.py COMMAND TARGET [CASE ...]
"""

import os
import sys
import unittest

import support
from support import FIELDS, NO_CACHE, PAGE, Target

COMMAND = TARGET = None
STATIC_TARGETS = [os.environ.get("DOCTOR_STATIC_TARGET"),
                  os.environ.get("DOCTOR_STATIC_PIE_TARGET")]


class Case(support.Case):
    def examine(self, target, *options):
        """The findings, which must agree with the target's own figures."""
        before = target.rollup("Rss")
        found = support.findings(COMMAND, target.pid, *options)
        # Threads that go to sleep meanwhile may bring in a page of the program, and cede
        # may give some back.
        least, most = sorted((before, target.rollup("Rss")))
        self.assertIn(found["resident"]["process_bytes"], range(least, most + 1))
        self.assertEqual(found["schema"], "cede-doctor/1")
        self.assertTrue(found["reading"]["audit_passed"])
        self.assertEqual({name: found["mallinfo2"][name] for name in FIELDS}, target.info)
        self.assert_resident(found["resident"])
        return found

    def assert_resident(self, resident):
        heap = resident["heap"]
        self.assertEqual(sum(heap.values()), resident["heap_bytes"])
        self.assertEqual(sum(resident[name] for name in
                             ("heap_bytes", "file_bytes", "stack_bytes", "other_bytes")),
                         resident["process_bytes"])
        self.assertEqual(sum(heap[name] for name in ("cached", "fast", "bin", "top")),
                         resident["whole_free_bytes"] + resident["shared_free_bytes"])

    def trim(self, target):
        """Predicts and then trims: equal within a page for each arena."""
        found = self.examine(target)
        before = target.rollup("Anonymous")
        target.trim()
        given = before - target.rollup("Anonymous")
        slack = len(found["arenas"]) * PAGE
        self.assertLessEqual(abs(found["trim"]["bytes"] - given), slack,
                             f"predicted {found['trim']['bytes']}, gave back {given}")
        return found

    def gate(self, found, name):
        for gate in found["gates"]:
            if gate["gate"] == name:
                return gate
        self.fail(f"no gate {name} in {found['gates']}")


class Articles(Case):
    """The two articles' programs, at each step."""

    def test_list(self):
        with Target(TARGET, "list", 10000, **NO_CACHE) as target:
            self.examine(target)
            target.go()
            self.assertEqual(self.examine(target)["verdict"], "live")
            target.go()
            found = self.examine(target)
            self.assertEqual(found["verdict"], "retention")
            self.assertGreater(found["trim"]["bytes"], 614000000)
            gate = self.gate(found, "pinned top")
            self.assertEqual((gate["key_blocks"], gate["key_bytes"]), (10000, 320000))
            target.go()
            found = self.trim(target)
            if self.has_fast_bins(found):
                self.assertEqual(found["verdict"], "retention")
                gate = self.gate(found, "fast bins")
                self.assertEqual((gate["key_blocks"], gate["key_bytes"]), (10000, 320000))
                self.assertGreater(gate["held_bytes"], 655000000)
                self.assertEqual(found["gates"][0]["gate"], "fast bins")
            else:
                self.assertEqual(found["verdict"], "live")

    def has_fast_bins(self, found):
        major, minor = map(int, found["reading"]["glibc"].split("."))
        return (major, minor) < (2, 43)

    def test_list_kept(self):
        with Target(TARGET, "list", 10000) as target:
            target.go()
            target.go()
            self.trim(target)
            found = support.findings(COMMAND, target.pid)
            # What is left are the pages that the nodes share.
            self.assertEqual(found["verdict"], "fragmentation")
            self.assertGreater(found["resident"]["shared_free_bytes"], 40000000)
            pinning = max(found["classes"], key=lambda c: c["pinned_bytes"])
            self.assertEqual((pinning["block_bytes"], pinning["live_blocks"]), (32, 10000))

    def test_list_cached(self):
        with Target(TARGET, "list", 2000) as target:
            for _ in range(3):
                target.go()
            found = self.trim(target)
            gate = self.gate(found, "pinned top")
            cached = sum(cache["blocks"] for cache in found["caches"])
            self.assertGreaterEqual(cached, 7)
            self.assertEqual((gate["key_blocks"], gate["cached_blocks"]), (cached, cached))

    def test_pin(self):
        with Target(TARGET, "pin", 65536, **NO_CACHE) as target:
            target.go()
            target.go()
            found = self.trim(target)
            self.assertEqual(found["verdict"], "retention")
            gate = self.gate(found, "pinned top")
            self.assertEqual((gate["key_blocks"], gate["key_bytes"]), (1, 32))
            self.assertGreater(gate["held_bytes"], 268000000)

    def test_blocks(self):
        for size in (100, 120, 121, 500, 1024, 10240):
            with self.subTest(size), Target(TARGET, "blocks", size, 64 << 20) as target:
                for step in ("start", "allocated", "freed", "cleared"):
                    self.assertEqual(target.step, step)
                    if step == "cleared":
                        self.trim(target)
                    else:
                        self.examine(target)
                        target.go()

    def test_sparse(self):
        with Target(TARGET, "sparse", 600000, 50) as target:
            target.go()
            self.assertEqual(self.trim(target)["verdict"], "fragmentation")


class Heaps(Case):
    """Where a heap may lie."""

    def test_threads(self):
        for threads in (1, 4, 16):
            with self.subTest(threads), Target(TARGET, "threads", threads, 40000) as target:
                found = self.examine(target)
                self.assertEqual(found["reading"]["threads"], threads + 1)
                self.assertGreater(len(found["arenas"]), 1)
                target.go()
                self.trim(target)

    def test_one_arena(self):
        with Target(TARGET, "threads", 4, 40000,
                    GLIBC_TUNABLES="glibc.malloc.arena_max=1") as target:
            self.assertEqual(len(self.trim(target)["arenas"]), 1)

    def test_huge_pages_advised(self):
        with Target(TARGET, "threads", 2, 40000,
                    GLIBC_TUNABLES="glibc.malloc.hugetlb=1") as target:
            self.examine(target)
            target.go()
            self.trim(target)
        with Target(TARGET, "pin", 4000, GLIBC_TUNABLES="glibc.malloc.hugetlb=1") as target:
            target.go()
            target.go()
            self.trim(target)

    def test_foreign_sbrk(self):
        for seed in range(1, 13):
            foreign = {}
            # Filled with what a chunk might begin with, a size and the flag that what
            # lies before it is in use, and without the flag.
            for like_a_chunk in (0, 0x21, 0x20):
                with self.subTest(seed=seed, like=like_a_chunk), \
                        Target(TARGET, "foreign", seed, like_a_chunk) as target:
                    # The break does not end with the top, which then stays.
                    found = self.trim(target)
                    foreign[like_a_chunk] = found["resident"]["heap"]["foreign"]
                    self.assertGreater(foreign[like_a_chunk], 0)
                    target.go()
                    self.trim(target)
            # Nothing of the allocator's begins after what is free.
            self.assertEqual(foreign[0x20], foreign[0])

    def test_blocked_break(self):
        for heap_first in (0, 1):
            for mappings_between in (0, 1):
                with self.subTest(heap_first=heap_first, between=mappings_between), \
                        Target(TARGET, "blocked", heap_first, mappings_between) as target:
                    self.examine(target)
                    target.go()
                    self.trim(target)

    def test_static(self):
        """Also one that lies wherever the kernel puts it."""
        for program in filter(None, STATIC_TARGETS):
            with self.subTest(program), Target(program, "list", 2000) as target:
                for _ in range(3):
                    target.go()
                self.trim(target)
            # Right behind the program, where addresses are as small as many a number.
            with self.subTest(program, low=True), \
                    Target("setarch", "--addr-no-randomize", program, "list", 2000) as target:
                target.go()
                self.examine(target)
            with self.subTest(program), Target(program, "threads", 3, 40000) as target:
                target.go()
                self.trim(target)
            with self.subTest(program), Target(program, "chance", 5) as target:
                target.go()
                self.trim(target)

    def test_settings(self):
        """Of the user, in each way that there is."""
        for settings in ({"MALLOC_ARENA_MAX": "2"}, {"MALLOC_PERTURB_": "165"}, NO_CACHE,
                         {"MALLOC_MMAP_THRESHOLD_": "4096"}, {"MALLOC_MMAP_MAX_": "0"},
                         {"MALLOC_TOP_PAD_": "0"}, {"MALLOC_TRIM_THRESHOLD_": "-1"},
                         {"GLIBC_TUNABLES": "glibc.malloc.mxfast=0"},
                         {"GLIBC_TUNABLES": "glibc.malloc.tcache_max=1032"},
                         {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=2"}, {"MALLOC_CHECK_": "3"}):
            for scenario in (("threads", 4, 40000), ("list", 500), ("chance", 7)):
                with self.subTest(settings=settings, scenario=scenario), \
                        Target(TARGET, *scenario, **settings) as target:
                    target.go()
                    if scenario[0] == "list":
                        target.go()
                    self.trim(target)

    def test_heap_that_checks_itself(self):
        """A second one, in a library of its own, beside libc's which stays as it began."""
        library = os.environ.get("DOCTOR_MALLOC_DEBUG",
                                 "/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
        if not os.path.exists(library):
            self.skipTest("this libc has it in itself, or not here")
        for settings in ({"MALLOC_CHECK_": "3"}, {"GLIBC_TUNABLES": "glibc.malloc.check=3"},
                         {"MALLOC_TRACE": "/dev/null"}, {}):
            for scenario in (("threads", 4, 40000), ("list", 500), ("chance", 7)):
                with self.subTest(settings=settings, scenario=scenario), \
                        Target(TARGET, *scenario, LD_PRELOAD=library, **settings) as target:
                    target.go()
                    if scenario[0] == "list":
                        target.go()
                    self.trim(target)

    def test_looks_like_a_mapped_block(self):
        """Smaller than one, and larger than all; alone, and with many."""
        for pages, others in ((2, 0), (20, 0), (5000, 0), (20, 7), (20, 1000)):
            with self.subTest((pages, others)), \
                    Target(TARGET, "impostor", pages, others) as target:
                self.examine(target)

    def test_aligned_mapped_blocks(self):
        with Target(TARGET, "aligned") as target:
            # Some it copies into the heap.
            self.assertGreater(self.examine(target)["mallinfo2"]["hblks"], 12)

    def test_first_thread_ended(self):
        with Target(TARGET, "orphan") as target:
            self.assertEqual(self.examine(target)["reading"]["threads"], 1)

    def test_longer_lists(self):
        tunables = "glibc.malloc.tcache_count=100:glibc.malloc.mxfast=160"
        with Target(TARGET, "chance", 3, GLIBC_TUNABLES=tunables) as target:
            self.examine(target)


class Chance(Case):
    def test_few_random_programs(self):
        self.check_seeds(range(20))

    def test_many_random_programs(self):
        self.check_seeds(range(20, 200))

    def check_seeds(self, seeds):
        for seed in seeds:
            with self.subTest(seed), Target(TARGET, "chance", seed) as target:
                self.examine(target)
                target.go()
                self.trim(target)


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
