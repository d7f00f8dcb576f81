"""
Tidy: the rules of the house that a machine can judge.

    tidy.py SOURCE_ROOT [--library libcede.so]

Prints one line for each breach, then the longest files and functions (for
people to judge; length fails nothing).  Exits 1 when a rule is broken, or when
there was nothing to read.
"""

import argparse
import ast
import os
import re
import subprocess
import sys

# What each folder of src/ may include.  purge/ is a calculator: it knows nothing
# of the system.
MAY_INCLUDE = {
    "base": {"base"},
    "os": {"base", "os"},
    "purge": {"base", "purge"},
    "heap": {"base", "os", "purge", "heap"},
    "introspect": {"base", "os", "purge", "heap", "introspect", "cede"},
    "api": {"base", "os", "purge", "heap", "introspect", "api", "cede"},
}

# The same of what reads other processes, beside the allocator: none of it knows src/,
# and readers know of the allocator what everybody may.
OUTER_MAY_INCLUDE = {
    "model": {"model"},
    "readers": {"model", "readers", "cede"},
    "inject": {"model", "readers", "inject", "cede"},
    "doctor": {"model", "doctor"},
}

# base/ has no system calls and no stdio: all that it may ask of libc.
BASE_MAY_ASK = {
    "float.h", "limits.h", "malloc.h", "stdalign.h", "stdarg.h", "stdbool.h",
    "stddef.h", "stdint.h", "stdnoreturn.h", "string.h",
}

# Headers that make system calls; only os/ may have them.
SYSTEM_HEADERS = re.compile(
    r"(asm|linux)/.*|sys/(?!types\.h$|cdefs\.h$).*|os/syscall\.h"
    r"|fcntl\.h|poll\.h|sched\.h|signal\.h|spawn\.h|time\.h|unistd\.h")

# stdio allocates, so it has no place where allocating is implemented;
# malloc_info, whose argument is a FILE, is the exception.
STDIO_FOLDERS = {"api"}

# Spelled in pieces, so that this file does not break its own rule.
FORBIDDEN = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|(?<![\w.])/wo" r"rk/")

CODE_FOLDERS = ("src", "include", *OUTER_MAY_INCLUDE, "cli", "tests", "bench")
LIBRARIES = {"libc.so.6", "ld-linux-x86-64.so.2"}
COMMENT_OR_STRING = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


class Tree:
    """The text files below a root, by path relative to it."""

    def __init__(self, root):
        self.files = {}
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(
                s for s in subfolders
                if s not in (".git", "__pycache__")
                and not (folder == root and s == "build"))
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    with open(path, encoding="utf-8") as f:
                        self.files[os.path.relpath(path, root)] = f.read()
                except (UnicodeDecodeError, OSError):
                    continue

    def below(self, *folders, suffixes):
        return {path: text for path, text in self.files.items()
                if path.split("/")[0] in folders and path.endswith(suffixes)}


def without_comments(text, strings_too=False):
    """The same lines without comments (and with empty strings)."""
    def blank(match):
        piece = match.group()
        if piece[0] == "/":
            return "\n" * piece.count("\n") or " "
        return piece[0] * 2 if strings_too else piece
    return COMMENT_OR_STRING.sub(blank, text)


def functions(text):
    """Yields (name, first line, last line, is static) of each C function."""
    lines = without_comments(text, strings_too=True).split("\n")
    for number, line in enumerate(lines):
        if not line.startswith("{"):
            continue
        first = number
        while first > 0 and lines[first - 1].strip() \
                and not re.search(r"[;}]\s*$|^#", lines[first - 1]):
            first -= 1
        head = re.sub(r"__(attribute|asm)__\s*\(\(?.*?\)\)?", "",
                      " ".join(lines[first:number]))
        name = re.search(r"(\w+)\s*\(", head)
        if name is None:
            continue
        last = next((n for n in range(number, len(lines)) if lines[n].startswith("}")),
                    len(lines) - 1)
        yield name.group(1), first + 1, last + 1, "static" in head.split()


