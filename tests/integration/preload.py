"""Real programs on the library, each checked for its right output.

    preload.py [--library LIBCEDE --policy POLICY] [program ...]

Each is run with the library preloaded; a program that is not installed is named
and left out, unless nothing is left to run.  Without a library, on libc's heap.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
PYTHON = "/usr/bin/python3"  # not one from a version manager, which is a script


class Wrong(Exception):
    pass


class Runner:
    def __init__(self, library, policy, directory):
        self.directory = directory
        self.environment = {"PATH": os.environ["PATH"], "HOME": directory, "LC_ALL": "C.UTF-8",
                            "GIT_CONFIG_NOSYSTEM": "1", "TMPDIR": directory}
        if library:
            self.environment["LD_PRELOAD"] = library
            self.environment["CEDE_OPTIONS"] = "policy=" + policy

    def run(self, *command, text="", more=None):
        """Returns stdout; a failure, or any word on stderr from the heap, is wrong."""
        result = subprocess.run(command, input=text, text=True, capture_output=True,
                                cwd=self.directory, env={**self.environment, **(more or {})},
                                timeout=120)
        if result.returncode != 0:
            raise Wrong(f"{command[0]} ended with {result.returncode}: {result.stderr[-2000:]}")
        if "cede:" in result.stderr or "ld.so" in result.stderr:
            raise Wrong(f"{command[0]} said: {result.stderr[-2000:]}")
        return result.stdout

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)


def expect(got, wanted):
    if got != wanted:
        raise Wrong(f"got {got[:500]!r}, wanted {wanted[:500]!r}")


def check_python(runner):
    code = """
import hashlib, json, random, re, threading
random.seed(1)
table = {str(i): [random.randrange(10 ** 9) for _ in range(i % 50)] for i in range(20000)}
text = json.dumps(table, sort_keys=True)
assert json.loads(text) == table
words = re.findall(r'(?<=[\\[ ])[0-9]+', text)
sums = []
def work(part):
    sums.append(sum(int(word) for word in words[part::4]))
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert sum(sums) == sum(map(sum, table.values()))
blob = b''.join(bytes([i % 256]) * i for i in range(3000))
print(len(words), hashlib.sha256(blob).hexdigest())
"""
    blob = b"".join(bytes([i % 256]) * i for i in range(3000))
    expect(runner.run(PYTHON, "-c", code, more={"PYTHONMALLOC": "malloc"}),
           f"{400 * sum(range(50))} {hashlib.sha256(blob).hexdigest()}\n")


def check_python_debug(runner):
    """The same interpreter with guards around each block of its own."""
    expect(runner.run(PYTHON, "-c", "print(sum(len(str(i)) for i in range(300000)))",
                      more={"PYTHONMALLOC": "malloc_debug"}), "1688890\n")


def check_sqlite3(runner):
    script = """
create table t(id integer primary key, word text, n real);
with recursive c(i) as (select 1 union all select i + 1 from c where i < 100000)
  insert into t select i, 'word' || (i * 7919 % 100003), i * 0.5 from c;
create index by_word on t(word);
select count(*), count(distinct word), sum(n) from t;
select group_concat(id) from (select id from t order by word limit 5);
delete from t where id % 3 = 0;
vacuum;
pragma integrity_check;
select count(*) from t;
"""
    lines = runner.run("sqlite3", runner.path("test.db"), text=script).splitlines()
    ordered = sorted((f"word{i * 7919 % 100003}", i) for i in range(1, 100001))
    expect(lines[0], "100000|100000|2500025000.0")
    expect(lines[1], ",".join(str(i) for _, i in ordered[:5]))
    expect(lines[2:], ["ok", "66667"])


def check_git(runner):
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@b", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
           "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z"}
    os.mkdir(runner.path("repository"))
    inside = ("git", "-C", runner.path("repository"))
    runner.run(*inside, "init", "-q", "-b", "main")
    for commit in range(5):
        for i in range(200):
            runner.write(f"repository/file{i}", f"{i} {commit}\n" * (i + 1))
        runner.run(*inside, "add", "-A")
        runner.run(*inside, "commit", "-q", "-m", f"commit {commit}", more=who)
    runner.run(*inside, "gc", "-q")
    expect(runner.run(*inside, "log", "--format=%s"),
           "".join(f"commit {i}\n" for i in (4, 3, 2, 1, 0)))
    expect(runner.run(*inside, "fsck", "--full"), "")
    expect(runner.run(*inside, "show", "HEAD~1:file3"), "3 3\n" * 4)
    expect(runner.run(*inside, "status", "--porcelain"), "")


def check_perl(runner):
    code = r"""
my %h = map { ("key$_" => "x" x ($_ % 200)) } 1 .. 100000;
delete $h{"key$_"} for grep { $_ % 2 } 1 .. 100000;
my $total = 0; $total += length for values %h;
my $text = join ",", sort { $a cmp $b } keys %h;
my $n = () = $text =~ /key\d*7\d*/g;
print scalar(keys %h), " $total $n\n";
"""
    length = sum(i % 200 for i in range(2, 100001, 2))
    sevens = sum("7" in str(i) for i in range(2, 100001, 2))
    expect(runner.run("perl", "-e", code), f"50000 {length} {sevens}\n")


def check_gcc(runner):
    """The compiler, its passes and the program it makes are all on the library."""
    runner.write("test.cc", r"""
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <vector>

