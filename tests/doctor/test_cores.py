"""cede doctor, snapshot and map on core files: the same as of the process that they were
taken of, as far as a core tells.

    test_cores.py COMMAND TARGET [CASE ...]
"""

import json
import os
import resource
import signal
import subprocess
import sys
import unittest

import support
from cores import COMMAND, STATIC_TARGET, TARGET, Case, kernel_refusal
from support import FIELDS, LIBRARIES, NO_CACHE

LEAKER = os.environ.get("DOCTOR_LEAKER")
CEDE = os.environ.get("DOCTOR_LIBCEDE", "")


class Agreement(Case):
    """A core against the live process that it was taken of."""

    def check(self, live, found, target):
        self.assertEqual({name: found["mallinfo2"][name] for name in FIELDS}, target.info)
        self.assertEqual((found["source"], live["source"]), ("core", "process"))
        self.assertTrue(found["reading"]["audit_passed"])
        self.assertEqual(found["reading"]["glibc"], live["reading"]["glibc"])
        self.assertEqual(found["reading"]["threads"], live["reading"]["threads"])
        for same in ("pid", "name", "settings", "arenas"):
            self.assertEqual(found[same], live[same])
        self.assertCountEqual(found["caches"], live["caches"])
        blocks = ("block_bytes", "live_blocks", "live_bytes")
        self.assertEqual([[c[b] for b in blocks] for c in found["classes"]],
                         [[c[b] for b in blocks] for c in live["classes"]])
        # What differs is what no core tells, and how much that is, it says.
        zeros = found["core"]["zero_bytes"]
        if found["core"]["pages_told"]:
            self.assertEqual(zeros, 0)
        for state, bytes_ in live["resident"]["heap"].items():
            self.assertIn(bytes_ - found["resident"]["heap"][state], range(zeros + 1), state)
        self.assertIn(live["trim"]["bytes"] - found["trim"]["bytes"], range(zeros + 1))

    def examine(self, target, *options):
        """By gdb's and the kernel's core; the latter ends the target."""
        live = support.findings(COMMAND, target.pid, *options)
        with self.subTest("gcore"):
            found = self.findings(self.gcore(target.pid), *options)
            self.check(live, found, target)
            self.assertEqual(found["core"]["signal"], 0)
            self.assertFalse(found["core"]["pages_told"])
            if not found["core"]["zero_bytes"]:
                self.assertEqual(found["verdict"], live["verdict"])
        if not kernel_refusal():
            with self.subTest("kernel"):
                found = self.findings(self.killed(target), *options)
                self.check(live, found, target)
                self.assertEqual(found["core"]["signal"], signal.SIGSEGV)
                self.assertTrue(found["core"]["pages_told"])
                self.assertEqual(found["verdict"], live["verdict"])
        return live, found

    def at(self, steps, *arguments, **settings):
        target = self.target(*arguments, **settings)
        for _ in range(steps):
            target.go()
        return target

    def test_list(self):
        for steps in range(4):
            with self.subTest(steps), self.at(steps, "list", 1000, **NO_CACHE) as target:
                self.examine(target)

    def test_given_back(self):
        """Pages that went back are holes in the kernel's core, zeros in gdb's."""
        with self.at(2, "list", 1000) as target:
            target.trim()
            target.send(b"i")
            target.read_step()
            live, found = self.examine(target)
            self.assertEqual(live["verdict"], found["verdict"])
            self.assertLess(found["resident"]["heap_bytes"], 16 << 20)

    def test_sizes(self):
        for size in (100, 1024, 10240, 200000):
            with self.subTest(size), self.at(2, "blocks", size, 16 << 20) as target:
                self.examine(target)

    def test_threads(self):
        for threads in (1, 4, 16):
            with self.subTest(threads), self.at(1, "threads", threads, 40000) as target:
                self.examine(target)

    def test_odd_heaps(self):
        for arguments in (("foreign", 3, 0), ("blocked", 0, 1), ("blocked", 1, 0)):
            with self.subTest(arguments), self.at(0, *arguments) as target:
                self.examine(target)

    def test_static(self):
        with self.at(1, "threads", 3, 40000, program=STATIC_TARGET) as target:
            self.examine(target)

    def test_huge_pages(self):
        with self.at(1, "threads", 2, 40000, GLIBC_TUNABLES="glibc.malloc.hugetlb=1") as target:
            self.examine(target)

    def test_fixed_addresses(self):
        """Where chance is forbidden, the break begins where the program's data ends."""
        for program in (TARGET, STATIC_TARGET):
            for steps in (2, 3):
                with self.subTest((program, steps)), \
                        self.at(steps, "-R", program, "list", 500, program="/usr/bin/setarch",
                                **NO_CACHE) as target:
                    live, _ = self.examine(target)
                    self.assertEqual(live["trim"]["top_bytes"] > 0, steps == 3)

    def test_by_chance(self):
        for seed in range(12):
            with self.subTest(seed), self.at(seed % 2, "chance", seed) as target:
                self.examine(target)

    def test_leaks(self):
        for arguments in (("planted", 2000, 7), ("threads", 4), ("groups", 1000), ("dead",),
                          ("places",)):
            with self.subTest(arguments), self.target(*arguments, program=LEAKER) as target:
                live = support.findings(COMMAND, target.pid, "--leaks")
                self.assertEqual(live["leaks"]["definite"]["blocks"],
                                 target.info.get("blocks", 0))
                found = self.findings(self.gcore(target.pid), "--leaks")
                self.assertEqual(found["leaks"], live["leaks"])
                if not kernel_refusal():
                    found = self.findings(self.killed(target), "--leaks")
                    self.assertEqual(found["leaks"], live["leaks"])


