"""cede doctor on processes that run on cede, against what they know of themselves: totals
equal to their own mallinfo2, predictions to what malloc_trim then gives back.

    test_cede.py COMMAND TARGET [CASE ...]

DOCTOR_ON_CEDE is the library that the targets are started with.
"""

import os
import signal
import subprocess
import sys
import time
import unittest

import support
import test_doctor
import test_programs
from support import PAGE, Target

COMMAND = TARGET = None
STATIC_TARGET = os.environ.get("DOCTOR_STATIC_TARGET")
POLICIES = ("policy=default", "policy=default,background=off", "policy=classic")
# Of the library's own variables: what holds a claim is touched by the first one.
OWN_PAGES = 5


class Case(test_doctor.Case):
    def settle(self, target):
        """Until its thread, if it has one, sleeps: what goes back by itself is gone then."""
        before, deadline = None, time.monotonic() + 60
        while (now := support.stats(COMMAND, target.pid)["stats"]) != before \
                or now["purger"] == "awake":
            self.assertLess(time.monotonic(), deadline, "the heap does not rest")
            before = now
        target.send(b"i")
        target.read_step()

    def look(self, target):
        self.settle(target)
        found = self.examine(target)
        self.assertRegex(found["reading"]["cede"], r"^\d+\.\d+\.\d+$")
        return found

    def assert_resident(self, resident):
        heap = resident["heap"]
        self.assertEqual(sum(heap.values()), resident["heap_bytes"])
        self.assertEqual(sum(resident[name] for name in
                             ("heap_bytes", "file_bytes", "stack_bytes", "other_bytes")),
                         resident["process_bytes"])
        self.assertEqual(sum(heap[name] for name in ("cached", "fast", "bin", "top", "slab")),
                         resident["whole_free_bytes"] + resident["shared_free_bytes"])

    def trim(self, target):
        """Of the heap just what was predicted goes; of the process, but for cede's own."""
        found = self.look(target)
        before = target.rollup("Anonymous")
        target.trim()
        given = before - target.rollup("Anonymous")
        slack = (len(found["arenas"]) + OWN_PAGES) * PAGE
        self.assertLessEqual(abs(found["trim"]["bytes"] - given), slack,
                             f"predicted {found['trim']['bytes']}, gave back {given}")
        target.send(b"i")
        target.read_step()
        after = self.examine(target)
        given = found["resident"]["heap_bytes"] - after["resident"]["heap_bytes"]
        self.assertLessEqual(abs(given - found["trim"]["bytes"]), len(found["arenas"]) * PAGE)
        self.assertEqual(after["trim"]["bytes"], 0)
        return found

    def of_each(self, policies, steps, *arguments, **settings):
        """The findings of a scenario's last step, by policy."""
        for policy in policies:
            with self.subTest(policy=policy, arguments=arguments), \
                    Target(TARGET, *arguments, CEDE_OPTIONS=policy, **settings) as target:
                for _ in range(steps):
                    self.look(target)
                    target.go()
                yield policy, self.trim(target)


class Heaps(Case):
    """The same programs as on glibc."""

    def test_articles(self):
        for policy, found in self.of_each(POLICIES, 3, "list", 2000):
            if policy == "policy=classic":
                self.assertEqual(found["verdict"], "retention")
                self.assertEqual(found["gates"][0]["gate"], "fast bins")
                self.assertEqual(found["settings"]["gives_back"], "end")
            else:
                self.assertEqual(found["verdict"], "live")
        for size in (100, 1024, 10240):
            for policy, found in self.of_each(POLICIES, 3, "blocks", size, 64 << 20):
                if policy == "policy=default":
                    self.assertLess(found["resident"]["heap_bytes"], 4 << 20)
        # Blocks whose bits lie apart, so that they go apart.
        for _ in self.of_each(("policy=default,background=off",), 3, "blocks", 24, 16 << 20):
            pass
        for _, found in self.of_each(POLICIES, 2, "pin", 4000):
            self.assertLess(found["resident"]["shared_free_bytes"], 1 << 20)

    def test_threads(self):
        for threads in (1, 4, 16):
            for _ in self.of_each(POLICIES, 1, "threads", threads, 40000):
                pass

    def test_foreign_sbrk(self):
        for seed in range(1, 7):
            for policy, found in self.of_each(POLICIES, 1, "foreign", seed, 0):
                if policy == "policy=classic":
                    self.assertGreater(found["resident"]["heap"]["foreign"], 0)

    def test_blocked_break(self):
        for heap_first in (0, 1):
            for mappings_between in (0, 1):
                for _ in self.of_each(POLICIES, 1, "blocked", heap_first, mappings_between):
                    pass

    def test_aligned_mapped_blocks(self):
        for _, found in self.of_each(POLICIES, 0, "aligned"):
            self.assertEqual(found["mallinfo2"]["hblks"], 24)

    def test_large_blocks(self):
        """What mapped blocks leave is free, until it goes."""
        with Target(TARGET, "large", CEDE_OPTIONS="policy=default") as target:
            found = support.findings(COMMAND, target.pid)
            self.assertEqual(found["mallinfo2"]["hblks"], 2)
            target.go()
            found = support.findings(COMMAND, target.pid)
            self.assertEqual(found["mallinfo2"]["hblks"], 1)
            # With a page for its header.
            self.assertEqual(found["resident"]["heap"]["bin"], (64 << 20) + PAGE)
            self.assertEqual((found["verdict"], found["settings"]["gives_back"]),
                             ("retention", "soon"))
            target.go()
            self.assertEqual(self.trim(target)["mallinfo2"]["hblks"], 1)

    def test_first_thread_ended(self):
        for policy in POLICIES:
            with Target(TARGET, "orphan", CEDE_OPTIONS=policy) as target:
                self.look(target)

    def test_inside_the_program(self):
        """A static program, without the symbols that would tell of cede, too."""
        stripped = STATIC_TARGET + ".stripped"
        subprocess.run(["strip", "-o", stripped, STATIC_TARGET], check=True)
        for program in (STATIC_TARGET, stripped):
            with Target(program, "sparse", 100000, 50, LD_PRELOAD=support.LIBC) as target:
                target.go()
                self.assertEqual(self.trim(target)["reading"]["allocator"], "cede")


