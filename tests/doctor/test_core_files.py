"""What is said of core files that are none, or not whole, or hostile, and of the files that
a core names, which may be elsewhere or others by now.

    test_core_files.py COMMAND TARGET [CASE ...]
"""

import os
import resource
import shutil
import struct
import subprocess
import sys
import unittest

from cores import COMMAND, STATIC_TARGET, TARGET, Case, kernel_refusal
from support import FIELDS, Target

HOSTILE = os.environ.get("DOCTOR_HOSTILE")

LOAD, NOTE = 1, 4
NT_FILE = 0x46494c45


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


if __name__ == "__main__":
    unittest.main(argv=sys.argv[2:], verbosity=2)