int main()
{
	std::map<std::string, std::shared_ptr<std::vector<int>>> table;
	for (int i = 0; i < 20000; i++) {
		auto &entry = table["k" + std::to_string(i % 777)];
		if (!entry)
			entry = std::make_shared<std::vector<int>>();
		entry->push_back(i);
	}
	long sum = 0;
	std::thread([&] { for (auto &e : table) sum += e.second->back(); }).join();
	try {
		std::regex("(");
	} catch (const std::regex_error &) {
		sum++;
	}
	try {
		std::vector<char> v(~0ul >> 2);
	} catch (const std::bad_alloc &) {
		sum++;
	}
	struct alignas(256) wide { char bytes[256]; };
	auto w = std::make_unique<wide[]>(100);
	sum += reinterpret_cast<unsigned long>(w.get()) % 256;
	std::cout << table.size() << ' ' << sum << '\n';
}
""")
    runner.run("g++", "-std=c++17", "-O2", "-g", "-pthread", "test.cc", "-o", "test")
    backs = {}
    for i in range(20000):
        backs[i % 777] = i
    expect(runner.run(runner.path("test")), f"777 {sum(backs.values()) + 2}\n")


def check_redis(runner):
    # A short path: the address of a socket holds 107 bytes.
    place = runner.path("redis.sock")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", place, "--save", "", "--appendonly", "no",
         "--dir", runner.directory], env=runner.environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        client = ("redis-cli", "-s", place)
        for _ in range(100):
            if os.path.exists(place) or server.poll() is not None:
                break
            time.sleep(0.1)
        keys = 10000
        runner.run(*client, text="".join(f"set key:{i} {'v' * (i % 1000)}{i}\n"
                                         for i in range(keys)))
        answers = runner.run(*client, text="".join(f"get key:{i}\n" for i in range(keys)))
        expect(answers, "".join(f"{'v' * (i % 1000)}{i}\n" for i in range(keys)))
        runner.run(*client, text="".join(f"del key:{i}\n" for i in range(0, keys, 2)))
        runner.run(*client, text="".join(f"rpush list:{i % 10} {i}\n" for i in range(keys)))
        expect(runner.run(*client, "dbsize"), f"{keys // 2 + 10}\n")
        expect(runner.run(*client, "lrange", "list:3", "0", "2"), "3\n13\n23\n")
        # A save is a fork under load.
        expect(runner.run(*client, "bgsave"), "Background saving started\n")
        time.sleep(1)
        if "rdb_last_bgsave_status:ok" not in runner.run(*client, "info", "persistence"):
            raise Wrong("the background save failed")
        runner.run(*client, "shutdown", "nosave")
        output = server.communicate(timeout=20)[0]
        if server.returncode != 0 or "cede:" in output:
            raise Wrong(f"the server ended with {server.returncode}: {output[-2000:]}")
    finally:
        server.kill()
        server.wait()


def check_xmllint(runner):
    runner.write("test.xml", "<all>" + "".join(
        f"<one id='{i}'>{'t' * (i % 90)}</one>" for i in range(50000)) + "</all>")
    expect(runner.run("xmllint", "--xpath", "count(//one[@id mod 7 = 3])", "test.xml").strip(),
           str(len(range(3, 50000, 7))))


def check_bash(runner):
    script = r"""
declare -A words
for i in {1..20000}; do words[k$((i % 500))]+=x; done
total=0
for k in "${!words[@]}"; do total=$((total + ${#words[$k]})); done
echo "${#words[@]} $total $(printf '%s\n' {1..5000} | sort -rn | head -1)"
"""
    expect(runner.run("bash", "-c", script), "500 20000 5000\n")


def check_cmake(runner):
    runner.write("CMakeLists.txt", """cmake_minimum_required(VERSION 3.13)
project(test C)
add_executable(hello hello.c)
""")
    runner.write("hello.c", '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    runner.run("cmake", "-S", ".", "-B", "build")
    runner.run("cmake", "--build", "build")
    expect(runner.run(runner.path("build/hello")), "hello\n")


PROGRAMS = {
    "python3": check_python, "python3-debug": check_python_debug, "sqlite3": check_sqlite3,
    "git": check_git, "perl": check_perl, "g++": check_gcc, "redis-server": check_redis,
    "xmllint": check_xmllint, "bash": check_bash, "cmake": check_cmake,
}


def installed(name):
    return shutil.which(PYTHON if name.startswith("python3") else name) is not None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library")
    parser.add_argument("--policy", default="default")
    parser.add_argument("programs", nargs="*", metavar="program")
    options = parser.parse_args()
    ran = failed = 0
    for name in options.programs or PROGRAMS:
        if not installed(name):
            print(f"left out: {name} is not installed")
            continue
        with tempfile.TemporaryDirectory() as directory:
            started = time.monotonic()
            try:
                PROGRAMS[name](Runner(options.library, options.policy, directory))
                verdict = "ok"
            except (Wrong, subprocess.TimeoutExpired) as what:
                verdict = f"FAILED {what}"
                failed += 1
            ran += 1
            print(f"{name} ({time.monotonic() - started:.1f} s): {verdict}", flush=True)
    if ran == 0:
        return SKIPPED
    return 1 if failed else 0


sys.exit(main())
