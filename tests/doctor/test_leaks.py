"""cede doctor --leaks: what was lost on purpose is found, and nothing else.

    test_leaks.py COMMAND LEAKER [CASE ...]
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import unittest

import support
from support import LIBC, Target

COMMAND = LEAKER = None


class Case(support.Case):
    def look(self, pid):
        found = support.findings(COMMAND, pid, "--leaks")
        leaks = found["leaks"]
        self.assertEqual(leaks["lost_bytes"],
                         leaks["definite"]["bytes"] + leaks["indirect"]["bytes"])
        for kind in ("definite", "indirect"):
            for unit in ("blocks", "bytes"):
                self.assertEqual(sum(c[kind][unit] for c in leaks["classes"]),
                                 leaks[kind][unit])
        live = sum(c["live_blocks"] for c in found["classes"])
        self.assertEqual(live, sum(leaks[kind]["blocks"]
                                   for kind in ("definite", "indirect", "reached")))
        return found

    def check_lost(self, target):
        """All that the target says it has lost, and only that."""
        found = self.look(target.pid)
        leaks = found["leaks"]
        self.assertEqual(
            {"blocks": leaks["definite"]["blocks"], "bytes": leaks["definite"]["bytes"],
             "indirect_blocks": leaks["indirect"]["blocks"],
             "indirect_bytes": leaks["indirect"]["bytes"]}, target.info)
        return found

    def check_none(self, pid, blocks):
        leaks = self.look(pid)["leaks"]
        self.assertGreater(leaks["reached"]["blocks"], blocks)
        self.assertEqual((leaks["lost_bytes"], leaks["classes"]), (0, []))


class Lost(Case):
    def test_planted(self):
        for seed in range(1, 6):
            with self.subTest(seed), Target(LEAKER, "planted", 2000, seed) as target:
                self.assertEqual(target.info["blocks"], 2000)
                self.check_lost(target)

    def test_planted_by_threads(self):
        for threads in (1, 4, 16):
            with self.subTest(threads), Target(LEAKER, "threads", threads) as target:
                self.assertEqual(target.info["blocks"], 200 * threads)
                self.check_lost(target)

    def test_groups(self):
        with Target(LEAKER, "groups", 1000) as target:
            self.assertEqual((target.info["blocks"], target.info["indirect_blocks"]), (5, 4007))
            found = self.check_lost(target)
            samples = found["leaks"]["classes"][0]["samples"]
            self.assertEqual(len(samples), 3)
            # A node: the next one's address, and nothing.
            self.assertEqual(samples[0]["bytes"][16:32], "0" * 16)

    def test_what_does_not_lead(self):
        """Freed blocks, the bins' own links, stacks below their pointers."""
        with Target(LEAKER, "dead") as target:
            self.assertEqual(target.info["blocks"], 100)
            self.check_lost(target)

    def test_verdict(self):
        with Target(LEAKER, "planted", 2000, 2) as target:
            found = self.check_lost(target)
            self.assertEqual(found["verdict"], "leak")
            self.assertEqual(support.findings(COMMAND, target.pid)["verdict"], "live")
            self.assertEqual(support.findings(COMMAND, target.pid, "--leaks", "--share", 90)
                             ["verdict"], "live")
            self.assertEqual(support.findings(COMMAND, target.pid, "--leaks", "--least",
                                              100 << 20)["verdict"], "live")
            text = support.run(COMMAND, "--leaks", target.pid)
            self.assertEqual(text.returncode, 10)
            lost = found["leaks"]["lost_bytes"] / 1e6
            self.assertIn(f"The program has lost {lost:.1f} MB of", text.stdout)
            self.assertRegex(text.stdout, r"The largest group, [0-9.]+ MB: \d+ blocks of up to")
            self.assertRegex(text.stdout, r"definitely +2000 blocks")
            self.assertRegex(text.stdout, r'at 0x[0-9a-f]+ "aaaaaaaaaaaaaaaa')


class Filed(Case):
    """In a snapshot: as the live process, but for what is in the blocks."""

    def test_as_if_live(self):
        path = self.path("heap")
        with Target(LEAKER, "planted", 2000, 7) as target:
            support.cede(COMMAND, "snapshot", "--leaks", target.pid, "-o", path, check=True)
            live = self.check_lost(target)
        filed = support.findings(COMMAND, path, "--file")
        text = support.run(COMMAND, "--file", path).stdout
        for one in live["leaks"]["classes"]:
            for sample in one["samples"]:
                sample["bytes"] = ""
        self.assertEqual(filed["leaks"], live["leaks"])
        self.assertEqual(filed["verdict"], live["verdict"])
        self.assertIn(f"{target.info['blocks']} blocks that nothing leads to", text)


