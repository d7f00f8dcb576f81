"""cede doctor, snapshot and map on core files: the same as of the process that they were
taken of, as far as a core tells, and what is said of files that are none.

    test_cores.py COMMAND TARGET [CASE ...]

The cores are real: gdb's gcore writes them, and the kernel where it puts them into files.
"""

import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

import support
from support import FIELDS, PAGE, Target

COMMAND = TARGET = None
STATIC_TARGET = os.environ.get("DOCTOR_STATIC_TARGET")
LEAKER = os.environ.get("DOCTOR_LEAKER")
HOSTILE = os.environ.get("DOCTOR_HOSTILE")
CEDE = os.environ.get("DOCTOR_LIBCEDE", "")
LIBRARIES = "/usr/lib/x86_64-linux-gnu/"
NO_CACHE = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}

LOAD, NOTE = 1, 4
NT_FILE = 0x46494c45


def kernel_refusal():
    """Why the kernel puts no core into a process's folder, or None."""
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read().strip()
    if not pattern or pattern[0] == "|" or "/" in pattern:
        return f"the kernel's cores go elsewhere (core_pattern is '{pattern}')"
    if resource.getrlimit(resource.RLIMIT_CORE)[1] not in (-1, resource.RLIM_INFINITY):
        return "the size of cores is limited here (ulimit -H -c)"
    return None


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def target(self, *arguments, program=None, **settings):
        """Whose core the kernel would put into this folder."""
        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
            os.chdir(self.folder)
        return Target(program or TARGET, *arguments,
                      prepare=None if kernel_refusal() else prepare, **settings)

    def gcore(self, pid):
        if not shutil.which("gcore"):
            self.skipTest("no gcore here (Debian's package gdb)")
        result = subprocess.run(["gcore", "-o", self.path("gcore"), str(pid)],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True)
        path = self.path(f"gcore.{pid}")
        self.assertTrue(os.path.exists(path), result)
        return path

    def killed(self, target):
        """The kernel's core of a target, which this ends."""
        before = {name for name in os.listdir(self.folder) if not name.startswith("core")}
        for name in set(os.listdir(self.folder)) - before:
            os.unlink(self.path(name))
        os.kill(target.pid, signal.SIGSEGV)
        target.process.wait()
        (name,) = set(os.listdir(self.folder)) - before
        return self.path(name)

    def doctor(self, *arguments):
        return support.run(COMMAND, *arguments)

    def findings(self, core, *options):
        """Without what the process's number would be."""
        return support.findings(COMMAND, core, *options, "--core")

    def assert_says(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)


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
        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
            os.chdir(self.folder)
        for program in (TARGET, STATIC_TARGET):
            for steps in (2, 3):
                with self.subTest((program, steps)), \
                        Target("/usr/bin/setarch", "-R", program, "list", 500, prepare=prepare,
                               **NO_CACHE) as target:
                    for _ in range(steps):
                        target.go()
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


class Files(Case):
    """The programs and libraries that a core names, which may be elsewhere or others."""

    def core_of(self, program, **settings):
        with self.target("list", 500, program=program, **settings) as target:
            target.go()
            return self.gcore(target.pid), target.info

    def test_program_moved(self):
        program, moved = self.path("program"), self.path("moved")
        shutil.copy(STATIC_TARGET, program)
        core, info = self.core_of(program)
        os.rename(program, moved)
        found = self.findings(core)
        self.assertEqual(found["core"]["files_missing"], [program])
        # Its heap is known by its shape.
        self.assertEqual(found["reading"]["glibc"], "")
        self.assertEqual({name: found["mallinfo2"][name] for name in FIELDS}, info)
        self.assertIn(f"Not here, so not looked into (--sysroot, --exe): {program}.\n",
                      self.doctor("--core", core).stdout)
        found = self.findings(core, "--exe", moved)
        self.assertEqual(found["core"]["files_missing"], [])
        self.assert_says(self.doctor("--core", core, "--exe", TARGET), 1,
                         "doctor-target is not the program that it is of", program)
        self.assert_says(self.doctor("--core", core, "--exe", self.path("nothing")), 1,
                         "is no file that can be read")

    def test_program_replaced(self):
        program = self.path("program")
        shutil.copy(STATIC_TARGET, program)
        core, _ = self.core_of(program)
        shutil.copy(TARGET, program)
        self.assertEqual(self.findings(core)["core"]["files_changed"], [program])
        self.assertIn(f"Not what it was, so not looked into: {program}.\n",
                      self.doctor("--core", core).stdout)
        # What has its name now may be anything.
        os.unlink(program)
        os.mkfifo(program)
        self.assertEqual(self.findings(core)["core"]["files_missing"], [program])

    def test_root(self):
        core, info = self.core_of(TARGET)
        found = self.findings(core, "--sysroot", self.folder)
        self.assertGreaterEqual(len(found["core"]["files_missing"]), 3)
        self.assertEqual({name: found["mallinfo2"][name] for name in FIELDS}, info)
        library = next(path for path in found["core"]["files_missing"] if "libc.so" in path)
        os.makedirs(self.folder + os.path.dirname(library))
        shutil.copy(library, self.folder + library)
        found = self.findings(core, "--sysroot", self.folder)
        self.assertNotIn(library, found["core"]["files_missing"])
        self.assertRegex(found["reading"]["glibc"], r"^2\.\d+$")

    def test_deleted(self):
        program = self.path("program")
        shutil.copy(TARGET, program)
        with self.target("list", 500, program=program) as target:
            os.unlink(program)
            found = self.findings(self.gcore(target.pid))
        self.assertEqual(found["core"]["files_missing"], [program])
        self.assertEqual({name: found["mallinfo2"][name] for name in FIELDS}, target.info)


