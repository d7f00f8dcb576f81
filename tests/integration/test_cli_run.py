"""cede run: what it starts, what it refuses and with which words; the command's
exit codes.

    test_cli_run.py COMMAND        the built command, beside its library
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import unittest

COMMAND = None
JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
NOBODY = pwd.getpwnam("nobody").pw_uid

# Prints how the loader saw it, and whether cede is mapped.
WITNESS = """import os
print(os.environ.get("LD_PRELOAD"), os.environ.get("CEDE_OPTIONS"),
      "libcede.so" in open("/proc/self/maps").read())"""


def cede(*arguments, environment=None):
    inherited = {name: value for name, value in os.environ.items()
                 if name not in ("LD_PRELOAD", "CEDE_OPTIONS", "CEDE_LIBRARY")}
    return subprocess.run([COMMAND, *arguments], env={**inherited, **(environment or {})},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def script(self, text):
        path = self.path("script")
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
        return path

    def true_with(self, change):
        """A copy of /bin/true with its bytes changed."""
        path = self.path("program")
        with open("/bin/true", "rb") as file:
            content = bytearray(file.read())
        change(content)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o755)
        return path

    def compiled(self, text, *options):
        path = self.path("program")
        source = self.path("program.c")
        with open(source, "w") as file:
            file.write(text)
        subprocess.run(["gcc", source, "-o", path, *options], check=True)
        return path

    def assert_says(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)


class Start(Case):
    def witness(self, *options, environment=None):
        result = cede("run", *options, "--", "/usr/bin/env", "python3", "-c", WITNESS,
                      environment=environment)
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.returncode, 0)
        preload, options, mapped = result.stdout.split()
        self.assertEqual(mapped, "True")
        return preload, options

    def test_preloads_the_library_beside_it(self):
        preload, _ = self.witness()
        self.assertTrue(os.path.samefile(preload, os.path.join(
            os.path.dirname(COMMAND), "../lib/libcede.so")))

    def test_takes_another_library(self):
        library = shutil.copy(os.path.join(os.path.dirname(COMMAND), "../lib/libcede.so.0"),
                              self.path("libcede.so"))
        preload, _ = self.witness(environment={"CEDE_LIBRARY": library})
        self.assertEqual(preload, library)

    def test_passes_options(self):
        _, options = self.witness("--policy=classic", "--background=off")
        self.assertEqual(options, "policy=classic,background=off")

    def test_keeps_what_was_set(self):
        libc = "/lib/x86_64-linux-gnu/libm.so.6"
        preload, options = self.witness(
            "--policy", "classic", "--option", "background=on",
            environment={"LD_PRELOAD": libc, "CEDE_OPTIONS": "policy=default"})
        self.assertEqual(preload.split(":")[1:], [libc])
        self.assertEqual(options, "policy=default,background=on,policy=classic")

    def test_gives_the_status_of_the_program(self):
        self.assertEqual(cede("run", "sh", "-c", "exit 7").returncode, 7)

    def test_leaves_the_options_of_the_program_alone(self):
        result = cede("run", "printf", "%s", "--policy=x")
        self.assertEqual((result.stdout, result.returncode), ("--policy=x", 0))

    def test_runs_a_script(self):
        path = self.script("#! /bin/sh\ngrep -c libcede.so /proc/$$/maps\n")
        self.assertGreater(int(cede("run", path).stdout), 0)

    def test_warns_of_an_own_malloc(self):
        path = self.compiled("#include <stddef.h>\nstatic char bytes[65536];"
                             "void *malloc(size_t n) { return n > sizeof bytes ? NULL : bytes; }"
                             "void free(void *p) { (void)p; } int main(void) { return 0; }",
                             "-rdynamic", "-fno-builtin")
        self.assert_says(cede("run", path), 0, "warning", "malloc of its own")

    @unittest.skipUnless(os.path.exists(JEMALLOC), "jemalloc is not installed")
    def test_warns_of_a_linked_allocator(self):
        path = self.compiled("int main(void) { return 0; }", "-Wl,--no-as-needed", JEMALLOC)
        self.assert_says(cede("run", path), 0, "warning", "linked with libjemalloc.so.2")


class Refuse(Case):
    def refused(self, path, *words):
        self.assert_says(cede("run", path), 1, *words)

    def test_not_in_path(self):
        self.refused("no-such-program", "no-such-program", "not found in PATH")

    def test_no_such_file(self):
        self.refused("/no/such/program", "not found")

    def test_directory(self):
        self.refused("/usr", "is a directory")

    def test_not_executable(self):
        path = self.script("")
        os.chmod(path, 0o644)
        self.refused(path, "is not executable", "chmod +x")

    def test_static(self):
        path = self.compiled("int main(void) { return 0; }", "-static")
        self.refused(path, "is a static program", "libcede.a")

    def test_static_with_own_place(self):
        path = self.compiled("int main(void) { return 0; }", "-static-pie")
        self.refused(path, "is a static program")

    @unittest.skipUnless(os.geteuid() == 0, "only root may give a program away")
    def test_set_user_id(self):
        path = self.true_with(lambda content: None)
        os.chown(path, NOBODY, -1)
        os.chmod(path, 0o4755)
        self.refused(path, "is set-user-id")

    @unittest.skipUnless(os.geteuid() == 0, "only root may give a program away")
    def test_set_group_id(self):
        path = self.true_with(lambda content: None)
        os.chown(path, -1, NOBODY)
        os.chmod(path, 0o2755)
        self.refused(path, "is set-group-id")

    @unittest.skipUnless(os.geteuid() == 0, "only root may set file capabilities")
    def test_file_capabilities(self):
        os.chmod(self.folder, 0o755)
        path = self.true_with(lambda content: None)
        try:
            # Version 2, effective, cap_net_bind_service permitted.
            os.setxattr(path, "security.capability",
                        bytes.fromhex("0100000200040000000000000000000000000000"))
        except OSError:
            self.skipTest("this file system keeps no capabilities")
        result = subprocess.run([COMMAND, "run", path], user=NOBODY, capture_output=True,
                                text=True)
        if "Permission denied" in result.stderr or not result.stderr:
            self.skipTest("another user cannot reach the command")
        self.assert_says(result, 1, "has file capabilities")

    def test_other_machine(self):
        def to_arm(content):
            content[18:20] = (183).to_bytes(2, "little")
        self.refused(self.true_with(to_arm), "another machine")

    def test_musl(self):
        def to_musl(content):
            loader = b"/lib64/ld-linux-x86-64.so.2"
            content[:] = content.replace(loader, b"/lib/ld-musl-x86_64.so.1".ljust(
                len(loader), b"\0"))
        self.refused(self.true_with(to_musl), "uses musl")

    def test_script_without_interpreter(self):
        self.refused(self.script("#!/no/such/interpreter\n"), "/no/such/interpreter", "not found")

    def test_text(self):
        self.refused(self.script("true\n"), "neither a program nor a script")

    def test_damaged(self):
        def cut(content):
            del content[200:]
        self.assertEqual(cede("run", self.true_with(cut)).returncode, 1)

    def test_no_library(self):
        self.assert_says(cede("run", "true", environment={"CEDE_LIBRARY": "/no/libcede.so"}), 1,
                         "CEDE_LIBRARY=/no/libcede.so")

    def test_library_in_an_awkward_place(self):
        library = os.path.join(self.folder, "a b.so")
        shutil.copy(os.path.join(os.path.dirname(COMMAND), "../lib/libcede.so.0"), library)
        self.assert_says(cede("run", "true", environment={"CEDE_LIBRARY": library}), 1,
                         "a space or a colon")


class Usage(Case):
    def test_wrong_usage_is_one_line_and_status_2(self):
        for arguments in ([], ["no-such-command"], ["help", "no-such-command"], ["run"],
                          ["run", "--no-such-option", "true"], ["run", "--policy=x", "true"],
                          ["run", "--background=x", "true"], ["run", "--option", "x", "true"],
                          ["run", "--option", "x=1,y=2", "true"]):
            with self.subTest(arguments):
                self.assert_says(cede(*arguments), 2, "cede: ")

    def test_help_and_version(self):
        for arguments in (["--help"], ["--version"], ["help"], ["help", "run"], ["help", "lab"],
                          ["run", "--help"], ["lab", "--help"]):
            with self.subTest(arguments):
                result = cede(*arguments)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertIn("cede", result.stdout)


if __name__ == "__main__":
    COMMAND = os.path.abspath(sys.argv.pop(1))
    unittest.main()
