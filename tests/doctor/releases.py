"""The doctor's tests on the real libc of other Debian releases, which are fetched and
unpacked by apt into a folder of their own; nothing is installed.  Skipped where
there is no apt or no network.

    releases.py COMMAND TARGET FOLDER
"""

import glob
import os
import subprocess
import sys

SKIPPED = 77
HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = ("bullseye", "trixie", "sid")
CASES = ("Articles", "Heaps", "Chance.test_few_random_programs")


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
        file.write(f"deb [signed-by={KEYS}] http://deb.debian.org/debian {suite} main\n")
    apt(folder, "apt-get", "-q", "update")
    for package in ("libc6", "libc6-dev"):
        if not glob.glob(f"{folder}/{package}_*.deb"):
            shown = apt(folder, "apt-cache", "madison", package).stdout.splitlines()
            if not shown or apt(folder, "apt-get", "-q", "download", package + "=" +
                                shown[0].split("|")[1].strip()).returncode:
                return None
        subprocess.run(["dpkg-deb", "-x", *glob.glob(f"{folder}/{package}_*.deb"), root],
                       check=True)
    return root


def find(root, name):
    return os.path.realpath(glob.glob(f"{root}/**/{name}", recursive=True)[0])


def link(root, folder):
    """The target against this libc alone, with its names' old versions."""
    include, program = f"{root}/usr/include", os.path.join(folder, "target")
    compiler = subprocess.run(["gcc", "-print-file-name=include"], check=True, text=True,
                              capture_output=True).stdout.strip()
    libraries = [find(root, name) for name in ("libc.so.6", "libpthread.so.0", "libc_nonshared.a",
                                               "ld-linux-x86-64.so.2")]
    subprocess.run(
        ["gcc", "-O2", "-fno-builtin", "-D_GNU_SOURCE", "-nostdinc", "-isystem", compiler,
         "-isystem", include, "-isystem", include + "/x86_64-linux-gnu", "-idirafter",
         "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu", "-nostdlib", "-no-pie",
         "-o", program, find(root, "crt1.o"), find(root, "crti.o"), *glob.glob(HERE + "/target*.c"),
         "-I" + os.path.dirname(HERE),
         "-Wl,--start-group", *libraries, "-lgcc", "-Wl,--end-group", find(root, "crtn.o")],
        check=True)
    return program


def wrap(root, folder, program):
    """A command that runs the target on this libc, as the same process."""
    loader = find(root, "ld-linux-x86-64.so.2")
    path = os.path.join(folder, "run")
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nexec {loader} --library-path {os.path.dirname(loader)} '
                   f'{program} "$@"\n')
    os.chmod(path, 0o755)
    return path


def main():
    command, target, folder = map(os.path.abspath, sys.argv[1:])
    failed, ran = [], 0
    for suite in SUITES:
        place = os.path.join(folder, suite)
        root = unpack(suite, place) if os.path.exists(KEYS) else None
        if not root:
            print(f"{suite}: cannot be had here")
            continue
        # Newer ones run what was linked with ours.
        program = link(root, place) if suite == "bullseye" else target
        ran += 1
        if subprocess.run([sys.executable, "-B", HERE + "/test_doctor.py", command,
                           wrap(root, place, program), *CASES]).returncode:
            failed.append(suite)
    print(f"{ran} releases, failed: {failed}")
    return 1 if failed else 0 if ran else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