class Wrong(Case):
    """What is no core, or not whole."""

    @classmethod
    def setUpClass(cls):
        case = cls()
        case.setUp()
        cls.addClassCleanup(case.doCleanups)
        with case.target("list", 20, program=STATIC_TARGET) as target:
            with open(case.gcore(target.pid), "rb") as file:
                cls.core = file.read()

    def runTest(self):
        pass

    def write(self, content):
        path = self.path("core")
        with open(path, "wb") as file:
            file.write(content)
        return path

    def check(self, content, *words):
        for command in ("doctor", "snapshot", "map"):
            arguments = {"doctor": [], "snapshot": ["-o", self.path("out.snap")],
                         "map": ["-o", self.path("out.svg")]}[command]
            result = subprocess.run([COMMAND, command, "--core", self.write(content), *arguments],
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                    timeout=120)
            self.assert_says(result, 1, *words)

    def test_reserved(self):
        """4 TiB that are not there, and a mapped block more to be found somewhere."""
        with self.target("blocks", 200000, 2 << 20, program=STATIC_TARGET) as target:
            target.go()
            blocks = target.info["hblks"]
            with open(self.gcore(target.pid), "rb") as file:
                self.core = file.read()
        vsyscall, = (s[0] for s in self.segments(LOAD) if s[2] >> 63)
        content = bytearray(self.changed(vsyscall + 4, "IQQ8xQQ", 6, 0, 1 << 52, 0, 1 << 42))
        counts = struct.pack("<III", blocks, 65536, blocks)
        self.assertEqual(content.count(counts), 1)
        struct.pack_into("<III", content, content.find(counts), blocks + 1, 65536, blocks + 1)

        def prepare():
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        result = subprocess.run([COMMAND, "doctor", "--core", self.write(content)],
                                capture_output=True, text=True, preexec_fn=prepare)
        self.assert_says(result, 1, f"malloc has {blocks + 1} mapped blocks",
                         f"of which {blocks} of")

    def segments(self, kind):
        """(where its header is, offset, address, bytes in the file) of each."""
        offset, = struct.unpack_from("<Q", self.core, 32)
        count, = struct.unpack_from("<H", self.core, 56)
        for at in range(offset, offset + 56 * count, 56):
            type_, = struct.unpack_from("<I", self.core, at)
            if type_ == kind:
                yield at, *struct.unpack_from("<QQ8xQ", self.core, at + 8)

    def changed(self, at, form, *values):
        content = bytearray(self.core)
        struct.pack_into("<" + form, content, at, *values)
        return bytes(content)

    def notes(self, kind):
        for _, offset, _, size in self.segments(NOTE):
            at = offset
            while at < offset + size:
                owner, length, type_ = struct.unpack_from("<III", self.core, at)
                if type_ == kind:
                    yield at
                at += 12 + (owner + 3 & ~3) + (length + 3 & ~3)

    def test_whole(self):
        self.assertEqual(self.doctor("--core", self.write(self.core)).returncode, 0)

    def test_no_core(self):
        self.check(b"", "it is empty", "ulimit -c")
        self.check(b"something else\n" * 1000, "it is no core", "unpacked first")
        self.check(b"\x7fELF", "it")
        with open(TARGET, "rb") as file:
            self.check(file.read(), "it is no core but a program or a library")
        self.assert_says(self.doctor("--core", self.folder), 1, "is a folder, not a core")
        self.assert_says(self.doctor("--core", self.path("none")), 1, "No such file")
        os.mkfifo(self.path("pipe"))
        self.assert_says(self.doctor("--core", self.path("pipe")), 1, "it is no regular file")

    def test_other_machines(self):
        self.check(self.changed(18, "H", 183), "for another machine than x86-64", "183")
        self.check(self.changed(4, "B", 1), "32-bit program")
        self.check(self.changed(18, "H", 3), "32-bit program")

    def test_cut_off(self):
        # Beyond lie sections, which say nothing.
        size = max(offset + size for kind in (LOAD, NOTE)
                   for _, offset, _, size in self.segments(kind))
        self.assertEqual(self.doctor("--core", self.write(self.core[:size])).returncode, 0)
        for kept in (size - 1, size // 2, 5000):
            self.check(self.core[:kept], "it is cut off: of 0.", "ulimit -c")
        for kept in (100, 64):
            self.check(self.core[:kept], "cut off")

    def test_notes_missing(self):
        for at in self.notes(NT_FILE):
            self.check(self.changed(at + 8, "I", 77), "no table of mapped files (NT_FILE)")
        at, = self.notes(1)
        self.check(self.changed(at + 8, "I", 77), "it has no threads")

    def test_damaged(self):
        at, *_ = next(self.segments(LOAD))
        second = at + 56
        address, = struct.unpack_from("<Q", self.core, at + 16)
        self.check(self.changed(second + 16, "Q", address), "its segments overlap")
        self.check(self.changed(at + 16, "Q", address + 1), "a segment that cannot be")
        largest = max(self.segments(LOAD), key=lambda s: s[3])[0]
        offset, size = struct.unpack_from("<Q16xQ", self.core, largest + 8)
        # The same bytes at one address after the other.
        content = bytearray(self.core)
        for i, (at, *_) in enumerate(self.segments(LOAD), 1):
            struct.pack_into("<QQ8xQQ", content, at + 8, offset, i << 40, size, size)
        self.check(bytes(content), "its segments overlap")
        at, = self.notes(NT_FILE)
        count, = struct.unpack_from("<Q", self.core, at + 20)
        for count in (1 << 60, 1 << 20, 500, *range(count + 1, count + 8)):
            self.check(self.changed(at + 20, "Q", count), "its table of mapped files")

    def test_usage(self):
        path = self.write(self.core)
        for arguments in (["--core", path, "1"], ["--exe", TARGET, "1"], ["--sysroot", "/", "1"],
                          ["--core", path, "--file", path], ["--core", path, "--watch", "1"],
                          ["--core"], ["--core", path, "--compare", path, path]):
            with self.subTest(arguments):
                self.assert_says(self.doctor(*arguments), 2, "doctor")
        for command in ("snapshot", "map"):
            result = subprocess.run([COMMAND, command, "--core", path], capture_output=True,
                                    text=True)
            self.assert_says(result, 2, command, "where to?")

    def test_names_are_text(self):
        """What others wrote must not steer a terminal."""
        content = self.core.replace(os.path.basename(STATIC_TARGET).encode(),
                                    b"\x1b[2J" + b"e" * (len(os.path.basename(STATIC_TARGET)) - 4))
        content = content.replace(b"doctor-target-st", b"\x1b[2Jaaaaaaaaaaaa")
        result = self.doctor("--core", self.write(content))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("\x1b", result.stdout)
        self.assertTrue(result.stdout.startswith("?[2Jaaaaaaaaaaa"), result.stdout[:30])


class Broken(Case):
    """Corrupted heaps get no verdict."""

    def core_of(self, kind, *numbers):
        with Target(TARGET, "broken", kind, *numbers) as target:
            self.assertEqual(target.line(), ["broken"])
            return self.gcore(target.pid)

    def test_told(self):
        for kind, words in ((0, ["no block can be at"]), (2, ["bin", "leads to"]), (4, ["cache"]),
                            (7, ["fast bin"]), (17, ["a list without an end"])):
            with self.subTest(kind):
                self.assert_says(self.doctor("--core", self.core_of(kind)), 1,
                                 "is corrupted, or was being changed", "no verdict", *words)

    def test_locked(self):
        """The lock alone is no corruption: no one will take it away."""
        found = self.findings(self.core_of(16))
        self.assertEqual(found["core"]["locked_arenas"], 1)
        self.assertTrue(found["reading"]["audit_passed"])


class Filters(Case):
    """Processes that keep part of their memory out of cores."""

    def test_nothing_private(self):
        with self.target("list", 500) as target:
            target.go()
            with open(f"/proc/{target.pid}/coredump_filter", "w") as file:
                file.write("0")
            core = self.gcore(target.pid)
        result = self.doctor("--core", core)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertRegex(result.stderr, r"coredump_filter")


class Hostile(Case):
    """Real cores changed in thousands of ways (test_core_hostile.c)."""

    def check(self, core, seeds):
        result = subprocess.run([HOSTILE, core, "0", str(seeds)], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, (result.stdout, result.stderr))
        self.assertEqual(result.stderr, "")

    def test_small(self):
        with self.target("list", 3, program=STATIC_TARGET) as target:
            target.go()
            self.check(self.gcore(target.pid), 3000)

    @unittest.skipIf(kernel_refusal(), kernel_refusal())
    def test_of_threads(self):
        """With libraries, more than one arena, and holes."""
        with self.target("threads", 2, 600) as target:
            target.go()
            self.check(self.killed(target), 1000)


def main():
    global COMMAND, TARGET
    COMMAND, TARGET = (os.path.abspath(path) for path in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)


if __name__ == "__main__":
    main()