def includes(text):
    """Yields (line, name) of each #include."""
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1)


def check_includes(tree):
    for path, text in tree.below("src", suffixes=(".c", ".h")).items():
        layer = path.split("/")[1]
        if layer not in MAY_INCLUDE:
            yield f"{path}:1: {layer}/ is not a layer"
            continue
        for line, name in includes(text):
            where = f"{path}:{line}: {layer}/"
            folder = name.split("/")[0]
            ours = "src/" + name in tree.files or "include/" + name in tree.files
            if ours and folder not in MAY_INCLUDE[layer]:
                yield f"{where} may not include {name}: {folder}/ is a layer above"
            elif re.match(r"\.\.?/|(cli|tests|bench|src)/", name):
                yield f"{where} may not include {name}: not a path inside src/"
            elif layer == "base" and not ours and name not in BASE_MAY_ASK:
                yield f"{where} may not include {name}: base needs no system"
            elif layer != "os" and SYSTEM_HEADERS.fullmatch(name):
                yield f"{where} may not include {name}: system calls are in os/"
            elif layer not in STDIO_FOLDERS and name == "stdio.h":
                yield f"{where} may not include stdio.h: it allocates"


def check_outer_includes(tree):
    for path, text in tree.below(*OUTER_MAY_INCLUDE, suffixes=(".c", ".h")).items():
        layer = path.split("/")[0]
        for line, name in includes(text):
            folder = name.split("/")[0]
            if "src/" + name in tree.files or re.match(r"\.\.?/|src/", name):
                yield f"{path}:{line}: {layer}/ may not include {name}: it is the allocator's"
            elif (name in tree.files or folder in ("cli", "tests", "cede")) \
                    and folder not in OUTER_MAY_INCLUDE[layer]:
                yield f"{path}:{line}: {layer}/ may not include {name}: {folder}/ is above or beside"


def nouns(path):
    """A module's names, one of which is in the name of each of its functions."""
    folder, file = path.split("/")[-2:]
    stem = file.split(".")[0]
    return {folder, stem, stem.removesuffix("s")}


def is_exported(name, code, exports):
    """By its own name, or by one that its declaration gives the linker."""
    labels = re.findall(rf'\b{name}\s*\([^;{{]*"(\w+)"', code)
    return name.startswith("cede_") or name in exports or bool(exports & set(labels))


def check_names(tree, exports):
    """A function that is not static is exported or bears the name of its module."""
    headers = {path: without_comments(text)
               for path, text in tree.below("src", *OUTER_MAY_INCLUDE, suffixes=(".h",)).items()}
    for path, text in tree.below("src", *OUTER_MAY_INCLUDE, suffixes=(".c",)).items():
        for name, line, _, static in functions(text):
            if static or is_exported(name, text, exports):
                continue
            declaration = re.compile(rf"^[A-Za-z_][\w\s*()]*?\b{name}\s*\(", re.M)
            declaring = [h for h, code in headers.items() if declaration.search(code)]
            if not declaring:
                yield f"{path}:{line}: {name} is not static, yet no header declares it"
            allowed = {noun for file in [path, *declaring] for noun in nouns(file)}
            if declaring and not any(re.search(f"(^|_){noun}", name) for noun in allowed):
                yield (f"{path}:{line}: {name} does not bear its module's name"
                       f" ({', '.join(sorted(allowed))})")


def check_headers(tree):
    guards = {}
    for path, text in tree.below(*CODE_FOLDERS, suffixes=(".h",)).items():
        folder = path.split("/")[0]
        layer = path.split("/")[1] if folder == "src" else \
            folder if folder in OUTER_MAY_INCLUDE else None
        opening = re.sub(r"\s*\n \*\s*", " ", text.split("*/")[0])
        if not text.startswith("/*"):
            yield f"{path}:1: a header opens with a comment: purpose, layer, ownership"
        elif layer and not re.search(rf"\bLayer: {layer}\b", opening):
            yield f"{path}:1: the opening comment does not say 'Layer: {layer}'"
        directives = re.findall(r"^#\s*(\w+)\s+(\w+)", without_comments(text), re.M)
        guard = directives[0][1] if directives else ""
        if directives[:2] != [("ifndef", guard), ("define", guard)]:
            yield f"{path}:1: no header guard"
        elif guard in guards:
            yield f"{path}:1: the guard {guard} is that of {guards[guard]}"
        guards.setdefault(guard, path)