class Reports(Case):
    @unittest.skipIf(kernel_refusal(), kernel_refusal())
    def test_text(self):
        with self.target("list", 1000) as target:
            target.go()
            target.go()
            core = self.killed(target)
        result = self.doctor("--core", core)
        self.assertEqual((result.returncode, result.stderr), (11, ""))
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0], f"doctor-target ({target.pid}): retention")
        self.assertLessEqual(len(lines), 40)
        self.assertLessEqual(max(map(len, lines)), 120)
        self.assertIn("read from a core of 1 thread,", result.stdout)
        self.assertRegex(result.stdout,
                         r"ended by signal 11 \(Segmentation fault\) in libc.*, thread %d\.\n"
                         % target.pid)
        self.assertIn("Holes in the file count as pages that were not resident", result.stdout)
        self.assertNotIn("Pages of zeros", result.stdout)
        self.assertNotIn("stopped", result.stdout)

    @unittest.skipIf(kernel_refusal(), kernel_refusal())
    def test_piped(self):
        """A core of the kernel's whose holes were filled, as a pipe does."""
        with self.target("list", 1000) as target:
            target.go()
            target.go()
            target.trim()
            core, filled = self.killed(target), self.path("filled")
        subprocess.run(["cp", "--sparse=never", core, filled], check=True)
        found, direct = self.findings(filled), self.findings(core)
        self.assertFalse(found["core"]["pages_told"])
        self.assertGreater(found["core"]["zero_bytes"], 50 << 20)
        for same in ("mallinfo2", "trim", "verdict"):
            self.assertEqual(found[same], direct[same])
        self.assertEqual(found["resident"]["heap"], direct["resident"]["heap"])

    def test_zeros(self):
        with self.target("list", 1000) as target:
            target.go()
            target.go()
            target.trim()
            core = self.gcore(target.pid)
        zeros = self.findings(core)["core"]["zero_bytes"]
        self.assertGreater(zeros, 50 << 20)
        self.assertIn(f"as this core does not tell: {zeros / 1e6:.1f} MB of the heap",
                      self.doctor("--core", core).stdout)
        # Holes in it are not the kernel's.
        sparse = self.path("sparse")
        subprocess.run(["cp", "--sparse=always", core, sparse], check=True)
        found = self.findings(sparse)
        self.assertFalse(found["core"]["pages_told"])
        self.assertEqual(found["resident"]["heap"], self.findings(core)["resident"]["heap"])

    @unittest.skipIf(kernel_refusal(), kernel_refusal())
    def test_locked(self):
        """A program that freed a block twice ended inside free, which holds the lock."""
        script = ("import ctypes, threading, time\n"
                  "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
                  "libc = ctypes.PyDLL(None)\n"
                  "libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]\n"
                  "blocks = [libc.malloc(3000) for i in range(4)]\n"
                  "libc.free(blocks[1])\nlibc.free(blocks[1])\n")

        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
        result = subprocess.run(["/usr/bin/python3", "-c", script], cwd=self.folder,
                                env=support.environment(), preexec_fn=prepare,
                                capture_output=True, text=True)
        self.assertEqual(result.returncode, -signal.SIGABRT, result.stderr)
        (core,) = os.listdir(self.folder)
        found = self.findings(self.path(core))
        self.assertEqual((found["core"]["locked_arenas"], found["core"]["signal"]), (1, 6))
        self.assertTrue(found["reading"]["audit_passed"])
        self.assertIn("1 arena is locked", self.doctor("--core", self.path(core)).stdout)

    def test_snapshot_and_map(self):
        with self.target("list", 1000) as target:
            target.go()
            before = self.path("before.snap")
            subprocess.run([COMMAND, "snapshot", str(target.pid), "-o", before], check=True)
            target.go()
            core = self.gcore(target.pid)
        after, picture = self.path("after.snap"), self.path("heap.html")
        subprocess.run([COMMAND, "snapshot", "--contents", "--core", core, "-o", after],
                       check=True)
        direct, loaded = self.findings(core), support.findings(COMMAND, after, "--file")
        for found in (direct, loaded):
            # A snapshot has no files and no signal.
            found["core"] = found["core"]["zero_bytes"]
        self.assertEqual(direct, loaded)
        # A live process's snapshot, and then its core: 1000 blocks went.
        compared = self.doctor("--json", "--compare", before, after)
        self.assertEqual(compared.returncode, 11, compared.stderr)
        self.assertEqual(json.loads(compared.stdout)["live"]["gone"]["blocks"], 1000)
        subprocess.run([COMMAND, "map", "--core", core, "-o", picture], check=True)
        with open(picture) as file:
            self.assertIn("doctor-target", file.read())

    def test_of_another_process(self):
        paths = []
        for name in "one", "two":
            with self.target("list", 10) as target:
                target.go()
                paths.append(self.path(name))
                subprocess.run([COMMAND, "snapshot", "--core", self.gcore(target.pid), "-o",
                                paths[-1]], check=True)
        self.assert_says(self.doctor("--compare", *paths), 1, "of different processes")

    def test_other_allocators(self):
        libraries = [("jemalloc", LIBRARIES + "libjemalloc.so.2"),
                     ("tcmalloc", LIBRARIES + "libtcmalloc_minimal.so.4"),
                     ("mimalloc", LIBRARIES + "libmimalloc.so.2.0")]
        for name, library in libraries:
            if not os.path.exists(library):
                continue
            with self.subTest(name), self.target("list", 1000, LD_PRELOAD=library) as target:
                target.go()
                core = self.gcore(target.pid)
                found = self.findings(core)
                self.assertEqual(found["verdict"], "not glibc")
                self.assertEqual(found["reading"]["allocator"], name)
                self.assertGreater(found["resident"]["other_bytes"], 60 << 20)
                result = subprocess.run([COMMAND, "map", "--core", core, "-o",
                                         self.path("heap.svg")], capture_output=True, text=True)
                self.assert_says(result, 1, f"no heap of glibc's malloc, or cede's, to draw: it runs on "
                                 f"{name}")

    @unittest.skipUnless(os.path.exists(CEDE), "no cede here")
    def test_cede(self):
        """A heap of cede's is read, too."""
        with self.target("list", 1000, LD_PRELOAD=CEDE) as target:
            target.go()
            found = self.findings(self.gcore(target.pid))
        self.assertEqual(found["verdict"], "live")
        self.assertEqual(found["reading"]["allocator"], "cede")
        self.assertGreater(found["resident"]["heap"]["live"], 60 << 20)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[2:], verbosity=2)
