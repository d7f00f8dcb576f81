"""
Sees every rule of pages.py red: the pages as they are, for which it must have no
complaint, and with one thing wrong, for which it must have exactly one.

    test_pages.py SOURCE_ROOT COMMAND
"""

import os
import shutil
import sys
import tempfile
import unittest

import pages

ROOT = COMMAND = None
DOCTOR, OPTIONS, HEADER = "man/cede-doctor.1", "man/cede-options.7", "include/cede/cede.h"

# The file that differs, what is replaced in it, by what, a part of the complaint.
BREACHES = [
    (DOCTOR, ".It Fl -leaks\n", ".It Fl -leeks\n", None),
    (DOCTOR, ".It Fl -json\nWrite JSON", ".It Fl h , Fl -json\nWrite JSON",
     "cede-doctor.1: option json"),
    (DOCTOR, "Fl -watch Ar seconds", "Fl -watch Ar minutes", "cede-doctor.1: option watch"),
    (DOCTOR, ".Fl -compare\n.Ar file file", ".Ar file file", "the synopsis lacks --compare"),
    (DOCTOR, "Unset: 25.", "Unset: 26.", "cede-doctor.1: option share"),
    (DOCTOR, "cede-comparison/1", "cede-comparison/0", "writes the schema cede-comparison/0"),
    (DOCTOR, ".It 12\n", ".It 14\n", None),
    (DOCTOR, "--leaks $(pidof", "--leeks $(pidof", "unknown option --leeks"),
    (DOCTOR, "cede doctor --watch", "cede nurse --watch", "unknown command"),
    (DOCTOR, ".Nd tell why", ".Nd ask why", "cede-doctor.1: describes"),
    (DOCTOR, "Xr cede-stats 1", "Xr cede-status 1", "refers to cede-status(1)"),
    (DOCTOR, "docs/doctor.md", "docs/nurse.md", "refers to docs/nurse.md"),
    (DOCTOR, ".El\n.Sh FILES", ".Sh FILES", "mandoc: "),
    ("man/cede-map.1", "$ cede map -o", "cede map -o", "cede-map.1: no example"),
    ("man/cede.1", ".It Xr cede-map 1\ndraw", ".It Xr cede-map 1\npaint", "cede.1: command map"),
    ("man/cede.1", "Xr cede-map 1\ndraw the heap of a process\n.It ", "",
     "cede.1: lacks command map"),
    ("man/cede.1", ".It Ev PATH\n", ".It Ev PATHS\n", None),
    ("cli/library.c", 'getenv("CEDE_LIBRARY")', 'getenv("CEDE_LIB")', None),
    (OPTIONS, ".It Cm huge Ns = Ns Cm on | off", ".It Cm huge Ns = Ns Cm on | maybe",
     "cede-options.7: option huge"),
    (OPTIONS, "Pq Ev MALLOC_ARENA_MAX , ", "Pq ", "cede-options.7: tunable arena_max"),
    ("src/base/settings.c", "option_set_huge },\n",
     'option_set_huge },\n\t{ "new", "on or off", option_set_new },\n', None),
    ("docs/tuning.md", "`retain_max`", "retain_max", "docs/tuning.md: lacks retain_max"),
    ("man/cede.3", '.Fn cede_release "size_t max_bytes"', '.Fn cede_release "int max_bytes"',
     "cede.3: function cede_release"),
    (HEADER, "size_t cede_release(size_t max_bytes);",
     "size_t cede_release(size_t max_bytes);\nint cede_new(void);",
     "cede.3: lacks function cede_new"),
    (HEADER, "purge_ns;", "purge_ns;\n\tuint64_t new_bytes;", "cede.3: lacks field new_bytes"),
    (HEADER, "CEDE_PURGER_NONE = 0", "CEDE_PURGER_NEVER = 0", "cede.3: lacks CEDE_PURGER_NEVER"),
]

# The same of the help that the command prints.
HELP_BREACHES = [
    ("map", "  cede map -o", "  map -o", "cede map --help: no example"),
    ("stats", "cede stats --seconds", "cede stats --minutes", "unknown option --minutes"),
    ("lab", "  -h, --help", "      --new=NUMBER  New\n  -h, --help",
     "cede-lab.1: lacks option new"),
    ("doctor", "(default: 25)", "(default: 50)", "cede-doctor.1: option share"),
    ("doctor", "13 most", "14 most", None),
]


class Pages(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("cli", "docs", "include", "man", "src/base"):
            shutil.copytree(os.path.join(ROOT, folder), os.path.join(self.root, folder))
        shutil.copy(os.path.join(ROOT, "README.md"), self.root)
        self.texts = pages.helps(COMMAND)

    @staticmethod
    def put(file, text):
        file.seek(0)
        file.write(text)
        file.truncate()
        file.flush()

    def complaints(self):
        return pages.complaints(self.root, self.texts)

    def assert_one(self, part):
        found = self.complaints()
        # A name instead of another is lacking and one too many; a setting lacks in two places.
        self.assertEqual(len(found), 1 if part else 2, found)
        self.assertIn(part or "lacks", "\n".join(found))

    def test_as_they_are(self):
        self.assertEqual(self.complaints(), [])

    def test_breaches(self):
        for path, old, new, part in BREACHES:
            with self.subTest(path=path, new=new), open(os.path.join(self.root, path), "r+",
                                                        encoding="utf-8") as file:
                text = file.read()
                self.assertIn(old, text)
                self.put(file, text.replace(old, new))
                try:
                    self.assert_one(part)
                finally:
                    self.put(file, text)

    def test_breaches_of_help(self):
        for name, old, new, part in HELP_BREACHES:
            with self.subTest(name=name, new=new):
                text = self.texts[name]
                self.assertIn(old, text)
                self.texts[name] = text.replace(old, new)
                self.assert_one(part)
                self.texts[name] = text

    def test_page_missing(self):
        os.unlink(os.path.join(self.root, "man/cede-lab.1"))
        found = [line for line in self.complaints() if "refers to" not in line]
        self.assertEqual(found, ["cede-lab.1: no such page"])

    def test_page_too_many(self):
        shutil.copy(os.path.join(self.root, "man/cede-map.1"),
                    os.path.join(self.root, "man/cede-old.1"))
        self.assert_one("cede-old.1: describes")


if __name__ == "__main__":
    ROOT, COMMAND = map(os.path.abspath, sys.argv[1:3])
    del sys.argv[1:3]
    unittest.main()
