"""The workloads: our own programs with their sizes, and real programs.

A workload has a name, a line that says what it does, and runs one process under a
launcher (a command that sets the allocator and measures).  What it prints depends on
its work alone, so it must be the same under every allocator.  Each has two sizes: the
one that is measured, and a tiny one that only shows that it works.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_SECONDS = 300


class Failed(Exception):
    """The workload ended badly; the text says how."""


class Workload:
    tool = None  # the installed program that it needs, if any
    settings = {}  # environment of the measured process

    def __init__(self, name, what):
        self.name = name
        self.what = what

    def is_runnable(self):
        return self.tool is None or shutil.which(self.tool) is not None

    def prepare(self, folder, is_tiny):
        """Makes the input in `folder`; before the first run."""

    def run(self, launcher, **popen):
        """Runs once; returns what it printed, without which it Failed."""
        with self.start(launcher, **popen) as process:
            try:
                return self.finish(process, *process.communicate(timeout=TIMEOUT_SECONDS))
            except subprocess.TimeoutExpired:
                process.kill()
                raise Failed(f"not done after {TIMEOUT_SECONDS} s") from None

    def start(self, launcher, stdin=subprocess.DEVNULL, **popen):
        return subprocess.Popen(
            [*launcher, *self.command], text=True, stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **popen)

    def finish(self, process, output, errors):
        if process.returncode != 0 or errors or not output:
            raise Failed(f"status {process.returncode} {errors.strip()}")
        return output


class Own(Workload):
    """One of our C programs, in the folder that it was built in."""

    def __init__(self, name, what, program, arguments, tiny_arguments):
        super().__init__(name, what)
        self.program = program
        self.arguments = arguments
        self.tiny_arguments = tiny_arguments

    def prepare(self, folder, is_tiny):
        arguments = self.tiny_arguments if is_tiny else self.arguments
        self.command = [self.program, *arguments.split()]


class Interpreter(Workload):
    # By itself Python hands out small objects from pools of its own.
    settings = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}

    def prepare(self, folder, is_tiny):
        self.command = [sys.executable, "-S", os.path.join(HERE, "interpreter.py"),
                        "50" if is_tiny else "5000"]


class Compiler(Workload):
    tool = "g++"

    def prepare(self, folder, is_tiny):
        source = os.path.join(folder, "generated.cc")
        self.object = os.path.join(folder, "generated.o")
        with open(source, "w", encoding="ascii") as file:
            file.write("#include <map>\n#include <string>\n#include <vector>\n")
            for i in range(1 if is_tiny else 30):
                file.write(
                    f"struct item{i} {{ std::string name; std::vector<int> values[{i + 1}]; }};\n"
                    f"int sum{i}(const std::map<std::string, item{i}> &items) {{\n"
                    "\tint sum = 0;\n\tfor (const auto &[key, item] : items)\n"
                    "\t\tfor (const auto &values : item.values)\n"
                    f"\t\t\tfor (int v : values)\n\t\t\t\tsum += v * {i};\n"
                    "\treturn sum;\n}\n")
        self.command = [self.tool, "-std=c++17", "-c", source, "-o", self.object]

    def finish(self, process, output, errors):
        if process.returncode == 0 and not errors:
            with open(self.object, "rb") as file:
                output = hashlib.sha256(file.read()).hexdigest()
        return super().finish(process, output, errors)


class Database(Workload):
    tool = "sqlite3"
    SCRIPT = """
create table t(id integer primary key, k integer, name text, body blob);
insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
    select i, (i * 2654435761) % 1000003, printf('name %d of many', (i * 7919) % {rows}),
        zeroblob(i % 400) from n;
