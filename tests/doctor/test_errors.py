"""What cede doctor says of processes it cannot judge: errors, other allocators,
corrupted heaps.

    test_errors.py COMMAND TARGET [CASE ...]
"""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import unittest

import support
from support import LIBRARIES, NOBODY, Case, Target

COMMAND = TARGET = None
PTRACE_SEIZE = 0x4206
YAMA = "/proc/sys/kernel/yama/ptrace_scope"
FILLER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "filler.c")


class Usage(Case):
    def test_wrong_usage(self):
        for arguments in ([], ["x"], ["1x"], ["-5"], ["0"], [""], ["99999999999999999999"],
                          ["1", "2"], ["--nonsense", "1"], ["--share", "0", "1"],
                          ["--share", "101", "1"], ["--least", "-1", "1"]):
            with self.subTest(arguments):
                self.assert_says(support.run(COMMAND, *arguments), 2, "doctor")

    def test_help(self):
        result = support.run(COMMAND, "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for word in ("--json", "--share", "Exit status", "PID"):
            self.assertIn(word, result.stdout)

    def test_limits(self):
        with Target(TARGET, "pin", 500) as target:
            target.go()
            target.go()
            self.assertEqual(support.findings(COMMAND, target.pid)["verdict"], "live")
            found = support.findings(COMMAND, target.pid, "--least", 1000000, "--share", 1)
            self.assertEqual(found["verdict"], "retention")

    def test_text(self):
        with Target(TARGET, "list", 2000) as target:
            target.go()
            target.go()
            result = support.run(COMMAND, target.pid)
        self.assertEqual((result.returncode, result.stderr), (11, ""))
        lines = result.stdout.splitlines()
        self.assertEqual(lines[0], f"doctor-target ({target.pid}): retention")
        self.assertLessEqual(len(lines), 40)
        self.assertLessEqual(max(map(len, lines)), 120)
        self.assertRegex(result.stdout, r"2000 blocks of 64 kB in all lie above it")
        self.assertRegex(result.stdout, r"malloc_trim\(0\);  or, from outside: cede trim "
                         rf"{target.pid}\s+gives back now: 122\.\d MB \(122\d{{6}}\)")
        self.assertRegex(result.stdout, r"pinned +by 2000 live blocks of up to 32 bytes, pointers")
        self.assertRegex(lines[-1], r"accounted for; 1 thread, stopped 1 time, for \d+\.\d ms")


class Processes(Case):
    def test_none(self):
        process = subprocess.Popen(["true"])
        process.wait()
        self.assert_says(support.run(COMMAND, process.pid), 1, "no process has the number")

    def test_dead_but_not_buried(self):
        process = subprocess.Popen(["true"])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assert_says(support.run(COMMAND, process.pid), 1, "has no memory: it ended")
        process.wait()

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_of_another_user(self):
        with Target(TARGET, "list", 10) as target:
            result = support.run(COMMAND, target.pid, user=NOBODY)
            self.assert_says(result, 1, "belongs to another user (root)", "root")

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_without_the_capability(self):
        with Target(TARGET, "list", 10) as target:
            result = support.cede("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps",
                                  "-sys_ptrace", COMMAND, "doctor", target.pid)
            self.assert_says(result, 1, "may not be read", "rights that this command lacks",
                             "with CAP_SYS_PTRACE")

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_not_dumpable(self):
        """Of the same user, but it forbids what the kernel would allow."""
        program, = self.copies(TARGET)
        with Target(program, "hidden", prepare=lambda: os.setuid(NOBODY)) as target:
            result = support.run(COMMAND, target.pid, user=NOBODY)
            self.assert_says(result, 1, "may not be read", "PR_SET_DUMPABLE", "as root")
            self.assertEqual(support.findings(COMMAND, target.pid)["verdict"], "live")

    def test_of_the_kernel(self):
        with open("/proc/2/comm") as comm:
            if comm.read() != "kthreadd\n" or os.geteuid():
                self.skipTest("needs root, outside of a container")
        self.assert_says(support.run(COMMAND, 2), 1, "part of the kernel")

    def test_number_of_a_thread(self):
        with Target(TARGET, "threads", 2, 1000) as target:
            for task in os.listdir(f"/proc/{target.pid}/task"):
                found = support.findings(COMMAND, task)
                self.assertEqual({k: found["mallinfo2"][k] for k in target.info}, target.info)
                self.assertEqual(found["reading"]["threads"], 3)

    def in_namespace(self, *command):
        result = subprocess.run(["unshare", "--pid", "--fork", *command], capture_output=True,
                                text=True)
        if "unshare: " in result.stderr:
            self.skipTest(result.stderr)
        return result

    def test_from_another_namespace(self):
        """What /proc calls a number is another process, or none, for this command."""
        with Target(TARGET, "list", 10) as target:
            self.assert_says(self.in_namespace(COMMAND, "doctor", str(target.pid)), 1,
                             "shows another PID namespace", "mount -t proc")
            self.assert_says(self.in_namespace("unshare", "--mount-proc", COMMAND, "doctor",
                                               str(target.pid)), 1, "no process has the number")

    def test_in_another_namespace(self):
        self.in_namespace("true")
        with Target("unshare", "--pid", "--fork", TARGET, "list", 500) as target:
            target.go()
            with open(f"/proc/{target.pid}/task/{target.pid}/children") as children:
                found = support.findings(COMMAND, int(children.read()))
            self.assertEqual({k: found["mallinfo2"][k] for k in target.info}, target.info)

    def test_traced(self):
        libc = ctypes.CDLL(None, use_errno=True)
        with Target(TARGET, "list", 10) as target:
            self.assertEqual(libc.ptrace(PTRACE_SEIZE, target.pid, None, None), 0)
            self.assert_says(support.run(COMMAND, target.pid), 1,
                             f"is traced by process {os.getpid()}")

    def test_32_bit(self):
        """The smallest program there is for the other word size: it waits."""
        code = b"\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7"
        begin, size = 0x8048000, 84 + len(code)
        header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack(
            "<HHIIIIIHHHHHH", 2, 3, 1, begin + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        segment = struct.pack("<IIIIIIII", 1, 0, begin, begin, size, size, 5, 0x1000)
        path = self.path("program")
        with open(path, "wb") as file:
            file.write(header + segment + code)
        os.chmod(path, 0o755)
        try:
            process = subprocess.Popen([path])
        except OSError:
            self.skipTest("this kernel runs no 32-bit programs")
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assert_says(support.run(COMMAND, process.pid), 1, "32-bit")

    @unittest.skipIf(os.geteuid() or not os.path.exists(YAMA), "needs root, and Yama")
    def test_yama(self):
        with open(YAMA) as file:
            before = file.read()
        self.addCleanup(lambda: open(YAMA, "w").write(before))
        with open(YAMA, "w") as file:
            file.write("1")
        program, = self.copies(TARGET)
        with Target(program, "list", 10, prepare=lambda: os.setuid(NOBODY)) as target:
            result = support.run(COMMAND, target.pid, user=NOBODY)
        self.assert_says(result, 1, "ptrace_scope is 1", "set it to 0")

    def test_ends_while_looked_at(self):
        for _ in range(30):
            process = subprocess.Popen(["sleep", "0.01"])
            result = support.run(COMMAND, process.pid)
            self.assertIn(result.returncode, (0, 1, 13))
            if result.returncode == 1:
                self.assertRegex(result.stderr, "no process has the number|has no memory")
            process.wait()

    def test_name_is_text(self):
        """A process that calls itself something that a terminal would obey."""
        with Target(shutil.copy(TARGET, self.path("a\x1b[2J\nb")), "list", 10) as target:
            result = support.run(COMMAND, target.pid)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("\x1b", result.stdout)
        self.assertTrue(result.stdout.startswith("a?[2J"), result.stdout[:20])

    def test_cannot_be_stopped(self):
        with Target(TARGET, "waiting") as target:
            self.assert_says(support.run(COMMAND, target.pid), 1, "does not stop")
            target.go()
            self.assertEqual(target.step, "went")
            self.assertEqual(support.findings(COMMAND, target.pid)["verdict"], "live")

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_contained(self):
        """A libc that this root's names do not lead to."""
        os.mkdir(self.path("lib64"))
        for library in ("libc.so.6", "ld-linux-x86-64.so.2"):
            shutil.copy(LIBRARIES + library, self.path("lib64"))
        shutil.copy(TARGET, self.path("program"))
        with Target("/program", "list", 500, prepare=lambda: os.chroot(self.folder),
                    LD_LIBRARY_PATH="/lib64") as target:
            target.go()
            found = support.findings(COMMAND, target.pid)
            self.assertEqual({k: found["mallinfo2"][k] for k in target.info}, target.info)
            self.assertRegex(found["reading"]["glibc"], r"^2\.\d+$")

    def test_deleted_libc(self):
        """Its libc, and the program, were replaced since it began."""
        library, program = self.copies(LIBRARIES + "libc.so.6", TARGET)
        with Target(program, "list", 500, LD_LIBRARY_PATH=self.folder) as target:
            os.unlink(library)
            os.unlink(program)
            with open(library, "w") as file:
                file.write("another one")
            target.go()
            found = support.findings(COMMAND, target.pid)
            self.assertEqual({k: found["mallinfo2"][k] for k in target.info}, target.info)
            self.assertTrue(found["reading"]["audit_passed"])


class Others(Case):
    """Not glibc's heap: which, and how much glibc's is."""

    def assert_named(self, name, found):
        self.assertEqual(found["verdict"], "not glibc")
        self.assertEqual(found["reading"]["allocator"], name)
        resident = found["resident"]
        self.assertLess(resident["heap_bytes"], 1 << 20)
        self.assertGreater(resident["other_bytes"], 60 << 20)

    def test_preloaded(self):
        for name, library in (("jemalloc", LIBRARIES + "libjemalloc.so.2"),
                              ("mimalloc", LIBRARIES + "libmimalloc.so.2.0"),
                              ("tcmalloc", LIBRARIES + "libtcmalloc_minimal.so.4")):
            if not os.path.exists(library):
                continue
            with self.subTest(name), \
                    Target(TARGET, "list", 1000, LD_PRELOAD=library) as target:
                target.go()
                self.assert_named(name, support.findings(COMMAND, target.pid))
                self.assertIn(f"It runs on {name}", support.run(COMMAND, target.pid).stdout)
            # However little it is.
            with self.subTest(name, little=True), \
                    Target(TARGET, "list", 30, LD_PRELOAD=library) as target:
                target.go()
                self.assertEqual(support.findings(COMMAND, target.pid)["verdict"], "not glibc")

    def test_under_another_name(self):
        """A renamed library is known by its symbols."""
        library = LIBRARIES + "libjemalloc.so.2"
        if not os.path.exists(library):
            self.skipTest("no jemalloc here")
        copy = shutil.copy(library, self.path("lib\x1b[2Jfast.so"))
        with Target(TARGET, "list", 1000, LD_PRELOAD=copy) as target:
            target.go()
            self.assert_named("jemalloc", support.findings(COMMAND, target.pid))
            text = support.run(COMMAND, target.pid).stdout
            self.assertIn("It runs on jemalloc (lib?[2Jfast.so)", text)

    def fill(self, *command):
        """A process that says when it has filled its memory."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), b"filled\n")
        return process.pid

    def build(self, compiler, *options):
        """The filler, built so."""
        program = self.path("filler")
        subprocess.run([compiler, FILLER, "-o", program, *options], check=True)
        return program

    @unittest.skipUnless(shutil.which("musl-gcc"), "no musl here")
    def test_musl(self):
        for options in ([], ["-static"]):
            program = self.build("musl-gcc", *options)
            for count in (1000, 30):
                with self.subTest(options=options, count=count):
                    pid = self.fill(program, str(count), "65536")
                    found = support.findings(COMMAND, pid)
                    if count == 1000:
                        self.assert_named("musl", found)
                    self.assertEqual((found["verdict"], found["reading"]["allocator"]),
                                     ("not glibc", "musl"))
        # Without symbols there is nothing to know it by.
        found = support.findings(COMMAND, self.fill(self.build("musl-gcc", "-static", "-s"),
                                                    "1000", "65536"))
        self.assert_named("", found)

    def test_linked_in(self):
        """Into a static program, beside glibc's malloc or in its place."""
        told = 0
        for name, library in (("jemalloc", "libjemalloc.a"), ("tcmalloc", "libtcmalloc_minimal.a")):
            if not os.path.exists(LIBRARIES + library):
                continue
            told += 1
            with self.subTest(name):
                program = self.build("gcc", "-static", "-Wl,--whole-archive", LIBRARIES + library,
                                     "-Wl,--no-whole-archive", "-lstdc++", "-lm", "-lpthread")
                self.assert_named(name, support.findings(COMMAND, self.fill(program, "1000",
                                                                            "65536")))
        if not told:
            self.skipTest("no allocator to link with here")

    @unittest.skipUnless(shutil.which("fzf"), "no program in Go here")
    def test_go(self):
        process = subprocess.Popen(["fzf", "--filter", "nothing"], stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.kill)
        # It keeps all lines until the last one.
        for begin in range(0, 2000000, 100000):
            process.stdin.write("".join(f"{i}\n" for i in range(begin, begin + 100000)).encode())
        process.stdin.flush()
        found = support.findings(COMMAND, process.pid)
        self.assert_named("Go", found)

    @unittest.skipUnless(shutil.which("java"), "no Java here")
    def test_java(self):
        with open(self.path("Filler.java"), "w") as file:
            file.write("""class Filler { public static void main(String[] a) throws Exception {
                byte[][] kept = new byte[1000][];
                for (int i = 0; i < kept.length; i++) kept[i] = new byte[100000];
                System.out.println("filled"); System.in.read(); } }""")
        found = support.findings(COMMAND, self.fill("java", file.name))
        self.assertEqual((found["verdict"], found["reading"]["allocator"]), ("not glibc", "Java"))
        # glibc's part of it is told, too.
        self.assertGreater(found["resident"]["other_bytes"], 100000000)
        self.assertGreater(found["mallinfo2"]["arena"], 0)

    def test_mapped_by_the_program(self):
        """No allocator at all: a program that maps."""
        process = subprocess.Popen(
            [sys.executable, "-c", "import mmap, sys; m = mmap.mmap(-1, 100 << 20, flags=mmap."
             "MAP_PRIVATE | mmap.MAP_ANONYMOUS); m.write(b'a' * (100 << 20)); print(1, flush=True);"
             "sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.communicate)
        process.stdout.readline()
        found = support.findings(COMMAND, process.pid)
        self.assertEqual(found["verdict"], "not glibc")
        self.assertGreater(found["resident"]["other_bytes"], 100 << 20)


class Broken(Case):
    """Corrupted heaps get no verdict, and never bring the doctor down."""

    def broken(self, kind, *numbers):
        target = Target(TARGET, "broken", kind, *numbers)
        self.assertEqual(target.line(), ["broken"])
        return target

    def test_told(self):
        cases = (("no block can be at",), ("no block can be at",), ("bin", "leads to"),
                 ("bin", "leads to 0x4141414141414141"), ("cache",), ("in the words of the next",),
                 ("bin", "leads to"), ("fast bin", "leads to"),
                 ("free blocks, but", "in its bins"), ("bin 5 ",),
                 ("for 112 bytes, but it has 2016",))
        for kind, words in enumerate(cases):
            with self.subTest(kind), self.broken(kind) as target:
                self.assert_says(support.run(COMMAND, target.pid), 1, "is corrupted",
                                 "no verdict", *words)
                target.comes_to("S")

    def test_endless(self):
        with self.broken(17) as target:
            self.assert_says(support.run(COMMAND, target.pid), 1, "is corrupted",
                             "a list without an end")

    def test_locked(self):
        with self.broken(16) as target:
            self.assert_says(support.run(COMMAND, target.pid), 1, "in the middle of changing",
                             "each of 40 times", "locked")

    def test_garbage(self):
        told = 0
        for kind, counts in ((11, (5, 500)), (12, (2, 30, 2000)), (13, (2, 30, 1000)),
                             (14, (0,)), (15, (5, 200, 20000))):
            for seed in range(12):
                for count in counts:
                    with self.subTest(kind=kind, seed=seed, count=count), \
                            self.broken(kind, seed, count) as target:
                        result = support.run(COMMAND, "--json", target.pid)
                        # Never "not glibc": such a heap is corrupted, or still whole.
                        self.assertIn(result.returncode, (0, 1, 11, 12), result.stderr)
                        self.assertLessEqual(result.stderr.count("\n"), 1, result.stderr)
                        target.comes_to("S")
                        told += result.returncode == 1
        self.assertGreater(told, 30)


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
