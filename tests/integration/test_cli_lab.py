"""cede lab at a small size: tables, JSON, charts; what dies, is skipped or is
interrupted; and the subject's protocol by itself.

    test_cli_lab.py COMMAND SUBJECT
"""

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

COMMAND = SUBJECT = None
TOTAL = "--total=16M"


def lab(*arguments, **options):
    return subprocess.run([COMMAND, "lab", *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, **options)


def left_behind(process):
    return glob.glob(f"/sys/fs/cgroup/**/cede-lab-{process.pid}", recursive=True)


class Protocol(unittest.TestCase):
    def talk(self, commands, *arguments):
        return subprocess.run([SUBJECT, *arguments], input=commands, capture_output=True,
                              text=True)

    def test_steps_and_commands(self):
        result = self.talk("sgtgg", "blocks", "size=100", "total=1000")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout.splitlines(), [
            "start live=0", "done 0", "allocated live=1128", "done 1", "freed live=0"])
        self.assertIn("system bytes     =          0", result.stderr)

    def test_allocates_nothing_but_the_experiment(self):
        # A node is 32 bytes with its header, a block of 64 KiB is 65,552.
        library = os.path.join(os.path.dirname(COMMAND), "../lib/libcede.so")
        environment = {"LD_PRELOAD": library, "CEDE_OPTIONS": "policy=classic"}
        result = subprocess.run([SUBJECT, "list", "count=1"], input="gsggg", text=True,
                                capture_output=True, env=environment)
        self.assertIn("in use bytes     =      65584", result.stderr)
        self.assertIn("allocated live=65560", result.stdout)

    def test_each_experiment(self):
        steps = {"blocks": ["start", "allocated", "freed"],
                 "list": ["start", "allocated", "freed", "cleared"],
                 "pin": ["start", "allocated", "freed"],
                 "sparse": ["start", "allocated", "freed"]}
        for experiment, expected in steps.items():
            with self.subTest(experiment):
                small = ["total=100000"] if experiment in ("blocks", "sparse") else ["count=10"]
                result = self.talk("g" * len(expected), experiment, *small)
                self.assertEqual(result.returncode, 0)
                self.assertEqual([line.split()[0] for line in result.stdout.splitlines()],
                                 expected)

    def test_twice_shuffled(self):
        result = self.talk("ggggg", "blocks", "total=100000", "rounds=2", "shuffle=1")
        self.assertEqual([line.split()[0] for line in result.stdout.splitlines()],
                         ["start", "allocated", "freed", "allocated-again", "freed-again"])

    def test_ends_with_its_input(self):
        self.assertEqual(self.talk("g", "pin", "count=1").returncode, 0)

    def test_wrong_usage(self):
        for arguments in ([], ["nothing"], ["list", "count=x"], ["list", "no=1"],
                          ["pin", "count=65537"], ["blocks", "size=1"]):
            with self.subTest(arguments):
                result = self.talk("", *arguments)
                self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1))

    def test_out_of_memory(self):
        result = subprocess.run(f"ulimit -v 50000; exec {SUBJECT} list", shell=True, input="g",
                                capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stdout.splitlines()[-1]),
                         (1, "failed out-of-memory"))


