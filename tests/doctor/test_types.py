"""What blocks are: by their contents, and by the names of classes and variables.

    test_types.py COMMAND TYPED [CASE ...]
"""

import gzip
import json
import os
import shutil
import subprocess
import sys
import unittest

import support
from support import Target

COMMAND = TYPED = None

ITEM = "shop::item"
SHELF = "shop::shelf<int, std::pair<long, char const*> >"
HIDDEN = "(anonymous namespace)::hidden"
COUNTER = "shop::counter"


def kinds_of(groups):
    """Of {(size, kind, name): group}."""
    return {(group["block_bytes"], group["kind"], group["name"]): group for group in groups}


class Case(support.Case):
    def stripped(self, *options):
        path = self.path("typed")
        subprocess.run(["strip", *options, "-o", path, TYPED], check=True)
        return path

    def groups(self, pid, *options):
        found = support.findings(COMMAND, pid, *options)
        for field in ("live_blocks", "live_bytes", "pinned_bytes"):
            self.assertEqual(sum(one[field] for one in found["groups"]),
                             sum(one[field] for one in found["classes"]))
        return found


class Live(Case):
    # Size of the chunks, kind, name: how many.
    CONTENTS = {
        (912, "zeros", ""): 36,
        # What only malloc's links are left in.
        (4096, "other", ""): 1,
        (176, "pointers", ""): 37 + 20,
        (256, "object", COUNTER): 31,
        (4096, "object", COUNTER + "[]"): 1,
    }
    SYMBOLS = {
        (496, "data", "typed_operations"): 32,
        (592, "data", "typed_operations"): 33,
        (688, "data", "typed_operations"): 34,
        (736, "code", "open_nothing"): 35,
        # Behind links a variable's begin alone tells.
        (688, "pointers", ""): 38,
    }
    WITHOUT = {
        (496, "file", "typed"): 32,
        (592, "file", "typed"): 33,
        (688, "pointers", ""): 34 + 38,
        (736, "file", "typed"): 35,
    }

    def check(self, program, expected):
        with Target(program) as target:
            kinds = kinds_of(self.groups(target.pid)["groups"])
        self.assertEqual({key: kinds.get(key, {"live_blocks": 0})["live_blocks"]
                          for key in expected}, expected)
        # The library's own class, of which the program has the only copy.
        name = next(name for size, kind, name in kinds if size == 192)
        self.assertTrue(name.startswith("std::_Sp_counted_ptr_inplace<shop::shelf<int"), name)

    def test_symbols(self):
        self.check(TYPED, {**self.CONTENTS, **self.SYMBOLS})

    def test_stripped(self):
        """Without symbols: classes still have names, variables and functions none."""
        self.check(self.stripped(), {**self.CONTENTS, **self.WITHOUT})

    def test_replaced(self):
        """The file that the process runs is gone, and another has its name."""
        program = self.stripped("-g")
        with Target(program) as target:
            os.unlink(program)
            os.symlink("/bin/true", program)
            kinds = kinds_of(self.groups(target.pid)["groups"])
            self.assertEqual(kinds[256, "object", COUNTER]["live_blocks"], 31)
            self.assertEqual(kinds[496, "data", "typed_operations"]["live_blocks"], 32)

    def test_no_typeinfo(self):
        """A program made without it names its classes by symbols."""
        program = os.environ["DOCTOR_TYPED_PLAIN"]
        self.check_names(program, COUNTER, COUNTER + "[]")

    def check_names(self, program, *names):
        with Target(program) as target:
            found = {name for _, kind, name in kinds_of(self.groups(target.pid)["groups"])
                     if kind == "object"}
        for name in names:
            self.assertIn(name, found)

    def test_core(self):
        """In a core as in the process, what leads to blocks too."""
        if not shutil.which("gcore"):
            self.skipTest("no gcore here (Debian's package gdb)")
        with Target(self.stripped()) as target:
            support.cede("gcore", "-o", self.path("core"), target.pid, check=True)
            live = self.groups(target.pid, "--leaks")["groups"]
            core = support.findings(COMMAND, self.path(f"core.{target.pid}"), "--leaks",
                                    "--core")["groups"]
        self.assertEqual(kinds_of(core).keys(), kinds_of(live).keys())
        for key, group in kinds_of(live).items():
            self.assertEqual(kinds_of(core)[key]["live_blocks"], group["live_blocks"])
            self.assertEqual(kinds_of(core)[key]["samples"][0].get("referrer"),
                             group["samples"][0].get("referrer"))

    def test_pins(self):
        with Target(self.stripped()) as target:
            target.go()
            target.go()
            found = self.groups(target.pid)
            first = found["groups"][0]
            self.assertEqual((first["block_bytes"], first["kind"], first["name"]),
                             (176, "object", SHELF))
            # Forty more are lost.
            self.assertEqual(first["live_blocks"], 5040)
            self.assertGreater(first["pinned_bytes"],
                               found["resident"]["shared_free_bytes"] * 0.99)
            text = support.run(COMMAND, target.pid).stdout
            self.assertRegex(text, r"pinned +by 5040 live blocks of up to 176 bytes, shop::shelf<")
            self.assertRegex(text, r"as at 0x[0-9a-f]+")

    def test_nothing_becomes_resident(self):
        """Neither pages of files nor of the heap."""
        program = self.stripped("-g")
        with Target(program) as target:
            before = target.rollup("Rss")
            for _ in range(3):
                self.groups(target.pid)
            self.assertEqual(target.rollup("Rss"), before)


