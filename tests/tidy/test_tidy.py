"""
Sees every rule of tidy red: a small tidy tree, and for each rule the same tree
with one thing wrong, for which tidy must have exactly one complaint.

    test_tidy.py C_COMPILER
"""

import os
import subprocess
import sys
import tempfile

import tidy

HEADER = """/*
 * {purpose}  Layer: {layer}.
 */
#ifndef {guard}
#define {guard}
{body}
#endif
"""


def header(layer, guard, body, purpose="Things."):
    return HEADER.format(layer=layer, guard=guard, body=body, purpose=purpose)


TIDY_TREE = {
    "include/cede/cede.h": "/* Public. */\n#ifndef CEDE_H\n#define CEDE_H\n"
                           "int cede_one(void);\n#endif\n",
    "src/api/exports.map": "{\nglobal:\n\t/* ours */\n\tcede_one;\n\tmalloc;\nlocal:\n\t*;\n};\n",
    "src/api/malloc.c": '#include <stdio.h>\n#include "cede/cede.h"\n#include "heap/bins.h"\n\n'
                        "int cede_one(void)\n{\n\treturn 1;\n}\n\n"
                        'void *allot(size_t n) __asm__("malloc");\n\n'
                        "void *allot(size_t n)\n{\n\treturn bin_take(n);\n}\n",
    "model/model.c": '#include "model/model.h"\n\nint model_one(void)\n{\n\treturn 1;\n}\n',
    "model/model.h": header("model", "MODEL_MODEL_H", "int model_one(void);"),
    "readers/live.c": '#include <fcntl.h>\n#include "model/model.h"\n#include "readers/live.h"\n',
    "readers/live.h": header("readers", "READERS_LIVE_H", "void live_read(void);"),
    "src/base/fmt.c": '#include "base/fmt.h"\n#include <string.h>\n\n'
                      "static void helper(void)\n{\n}\n\nint fmt_into(char *to,\n             int n)\n"
                      "{\n\treturn n;\n}\n",
    "src/base/fmt.h": header("base", "BASE_FMT_H", "int fmt_into(char *to, int n);\nvoid cut(int n);"),
    "src/heap/bins.c": '#include "heap/bins.h"\n#include "os/os.h"\n\n'
                       "__attribute__((cold)) void *bin_take(size_t n)\n{\n\treturn 0;\n}\n",
    "src/heap/bins.h": header("heap", "HEAP_BINS_H", "void *bin_take(size_t n);",
                              "Bins.\n *"),
    "src/os/os.c": '#include "os/os.h"\n#include <sys/mman.h>\n\nvoid os_map(void)\n{\n}\n',
    "src/os/os.h": header("os", "OS_OS_H", "void os_map(void);"),
}

FMT_C = TIDY_TREE["src/base/fmt.c"]
BINS_C = TIDY_TREE["src/heap/bins.c"]
BINS_H = TIDY_TREE["src/heap/bins.h"]

