"""The doctor's tests on the real libc of other Debian releases, which are fetched and
unpacked by apt into a folder of their own; nothing is installed.  Skipped where
there is no apt or no network.

    releases.py COMMAND FOLDER [ROOT ...]

With roots, the tests run on the libc in each of these instead: a folder that holds the
library, its loader, its headers and what links with it, wherever they lie in it.
"""

import glob
import os
import re
import subprocess
import sys

import support
from support import Target

SKIPPED = 77
NEWEST = (2, 43)             # that the doctor knows
HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = ("bullseye", "bookworm", "trixie", "sid", "experimental")
CASES = ("Articles", "Heaps", "Chance.test_few_random_programs")
LEAKS = ("Lost", "Reached")
TRIM = ("Trims", "Waits.test_sleep", "Hindered.test_inside_malloc")


def apt(folder, *arguments):
    options = {"Dir::Etc::sourcelist": f"{folder}/sources.list", "Dir::Etc::sourceparts": "-",
               "Dir::State::lists": f"{folder}/lists", "Dir::Cache": f"{folder}/cache",
               "Acquire::Languages": "none", "APT::Sandbox::User": "root"}
    return subprocess.run(
        [arguments[0], *(f"-o{name}={value}" for name, value in options.items()), *arguments[1:]],
        cwd=folder, text=True, capture_output=True)


def unpack(suite, folder):
    """The release's libc and what links with it, or None when it cannot be had."""
    root = os.path.join(folder, "root")
    for path in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(folder, path), exist_ok=True)
    with open(os.path.join(folder, "sources.list"), "w") as file:
        # The one has what is newer than in the other, and little else.
        for name in (suite, "sid") if suite == "experimental" else (suite,):
            file.write(f"deb [signed-by={KEYS}] http://deb.debian.org/debian {name} main\n")
    apt(folder, "apt-get", "-q", "update")
    for package in ("libc6", "libc6-dev", "libgcc-s1"):
        if not glob.glob(f"{folder}/{package}_*.deb"):
            shown = apt(folder, "apt-cache", "madison", package).stdout.splitlines()
            if not shown or apt(folder, "apt-get", "-q", "download", package + "=" +
                                shown[0].split("|")[1].strip()).returncode:
                return None
        subprocess.run(["dpkg-deb", "-x", *glob.glob(f"{folder}/{package}_*.deb"), root],
                       check=True)
    return root


def find(root, name):
    found = glob.glob(f"{root}/**/{name}", recursive=True)
    return os.path.realpath(found[0]) if found else None


def version(root):
    with open(find(root, "libc.so.6"), "rb") as file:
        return tuple(map(int, re.search(rb"GNU C Library .*version (\d+)\.(\d+)",
                                        file.read()).groups()))


def link(root, program, sources, kind="-pie"):
    """A program against this libc alone, with its names' old versions, that runs on it."""
    include = f"{root}/usr/include"
    compiler = subprocess.run(["gcc", "-print-file-name=include"], check=True, text=True,
                              capture_output=True).stdout.strip()
    loader = find(root, "ld-linux-x86-64.so.2")
    folders = {os.path.dirname(find(root, name) or loader)
               for name in ("libc.so.6", "libpthread.so.0", "libgcc_s.so.1")}
    names = ["libc.so.6", "libpthread.so.0", "libc_nonshared.a", "ld-linux-x86-64.so.2"] \
        if kind == "-pie" else ["libpthread.a", "libc.a"]
    begin = {"-pie": "Scrt1.o", "-static-pie": "rcrt1.o", "-static": "crt1.o"}[kind]
    # What our compiler unwinds with, which nobody does here.
    lacking = [] if version(root) >= (2, 35) else ["-Wl,--defsym=_dl_find_object=0"]
    dynamic = [f"-Wl,--dynamic-linker,{loader},--disable-new-dtags,-rpath,{':'.join(folders)}"] \
        if kind == "-pie" else []
    subprocess.run(
        ["gcc", "-O2", "-fno-builtin", "-D_GNU_SOURCE", "-nostdinc", "-isystem", compiler,
         "-isystem", include, "-isystem", include + "/x86_64-linux-gnu", "-idirafter",
         "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu", "-nostdlib", kind,
         "-fno-pie" if kind == "-static" else "-fPIE",
         "-o", program, find(root, begin), find(root, "crti.o"), *sources,
         "-I" + os.path.dirname(HERE), f"-I{HERE}/../../include", "-Wl,--start-group",
         *filter(None, (find(root, name) for name in names)), "-lgcc", "-lgcc_eh",
         "-Wl,--end-group", find(root, "crtn.o"), *lacking, *dynamic],
        check=True)
    return program


def run(script, *arguments, **settings):
    return subprocess.run([sys.executable, "-B", f"{HERE}/{script}", *arguments],
                          env={**os.environ, **settings}).returncode == 0


def is_refused(command, target):
    """A layout that nobody has looked at is no basis for a verdict."""
    with Target(target, "list", 100) as process:
        result = support.run(command, process.pid)
    print(result.stderr, end="")
    return result.returncode == 1 and "this version of cede does not know" in result.stderr


def passes(command, root, folder):
    os.makedirs(folder, exist_ok=True)
    sources = sorted(glob.glob(HERE + "/target*.c"))
    target = link(root, folder + "/target", sources)
    if version(root) > NEWEST:
        return is_refused(command, target)
    leaker = link(root, folder + "/leaker", [HERE + "/leaker.c"])
    static = {"DOCTOR_STATIC_TARGET": link(root, folder + "/static", sources, "-static")}
    if find(root, "rcrt1.o"):
        static["DOCTOR_STATIC_PIE_TARGET"] = link(root, folder + "/static-pie", sources,
                                                  "-static-pie")
    checking = find(root, "libc_malloc_debug.so.0") or ""
    return all([run("test_doctor.py", command, target, *CASES, DOCTOR_MALLOC_DEBUG=checking,
                    **static),
                run("test_trim.py", command, target, *TRIM, **static),
                run("test_leaks.py", command, leaker, *LEAKS, DOCTOR_TARGET=target)])


def roots(folder, given):
    """Each with its name."""
    if given:
        yield from ((os.path.basename(root), root) for root in given)
        return
    for suite in SUITES:
        root = unpack(suite, os.path.join(folder, suite)) if os.path.exists(KEYS) else None
        if root:
            yield suite, root
        else:
            print(f"{suite}: cannot be had here")


def main():
    command, folder, *given = map(os.path.abspath, sys.argv[1:])
    failed, ran = [], []
    for name, root in roots(folder, given):
        ran.append(f"{name}: {'.'.join(map(str, version(root)))}")
        print(f"--- {ran[-1]}", flush=True)
        if not passes(command, root, os.path.join(folder, name)):
            failed.append(name)
    print(f"{ran}, failed: {failed}")
    return 1 if failed else 0 if ran else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