class Lost(Case):
    PLANTED = {
        (48, "object", ITEM): 30,
        (176, "object", SHELF): 40,
        (320, "object", HIDDEN): 50,
        (64, "other", ""): 60,
        (720, "text", ""): 70,
        (176, "pointers", ""): 20,
    }

    def test_planted(self):
        for program in (TYPED, self.stripped()):
            with self.subTest(program), Target(program) as target:
                leaks = self.groups(target.pid, "--leaks")["leaks"]
                found = kinds_of(leaks["classes"])
                self.assertEqual({key: group["definite"]["blocks"]
                                  for key, group in found.items()}, self.PLANTED)
                self.assertEqual(leaks["indirect"]["blocks"], 0)
                sample = found[720, "text", ""]["samples"][0]
                self.assertEqual(bytes.fromhex(sample["bytes"]), (b"a text that was lost " * 4)[:64])

    def test_text(self):
        with Target(TYPED) as target:
            target.go()
            text = support.run(COMMAND, "--leaks", target.pid).stdout
        self.assertIn("70 blocks of up to 720 bytes, text", text)
        self.assertRegex(text, r'at 0x[0-9a-f]+ "a text that was lost a text that"')
        self.assertIn(f"50 blocks of up to 320 bytes, {HIDDEN}", text)
        # A sample tells to what its address leads.
        self.assertRegex(text, rf"20 blocks of up to 176 bytes, pointers\n +at 0x[0-9a-f]+ "
                         rf"[0-9a-f]+ [0-9a-f]+, to 256 bytes, {COUNTER}, 0x")


class Referrers(Case):
    def test_places(self):
        with Target(os.environ["DOCTOR_REFERRED"]) as target:
            thread, place = target.info["thread"], target.info["mapped"]
            groups = self.groups(target.pid, "--leaks")["groups"]
            without = self.groups(target.pid)["groups"]
        # Each is alone with its size.
        samples = {group["live_bytes"]: group["samples"][0] for group in groups}
        begin = samples[512]["address"]
        self.assertRegex(samples[416]["referrer"], r"^a register of thread \d+$")
        self.assertEqual(
            {size: samples[size + 8 + 15 & ~15].get("referrer")
             for size in range(500, 1100, 100)},
            {500: "the variable referred_variable+16",
             600: f"the stack of thread {target.pid}",
             700: f"the stack of thread {thread}, or its own variables",
             800: f"a variable of thread {target.pid}'s own",
             900: f"memory that is not malloc's, at {place:#x}",
             1000: f"a live block of 512 bytes, pointers, at {begin}"})
        self.assertFalse(any("referrer" in sample for group in without
                             for sample in group["samples"]))

    def test_text(self):
        """One for each group that pins, and for what keeps the top."""
        with Target(TYPED) as target:
            target.go()
            target.go()
            text = support.run(COMMAND, "--leaks", target.pid).stdout
            self.assertNotIn("to which leads", support.run(COMMAND, target.pid).stdout)
        self.assertRegex(text, r"(?s)shop::shelf<.*?as at 0x[^\n]*\n +to which leads the variable "
                         r"kept\+\d+\n")


class Python(Case):
    PROGRAM = """
import decimal, sys
kept = [(str(i) * 20, {i: i}, decimal.Decimal(i), float(i), [i]) for i in range(5000)]
print("ready", flush=True)
sys.stdin.read()
"""

    def test_python(self):
        python = os.path.realpath(sys.executable)
        target = Target(python, "-c", self.PROGRAM, PYTHONMALLOC="malloc")
        with target:
            blocks = {}
            for group in self.groups(target.pid)["groups"]:
                if group["kind"] == "data":
                    blocks[group["name"]] = blocks.get(group["name"], 0) + group["live_blocks"]
        for name in ("PyUnicode_Type", "PyDict_Type", "PyTuple_Type", "PyFloat_Type",
                     "PyList_Type"):
            self.assertGreaterEqual(blocks.get(name, 0), 5000, blocks)