class Low(Case):
    """A program that lies at a fixed place has its heap right behind it, at addresses as
    low as many a number: some that are lost may look as if something led to them."""

    def test_planted(self):
        for seed in range(1, 6):
            with self.subTest(seed), Target(LEAKER, "planted", 2000, seed) as target:
                self.check_most(target)

    def test_planted_by_threads(self):
        with Target(LEAKER, "threads", 4) as target:
            self.check_most(target)

    def check_most(self, target):
        lost = self.look(target.pid)["leaks"]["definite"]
        self.assertLessEqual(lost["blocks"], target.info["blocks"])
        self.assertGreater(lost["blocks"], 0.99 * target.info["blocks"])


class Reached(Case):
    def test_places(self):
        """Blocks that one place alone leads to, of each kind that there is."""
        with Target(LEAKER, "places") as target:
            self.check_none(target.pid, 250)

    def test_list_of_the_article(self):
        """480,000 bytes in 20,000 blocks, and valgrind too finds none of them lost."""
        with Target(os.environ["DOCTOR_TARGET"], "list", 20000) as target:
            target.go()
            target.go()
            self.assertEqual(target.step, "freed")
            found = self.look(target.pid)["leaks"]
            self.assertEqual(found["lost_bytes"], 0)
            self.assertEqual(found["reached"]["blocks"], 20000)

    @unittest.skipIf(support.ON_CEDE, "glibc's caches")
    def test_larger_table(self):
        """A thread's cache whose table lies in a chunk of 16 bytes more than it needs."""
        for size in (584, 648, 664, 760, 776):
            with self.subTest(size), Target(LEAKER, "table", size,
                                            GLIBC_TUNABLES="glibc.malloc.arena_max=1") as target:
                self.check_none(target.pid, 30)
                self.assertEqual(len(support.findings(COMMAND, target.pid)["caches"]), 2)

    def test_churning(self):
        """Threads that allocate and free all the time, and keep all in their stacks."""
        with Target(os.environ["DOCTOR_TARGET"], "churn", 8) as target:
            for _ in range(10):
                self.check_none(target.pid, 1000)

    def test_many(self):
        with Target(LEAKER, "many", 1000000, 1) as target:
            self.check_none(target.pid, 999999)


PYTHON = """
import collections, decimal, json, sqlite3, sys, threading
kept = [[str(i) * (i % 50), {i: bytes(i % 3000)}] for i in range(20000)]
del kept[::3]
numbers = collections.OrderedDict((i, decimal.Decimal(i)) for i in range(10000))
event = threading.Event()
for i in range(4):
    threading.Thread(target=event.wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

SQL = """create table t(a integer primary key, b text);
insert into t with recursive c(x) as (select 1 union all select x + 1 from c where x < 50000)
    select x, hex(randomblob(x % 50)) from c;
create index i on t(b);
select 'ready';
"""


class Healthy(Case):
    """Programs that have lost nothing, and that are not ours."""

    def start(self, *command, cwd=None, **settings):
        process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, bufsize=0,
                                   env=support.environment(**settings))
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def settle(self, pid):
        """Until it sleeps."""
        deadline = time.monotonic() + 60
        while True:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "S":
                    return
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_python(self):
        process = self.start(os.path.realpath(sys.executable), "-c", PYTHON,
                             PYTHONMALLOC="malloc")
        self.assertEqual(process.stdout.readline(), b"ready\n")
        self.settle(process.pid)
        self.check_none(process.pid, 100000)

    def test_sqlite(self):
        sqlite = shutil.which("sqlite3")
        if not sqlite:
            self.skipTest("no sqlite3 here")
        process = self.start(sqlite, ":memory:")
        process.stdin.write(SQL.encode())
        self.assertEqual(process.stdout.readline(), b"ready\n")
        self.settle(process.pid)
        self.check_none(process.pid, 1000)

    def test_redis(self):
        server = shutil.which("redis-server")
        if not server:
            self.skipTest("no redis-server here")
        path = self.path("socket")
        process = self.start(server, "--port", "0", "--unixsocket", path, "--save", "",
                             cwd=self.folder, LD_PRELOAD="" if support.ON_CEDE else LIBC)
        deadline = time.monotonic() + 30
        with socket.socket(socket.AF_UNIX) as connection:
            while connection.connect_ex(path) != 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            answers = connection.makefile("rb")
            for begin in range(0, 20000, 1000):
                connection.sendall("".join(
                    f"SET key{i} v{'v' * (i % 600)}\r\nRPUSH l{i % 100} x{i}\r\n"
                    f"HSET h{i % 50} f{i} {i}\r\nZADD z{i % 20} {i} m{i}\r\n"
                    for i in range(begin, begin + 1000)).encode())
                for _ in range(4000):
                    self.assertIn(answers.readline()[:1], b"+:")
            self.check_none(process.pid, 50000)

    def test_cpp(self):
        program = os.environ.get("DOCTOR_HEALTHY")
        if not program:
            self.skipTest("no C++ compiler here")
        process = self.start(program)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        self.check_none(process.pid, 100000)


if __name__ == "__main__":
    COMMAND, LEAKER = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