class Lab(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.chart = os.path.join(cls.folder, "chart.svg")
        cls.result = lab(TOTAL, "--json", "--only=glibc,classic,cede", "--chart", cls.chart,
                         "blocks-100", "list", "pin", "sparse")
        cls.runs = {(run["experiment"], run["allocator"]): run
                    for run in json.loads(cls.result.stdout or "{}").get("runs", [])}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def steps(self, experiment, allocator):
        return {step["step"]: step for step in self.runs[experiment, allocator]["steps"]}

    def test_ends_well(self):
        self.assertEqual(self.result.returncode, 0, self.result.stderr)
        self.assertEqual(len(self.runs), 12)
        self.assertEqual({run["outcome"] for run in self.runs.values()}, {"finished"})
        self.assertEqual(json.loads(self.result.stdout)["schema"], "cede-lab/1")

    def test_measures_each_step(self):
        for allocator in ("glibc", "classic", "cede"):
            steps = self.steps("blocks-100", allocator)
            self.assertEqual(list(steps), ["start", "allocated", "freed", "freed+1s", "trimmed"])
            self.assertEqual(steps["start"]["live_bytes"], 0)
            self.assertGreater(steps["allocated"]["live_bytes"], 16 << 20)
            self.assertGreater(steps["allocated"]["rss_bytes"], 16 << 20)
            self.assertGreaterEqual(steps["allocated"]["rss_bytes"],
                                    steps["allocated"]["anonymous_bytes"])
            self.assertEqual(steps["freed"]["live_bytes"], 0)
            self.assertGreaterEqual(steps["freed+1s"]["seconds"], steps["freed"]["seconds"] + 1)
            for step in steps.values():
                self.assertGreater(step["machine_available_bytes"], 0)
                self.assertIn("arena_system_bytes", step)

    def test_cede_gives_back_what_others_keep(self):
        for experiment in ("blocks-100", "list", "pin"):
            for allocator in ("glibc", "classic"):
                run = self.runs[experiment, allocator]
                self.assertGreater(run["kept_bytes"], 0.8 * run["gained_bytes"])
            self.assertLess(self.runs[experiment, "cede"]["kept_bytes"], 4 << 20)

    def test_counts_as_the_article_does(self):
        count = (16 << 20) // 65536
        steps = self.steps("list", "classic")
        in_use = [steps[name]["arena_in_use_bytes"]
                  for name in ("start", "allocated", "freed", "cleared")]
        self.assertEqual(in_use, [0, count * (65552 + 32), count * 32, 0])

    def test_tells_the_floor(self):
        freed = self.steps("sparse", "cede")["freed"]
        self.assertGreater(freed["floor_bytes"], freed["live_bytes"])

    def test_traces(self):
        trace = self.runs["list", "cede"]["trace"]
        self.assertGreater(len(trace), 50)
        self.assertEqual([len(point) for point in trace], [3] * len(trace))
        self.assertEqual(trace, sorted(trace, key=lambda point: point[0]))
        self.assertGreater(max(point[2] for point in trace), 16 << 20)

    def test_draws(self):
        with open(self.chart) as file:
            self.assertIn("<svg", file.read())

    def test_draws_png(self):
        path = os.path.join(self.folder, "chart.png")
        result = lab(TOTAL, "--only=cede", "--chart", path, "pin")
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(path, "rb") as file:
            self.assertEqual(file.read(4), b"\x89PNG")

    def test_prints_a_table(self):
        for steps in ([], ["--steps"]):
            result = lab(TOTAL, "--only=cede,glibc", *steps, "pin")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("pin: 17 MB in blocks of 4 KiB", result.stdout)
            for word in ("cede", "glibc", "[heap]", "in use", "RSS"):
                self.assertIn(word, result.stdout)


class Two(unittest.TestCase):
    def test_two_processes_under_one_limit(self):
        process = subprocess.Popen([COMMAND, "lab", "--total=64M", "--json",
                                    "--only=classic,cede", "two"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        runs = {run["allocator"]: run for run in json.loads(out)["runs"]}
        self.assertEqual(left_behind(process), [])
        if runs["cede"]["outcome"] == "skipped":
            self.assertIn("cgroup", runs["cede"]["note"])
            self.skipTest(runs["cede"]["note"])
        self.assertEqual(runs["cede"]["outcome"], "finished", runs["cede"]["note"])
        self.assertEqual(runs["classic"]["outcome"], "killed", runs["classic"]["note"])


class Trouble(unittest.TestCase):
    def test_wrong_usage_is_one_line_and_status_2(self):
        for arguments in (["nothing"], ["--total=x", "pin"], ["--total=1K", "pin"],
                          ["--total=99999999999G", "pin"], ["--chart=a.gif", "pin"],
                          ["--demo", "pin"], ["--nothing"]):
            with self.subTest(arguments):
                result = lab(*arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def test_too_large(self):
        result = lab("--total=100000G", "pin")
        self.assertEqual(result.returncode, 1)
        self.assertIn("not enough memory", result.stderr)

    def test_unknown_allocator(self):
        result = lab("--only=cede,nothing", "pin")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no allocator 'nothing'", result.stderr)

    def test_library_without_malloc(self):
        result = lab("--allocator", "m=/lib/x86_64-linux-gnu/libm.so.6", "pin")
        self.assertEqual(result.returncode, 1)
        self.assertIn("is not a library that defines malloc", result.stderr)

    def test_subject_that_dies(self):
        with tempfile.TemporaryDirectory() as folder:
            source, library = os.path.join(folder, "bad.c"), os.path.join(folder, "bad.so")
            with open(source, "w") as file:
                file.write("#include <stdlib.h>\n"
                           "void *malloc(size_t n) { (void)n; abort(); }\n")
            subprocess.run(["gcc", "-shared", "-fPIC", "-fno-builtin", source, "-o", library],
                           check=True)
            result = lab(TOTAL, "--only=bad", "--allocator", f"bad={library}", "pin")
        self.assertEqual(result.returncode, 1)
        self.assertIn("was killed by SIGABRT at 'allocated'", result.stderr)

    def test_interrupted(self):
        process = subprocess.Popen([COMMAND, "lab", "--total=64M", "--only=cede", "two"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline, children = time.monotonic() + 30, []
        while not children:
            self.assertLess(time.monotonic(), deadline, "no subject has begun")
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                children = file.read().split()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 1)
        self.assertIn("interrupted", errors)
        for child in children:
            self.assertFalse(os.path.exists(f"/proc/{child}"), "a subject is left")
        self.assertEqual(left_behind(process), [])


if __name__ == "__main__":
    COMMAND, SUBJECT = os.path.abspath(sys.argv.pop(1)), os.path.abspath(sys.argv.pop(1))
    unittest.main()