create index by_k on t(k);
create index by_name on t(name, k);
select count(*), sum(length(name)), sum(length(body)) from t;
select sum(a.k), max(b.name) from t a join t b on b.name = printf('name %d of many', a.id);
select sum(c), max(g) from (select count(*) c, group_concat(name) g from t group by k % 997);
update t set name = name || name, body = zeroblob(length(body) * 3) where k % 3 = 0;
delete from t where k % 5 = 1;
select count(*), sum(length(name)), sum(length(body)) from t;
"""

    def prepare(self, folder, is_tiny):
        script = os.path.join(folder, "database.sql")
        with open(script, "w", encoding="ascii") as file:
            file.write(self.SCRIPT.format(rows=100 if is_tiny else 80000))
        self.command = [self.tool, "-batch", ":memory:", f".read {script}"]


class Server(Workload):
    """Only the server is measured, from its start to its end: the clients run on libc."""
    tool = "redis-server"
    SECONDS_TO_START = 30

    def prepare(self, folder, is_tiny):
        self.socket = os.path.join(folder, "server.socket")
        self.input = os.path.join(folder, "server.input")
        with open(self.input, "w", encoding="ascii") as file:
            for words in self.commands(100 if is_tiny else 60000):
                file.write(f"*{len(words)}\r\n"
                           + "".join(f"${len(word)}\r\n{word}\r\n" for word in words))
        self.command = [
            self.tool, "--port", "0", "--unixsocket", self.socket, "--save", "",
            "--appendonly", "no", "--logfile", "/dev/null", "--dir", folder,
            "--enable-debug-command", "local"]

    @staticmethod
    def commands(count):
        """Strings of 1 to 500 bytes, half of them deleted, then longer ones, hashes
        and lists in their place."""
        for i in range(count):
            yield "SET", f"key:{i}", "v" * (1 + i * 7919 % 500)
        for i in range(0, count, 2):
            yield "DEL", f"key:{i * 7919 % count}"
        for i in range(count):
            yield "SET", f"long:{i // 2}", "w" * (1 + i * 104729 % 1500)
            yield "HSET", f"hash:{i // 50}", f"field:{i}", "x" * (i % 100)
            yield "RPUSH", f"list:{i // 20}", "y" * (i * 31 % 60)

    def client(self, *words, **run):
        return subprocess.run(["redis-cli", "-s", self.socket, *words], text=True,
                              capture_output=True, check=False, **run).stdout

    def run(self, launcher, **popen):
        with self.start(launcher, **popen) as process:
            deadline = time.monotonic() + self.SECONDS_TO_START
            while self.client("ping") != "PONG\n":
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise Failed(f"it does not answer: {process.communicate()}")
                time.sleep(0.01)
            with open(self.input, encoding="ascii") as commands:
                self.client("--pipe", stdin=commands)
            output = self.client("dbsize") + self.client("debug", "digest")
            self.client("shutdown", "nosave")
            _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
            return self.finish(process, output, errors)


# name, what it does, program, arguments when measured, arguments when tiny
OWN = (
    ("pair-16", "16 B, taken and given back at once", "churn", "16 1 40000000", "16 1 1000"),
    ("pair-1k", "the same, 1 KiB", "churn", "1024 1 40000000", "1024 1 1000"),
    ("pair-64k", "the same, 64 KiB", "churn", "65536 1 20000000", "65536 1 1000"),
    ("batch-16", "16 B, 1000 taken, then given back", "churn",
     "16 1000 40000000", "16 1000 2000"),
    ("batch-256", "the same, 256 B", "churn", "256 1000 4000000", "256 1000 2000"),
    ("batch-1k", "the same, 1 KiB", "churn", "1024 1000 1000000", "1024 1000 2000"),
    ("batch-8k", "the same, 8 KiB", "churn", "8192 1000 200000", "8192 1000 2000"),
    ("batch-64k", "the same, 64 KiB", "churn", "65536 1000 150000", "65536 1000 2000"),
    ("growth", "2 GiB of 100 B taken, then given back", "churn",
     "100 21474836 1", "100 10000 1"),
    ("random-1", "random sizes (24 B to 48 KiB) and lifetimes, 20,000 live", "lifetimes",
     "random 1 20000 8000000", "random 1 500 5000"),
    ("random-2", "the same, two threads", "lifetimes",
     "random 2 20000 4000000", "random 2 500 5000"),
    ("phases", "bursts of 32 MiB by phase, each of another size; 2% live on", "lifetimes",
     "phases 18 32768", "phases 7 64"),
    ("large", "128 KiB to 16 MiB, taken and given back in turn, touched", "resize",
     "large 500", "large 10"),
    ("realloc", "64 blocks that grow by an eighth, to 4 KiB - 64 MiB", "resize",
     "grow 40000", "grow 300"),
    ("server", "four lines of threads that hand 1000 objects on and end", "handover",
     "server 4 200 1000 10000", "server 4 5 100 100"),
    ("relay-1-1", "100 B, one producer, one consumer", "handover",
     "relay 1 1 6000", "relay 1 1 50"),
    ("relay-2-2", "100 B, two producers, two consumers", "handover",
     "relay 2 2 3000", "relay 2 2 30"),
    ("sharing", "two threads write to small blocks taken side by side", "cores",
     "sharing 2 3000000 100", "sharing 2 1000 100"),
    ("crowd", "256 threads at once, 100 blocks each", "cores",
     "crowd 256 100 40000", "crowd 16 20 100"),
    ("startup", "a tiny program, 300 times", "startup", "300", "2"),
)


def all_workloads(programs):
    """`programs`: the folder of the built C programs."""
    return [
        *(Own(name, what, os.path.join(programs, program), arguments, tiny)
          for name, what, program, arguments, tiny in OWN),
        Interpreter("interpreter", "python3: records, JSON, dictionaries, trees"),
        Compiler("compiler", "g++ -c of 30 generated classes"),
        Database("database", "sqlite3 in memory: 80,000 rows, indexes, joins"),
        Server("key-value", "redis-server: 300,000 commands"),
    ]