class Growth(Case):
    def take(self, target, name, *options):
        path = self.path(name)
        support.cede(COMMAND, "snapshot", target.pid, "-o", path, *options, check=True)
        return path

    def compare(self, *arguments):
        result = support.run(COMMAND, "--compare", *arguments)
        self.assertIn(result.returncode, support.VERDICTS.values(), result.stderr)
        return result.stdout

    def test_growth(self):
        with Target(self.stripped()) as target:
            first = self.take(target, "first")
            target.go()
            second = self.take(target, "second")
            target.go()
            third = self.take(target, "third")
        found = json.loads(self.compare("--json", first, second))
        for change in ("before", "after"):
            for unit in ("blocks", "bytes"):
                self.assertEqual(sum(one[change][unit] for one in found["groups"]),
                                 found["live"][change][unit])
        grown = found["groups"][0]
        self.assertEqual((grown["block_bytes"], grown["kind"], grown["name"]),
                         (48, "object", ITEM))
        self.assertEqual(grown["after"]["blocks"] - grown["before"]["blocks"], 1000)
        self.assertEqual([sample["bytes"] for sample in grown["samples"]], [""])
        self.assertIn("48 bytes        at most in a block: shop::item; 30, then 1030",
                      self.compare(first, second))
        self.assertIn(f"176 bytes       at most in a block: {SHELF}; 40, then 5040",
                      self.compare(second, third))
        # In a file as in the process.
        found = json.loads(support.run(COMMAND, "--json", "--file", third).stdout)
        shelves = found["groups"][0]
        self.assertEqual((shelves["name"], shelves["live_blocks"]), (SHELF, 5040))
        self.assertEqual(shelves["samples"][0]["bytes"], "")

    def test_contents(self):
        """Only when asked for is what blocks hold in a file."""
        secret = b"a text that was lost"
        with Target(self.stripped()) as target:
            first = self.take(target, "first")
            second = self.take(target, "second", "--contents")
            lost = self.take(target, "lost", "--leaks", "--contents")
            live = self.groups(target.pid)
            live_lost = self.groups(target.pid, "--leaks")["leaks"]
            target.go()
            third = self.take(target, "third", "--contents")
        with gzip.open(first) as file:
            self.assertNotIn(secret, file.read())
        with gzip.open(second) as file:
            self.assertIn(secret, file.read())
        filed = json.loads(support.run(COMMAND, "--json", "--file", second).stdout)
        self.assertEqual(filed["groups"], live["groups"])
        self.assertTrue(any(secret.hex() in group["samples"][0]["bytes"]
                            for group in filed["groups"]))
        filed_lost = json.loads(support.run(COMMAND, "--json", "--file", lost).stdout)
        self.assertEqual(filed_lost["leaks"], live_lost)
        # The first word is a class's, in both.
        grown = json.loads(self.compare("--json", second, third))["groups"][0]
        self.assertEqual(grown["name"], ITEM)
        sample = kinds_of(filed["groups"])[48, "object", ITEM]["samples"][0]
        self.assertEqual(grown["samples"][0]["bytes"][:16], sample["bytes"][:16])
        self.assertEqual(len(grown["samples"][0]["bytes"]), 2 * 40)


class Hostile(Case):
    def test_symbols(self):
        """A variable's name that a terminal would obey."""
        path = self.path("typed")
        subprocess.run(["objcopy", "--redefine-sym", "typed_operations=typed\033[2J", TYPED,
                        path], check=True)
        with Target(path) as target:
            found = kinds_of(self.groups(target.pid, "--leaks")["groups"])
        self.assertEqual(found[496, "data", "typed?[2J"]["live_blocks"], 32)

    def test_impostors(self):
        """What only looks like an object, and would like to be read."""
        with Target(os.environ["DOCTOR_IMPOSTOR"]) as target:
            found = self.groups(target.pid)
            text = support.run(COMMAND, "--leaks", target.pid)
        blocks = {}
        for size, kind, name in kinds_of(found["groups"]):
            self.assertTrue(name.isprintable(), name)
            blocks.setdefault(size, []).append((kind, name))
        self.assertNotIn("\033", text.stdout)
        sizes = [48 + 16 * i for i in range(19)]
        expected = {10: ("object", "True"), 16: ("file", "doctor-impostor"),
                    17: ("text", ""), 18: ("other", "")}
        for i, size in enumerate(sizes):
            with self.subTest(i):
                self.assertEqual(len(blocks[size]), 1, blocks[size])
                kind, name = blocks[size][0]
                if i == 4:
                    # It would take longer than anybody lives.
                    self.assertEqual(kind, "object")
                    self.assertTrue(name.startswith("B<A, A<A, A>"), name)
                    self.assertEqual((len(name), name[-3:]), (199, "..."))
                elif i in expected:
                    self.assertEqual((kind, name), expected[i])
                else:
                    self.assertNotEqual(kind, "object", name)


if __name__ == "__main__":
    COMMAND, TYPED = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