# What is wrong, the file that differs, its text, a part of the complaint.
BREACHES = [
    ("a layer above", "src/base/fmt.c", '#include "os/os.h"\n' + FMT_C,
     "src/base/fmt.c:1: base/ may not include os/os.h"),
    ("the system below a calculator", "src/purge/decay.c", '#include "os/os.h"\n',
     "purge/ may not include os/os.h"),
    ("the public header below introspect", "src/heap/bins.c", "#include <cede/cede.h>\n" + BINS_C,
     "heap/ may not include cede/cede.h"),
    ("the command", "src/api/main.c", '#include "cli/main.h"\n', "may not include cli/main.h"),
    ("a path upwards", "src/api/up.c", '#include "../heap/bins.h"\n', "not a path inside src/"),
    ("a folder that is no layer", "src/misc/a.c", "\n", "misc/ is not a layer"),
    ("stdio in base", "src/base/fmt.c", "#include <stdio.h>\n" + FMT_C, "base needs no system"),
    ("a system call in base", "src/base/fmt.c", "#include <unistd.h>\n" + FMT_C,
     "base needs no system"),
    ("a system call in heap", "src/heap/bins.c", "#include <sys/mman.h>\n" + BINS_C,
     "system calls are in os/"),
    ("raw system calls in heap", "src/heap/bins.c", '#include "os/syscall.h"\n' + BINS_C,
     "system calls are in os/"),
    ("stdio in heap", "src/heap/bins.c", "#include <stdio.h>\n" + BINS_C, "it allocates"),
    ("the allocator outside", "readers/live.c", '#include "os/os.h"\n',
     "readers/ may not include os/os.h: it is the allocator's"),
    ("a reader in the model", "model/model.c", '#include "readers/live.h"\n',
     "model/ may not include readers/live.h"),
    ("the command in a reader", "readers/live.c", '#include "cli/command.h"\n',
     "readers/ may not include cli/command.h"),
    ("no layer outside", "model/model.h", header("base", "MODEL_MODEL_H", "int model_one(void);"),
     "does not say 'Layer: model'"),
    ("a name without its module outside", "model/model.c",
     '#include "model/model.h"\n\nint model_one(void)\n{\n\treturn 1;\n}\n\nint two(void)\n{\n}\n',
     "two is not static, yet no header declares it"),
    ("a function without a header", "src/base/fmt.c", FMT_C + "\nvoid fmt_x(void)\n{\n}\n",
     "fmt.c:14: fmt_x is not static, yet no header declares it"),
    ("a name without its module", "src/base/fmt.c", FMT_C + "\nvoid cut(int n)\n{\n}\n",
     "cut does not bear its module's name (base, fmt)"),
    ("no opening comment", "src/heap/bins.h", BINS_H.split("*/\n")[1],
     "a header opens with a comment"),
    ("no guard", "src/heap/bins.h", BINS_H.replace("#ifndef", "#ifdef"), "no header guard"),
    ("a guard used twice", "src/heap/bins.h", BINS_H.replace("HEAP_BINS_H", "OS_OS_H"),
     "the guard OS_OS_H is that of"),
    ("no layer", "src/heap/bins.h", BINS_H.replace("Layer: heap", "Layer: base"),
     "does not say 'Layer: heap'"),
    ("something left to do", "docs/a.md", "one\nTO" "DO: two\n", "docs/a.md:2:"),
    ("a path of one machine", "tests/run", "cd /wo" "rk/here\n", "tests/run:1:"),
    ("a function that is not exported", "include/cede/more.h",
     "/* More. */\n#ifndef MORE_H\n#define MORE_H\nint cede_two(int);\n#endif\n",
     "cede_two is not in src/api/exports.map"),
    ("a version node with a name", "src/api/exports.map",
     "CEDE_1 " + TIDY_TREE["src/api/exports.map"], "must have no name"),
]

# What is wrong with a library, its source, the linker's options, the complaint.
GOOD_LIBRARY = "void *malloc(unsigned long n) { (void)n; return 0; } int cede_one(void) { return 1; }"
LIBRARY_BREACHES = [
    ("nothing", GOOD_LIBRARY, ["-Wl,-z,nodelete"], None),
    ("a missing symbol", "int cede_one(void) { return 1; }", ["-Wl,-z,nodelete"],
     "does not export malloc"),
    ("a symbol too many", GOOD_LIBRARY + " int two;", ["-Wl,-z,nodelete"], "exports two"),
    ("another library", GOOD_LIBRARY, ["-Wl,-z,nodelete", "-Wl,--no-as-needed", "-lm"],
     "needs libm.so.6"),
    ("dlclose", GOOD_LIBRARY, [], "may be unmapped"),
    ("the general model of thread-local data",
     GOOD_LIBRARY + " __attribute__((visibility(\"hidden\"))) __thread int t;"
     " __attribute__((visibility(\"hidden\"))) int *f(void) { return &t; }",
     ["-Wl,-z,nodelete", "-ftls-model=global-dynamic", "-fPIC"], "not initial-exec"),
]


def write_tree(root, files):
    for path, text in files.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def judge(files, library=None):
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, files)
        return tidy.complaints(root, library)


def judge_library(compiler, source, options):
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "lib.so")
        subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library, *options],
                       input=source, text=True, check=True)
        return judge(TIDY_TREE, library)


def main():
    compiler = sys.argv[1]
    results = [("nothing", judge(TIDY_TREE), None)]
    results += [(wrong, judge({**TIDY_TREE, path: text}), expected)
                for wrong, path, text, expected in BREACHES]
    results += [(wrong, judge_library(compiler, source, options), expected)
                for wrong, source, options, expected in LIBRARY_BREACHES]

    misses = 0
    for wrong, found, expected in results:
        well = not found if expected is None else len(found) == 1 and expected in found[0]
        print(f"{'well' if well else 'MISS'}: {wrong}: {found}")
        misses += not well
    empty = judge({"README": "\n"})
    if sum("read no" in line for line in empty) != 3:
        print(f"MISS: an empty tree: {empty}")
        misses += 1
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
