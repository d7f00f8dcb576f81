"""redis-server: keys are set and deleted again over its socket, then it idles.

    server.py [--library LIBCEDE] WAY KEYS

WAY is second, minute or figures (rest.h).  The limit is on what it has beyond an empty
server: 1.05 times what it says it uses beyond that, and 4 MiB.  Without a library the
caller's environment says what the server runs on.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.rest import second_passes  # noqa: E402

SKIPPED = 77
MIB = 1 << 20


class Wrong(Exception):
    pass


class Server:
    def __init__(self, library, folder):
        self.socket = os.path.join(folder, "socket")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "",
             "--appendonly", "no", "--dir", folder], stdout=subprocess.DEVNULL,
            env={**os.environ, **({"LD_PRELOAD": library} if library else {})})

    def __enter__(self):
        for _ in range(300):
            if self.ask("ping") == "PONG\n":
                return self
            time.sleep(0.1)
        raise Wrong("the server does not answer")

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()

    def ask(self, *words, **run):
        return subprocess.run(["redis-cli", "-s", self.socket, *words], text=True,
                              capture_output=True, check=False, **run).stdout

    def send(self, commands):
        """All at once, in its protocol."""
        text = "".join(f"*{len(words)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)
                       for words in commands)
        answer = self.ask("--pipe", input=text)
        if "errors: 0," not in answer:
            raise Wrong(f"redis-cli --pipe: {answer}")

    def used(self):
        """What the server itself counts."""
        lines = self.ask("info", "memory").splitlines()
        return next(int(line.split(":")[1]) for line in lines if line.startswith("used_memory:"))

    def footprint(self):
        """Anonymous and shared memory and swap."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as rollup:
            return 1024 * sum(int(line.split()[1]) for line in rollup
                              if line.startswith(("Anonymous:", "Pss_Shmem:", "Swap:")))


def measure(server, way, keys):
    start, used = server.footprint(), server.used()
    server.send(("SET", f"key:{i}", "v" * (1 + i * 7919 % 500)) for i in range(keys))
    server.send(("HSET", f"hash:{i // 50}", f"field:{i}", "x" * (i % 100)) for i in range(keys))
    most = server.footprint() - start
    server.send(("DEL", f"key:{i * 7919 % keys}") for i in range(keys))
    server.send(("DEL", f"hash:{i}") for i in range(keys // 50))
    if server.ask("dbsize") != "0\n":
        raise Wrong(f"keys are left: {server.ask('dbsize')}")
    second_passes(server.process.pid)
    for seconds in (0, 60) if way == "minute" else (0,):
        time.sleep(seconds)
        left = server.footprint() - start
        limit = int(1.05 * max(server.used() - used, 0)) + 4 * MIB
        print(f"most={most} kept={left} limit={limit}")
        if left > limit and way != "figures":
            raise Wrong(f"{left:,} bytes are kept, more than {limit:,}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library")
    parser.add_argument("way", choices=("second", "minute", "figures"))
    parser.add_argument("keys", type=int)
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("skipped: redis-server is not installed")
        return SKIPPED
    try:
        with tempfile.TemporaryDirectory() as folder, \
                Server(options.library, folder) as server:
            measure(server, options.way, options.keys)
    except Wrong as what:
        print(f"redis-server: {what}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