class Chance(Case):
    def test_few_random_programs(self):
        self.check_seeds(range(12))

    def test_many_random_programs(self):
        self.check_seeds(range(12, 100))

    def check_seeds(self, seeds):
        for seed in seeds:
            for _ in self.of_each((POLICIES[seed % 3],), 1, "chance", seed):
                pass


class Verdicts(Case):
    def test_pinned(self):
        for _, found in self.of_each(POLICIES, 1, "sparse", 600000, 50):
            self.assertEqual(found["verdict"], "fragmentation")
            pinning = max(found["classes"], key=lambda c: c["pinned_bytes"])
            self.assertEqual(pinning["live_blocks"], 12000)

    def test_waiting(self):
        """Without a thread it stays, and the doctor says why and what helps."""
        # Two blocks, of which the first is freed.
        with Target(TARGET, "shape", 38, 20000000, 20000000, 1, 0, 0,
                    GLIBC_TUNABLES="glibc.malloc.mmap_threshold=33554432",
                    CEDE_OPTIONS="policy=default,background=off") as target:
            found = self.look(target)
            self.assertEqual((found["verdict"], found["settings"]["gives_back"]),
                             ("retention", "on call"))
            self.assertEqual(found["gates"][0]["gate"], "waiting")
            self.assertEqual(found["gates"][0]["held_bytes"],
                             found["resident"]["whole_free_bytes"])
            text = support.run(COMMAND, target.pid).stdout
            self.assertRegex(text, r"CEDE_OPTIONS=background=on +gives back by itself")
            self.assertNotIn("cede run", text)
            self.assertNotIn("GLIBC_TUNABLES", text)
            self.assertRegex(text, r"malloc_trim\(0\); +gives back now: [0-9.]+ MB "
                             fr"\({found['trim']['bytes']}\)")
            self.assertRegex(text, r"cede \d+\.\d+\.\d+, every block and every list")

    def test_caches(self):
        """What threads cache is told; a trim takes it, too."""
        with Target(TARGET, "cached", 4, CEDE_OPTIONS="policy=default") as target:
            found = support.findings(COMMAND, target.pid)
            stats = support.stats(COMMAND, target.pid)["stats"]
            self.assertEqual(len(found["caches"]), stats["caching_threads"])
            self.assertEqual(sum(cache["blocks"] >= 100 for cache in found["caches"]), 4)
            self.assertEqual(sum(cache["bytes"] for cache in found["caches"]),
                             stats["cached_bytes"])
            self.assertEqual(found["mallinfo2"]["fordblks"], stats["free_bytes"])
            self.assertEqual(found["mallinfo2"]["arena"] + found["mallinfo2"]["hblkhd"],
                             stats["system_bytes"])
            for cache in found["caches"]:
                self.assertTrue(os.path.exists(f"/proc/{target.pid}/task/{cache['thread']}"))
            before = target.rollup("Anonymous")
            target.trim()
            given = before - target.rollup("Anonymous")
            self.assertGreater(found["trim"]["bytes"], 4 * 90 * 1000)
            # The caches' arrays go, too.
            self.assertIn(given - found["trim"]["bytes"], range(-OWN_PAGES * PAGE, 64 * PAGE))

    def test_other_memory(self):
        with Target(TARGET, "elsewhere", 100, CEDE_OPTIONS="policy=default") as target:
            found = support.findings(COMMAND, target.pid)
            self.assertEqual(found["verdict"], "not glibc")
            self.assertIn("are cede's heap", support.run(COMMAND, target.pid).stdout)


class Others(test_programs.Programs):
    """Programs that are not ours, on cede."""

    def examine(self):
        found = super().examine()
        self.assertTrue(found["reading"]["cede"])
        return found

    def check_trim(self):
        self.rest()
        found = self.examine()
        before = support.rollup(self.process.pid, "Anonymous")
        self.ask(signal.SIGUSR2)
        given = before - support.rollup(self.process.pid, "Anonymous")
        self.assertLessEqual(abs(found["trim"]["bytes"] - given),
                             (len(found["arenas"]) + OWN_PAGES) * PAGE)
        return found

    test_redis_on_libc = test_redis_as_it_comes = None

    def test_redis(self):
        self.redis([])
        self.fill()
        found = self.check_trim()
        self.assertGreater(found["resident"]["heap_bytes"], 10 << 20)
        for begin in range(0, 40000, 1000):
            self.send("DEL " + " ".join(f"key{i}" for i in range(begin, begin + 999)))
        self.assertLess(self.check_trim()["resident"]["heap_bytes"],
                        found["resident"]["heap_bytes"])


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    test_doctor.COMMAND = test_programs.COMMAND = COMMAND
    unittest.main(argv=sys.argv[2:], verbosity=2)