def check_words(tree):
    for path, text in tree.files.items():
        for number, line in enumerate(text.split("\n"), 1):
            word = FORBIDDEN.search(line)
            if word:
                yield f"{path}:{number}: '{word.group()}' has no place here"


def listed_exports(tree):
    """The names in the linker's version script."""
    script = without_comments(tree.files.get("src/api/exports.map", ""))
    return set(re.findall(r"(\w+);", script.split("local:")[0]))


def check_export_list(tree, exports):
    """Each function of the public header is on the list."""
    script = without_comments(tree.files.get("src/api/exports.map", ""))
    if not re.match(r"\s*\{\s*global:", script):
        yield "src/api/exports.map:1: the version node must have no name"
    for path, text in tree.below("include", suffixes=(".h",)).items():
        for name in sorted(set(re.findall(r"\b(cede_\w+)\s*\(", without_comments(text)))):
            if name not in exports:
                yield f"{path}:1: {name} is not in src/api/exports.map"


def output_of(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def check_library(library, exports):
    """What the linker made of it."""
    defined = {line.split()[-1]
               for line in output_of("nm", "-D", "--defined-only", library).splitlines()}
    for name in sorted(exports - defined):
        yield f"{library}: does not export {name}"
    for name in sorted(defined - exports):
        yield f"{library}: exports {name}, which is not in src/api/exports.map"

    dynamic = output_of("readelf", "-dW", library)
    for needed in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
        if needed not in LIBRARIES:
            yield f"{library}: needs {needed}; it may need libc alone"
    if "NODELETE" not in dynamic:
        yield f"{library}: may be unmapped by dlclose (no NODELETE)"

    if "__tls_get_addr" in output_of("nm", "-D", "--undefined-only", library) \
            or re.search(r"R_X86_64_(DTPMOD64|TLSDESC)", output_of("readelf", "-rW", library)):
        yield f"{library}: has thread-local data that is not initial-exec"


def complaints(root, library=None):
    """All breaches, as lines of text."""
    tree = Tree(root)
    exports = listed_exports(tree)
    found = []
    for what, sources in (("source", tree.below("src", suffixes=(".c",))),
                          ("header", tree.below("src", "include", suffixes=(".h",))),
                          ("export", exports)):
        if not sources:
            found.append(f"{root}: read no {what}")
    found += check_includes(tree)
    found += check_outer_includes(tree)
    found += check_names(tree, exports)
    found += check_headers(tree)
    found += check_words(tree)
    found += check_export_list(tree, exports)
    if library:
        found += check_library(library, exports)
    return found


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno, node.end_lineno, False


def print_longest(root):
    sources = Tree(root).below(*CODE_FOLDERS, suffixes=(".c", ".h", ".cc", ".py"))
    files = [(text.count("\n"), path) for path, text in sources.items()]
    lengths = []
    for path, text in sources.items():
        parse = python_functions if path.endswith(".py") else functions
        lengths += [(last - first + 1, f"{path}:{first}: {name}")
                    for name, first, last, _ in parse(text)]
    for title, rows in (("files", files), ("functions", lengths)):
        print(f"longest {title} of {len(rows)}:")
        for length, name in sorted(rows, reverse=True)[:10]:
            print(f"{length:6} {name}")


def main():
    parser = argparse.ArgumentParser(description="The rules that a machine can judge.")
    parser.add_argument("root")
    parser.add_argument("--library", help="the built libcede.so")
    arguments = parser.parse_args()

    found = complaints(arguments.root, arguments.library)
    print_longest(arguments.root)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
