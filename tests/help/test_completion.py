"""
Completion, as bash, zsh and fish do it, against the command's own help.

    test_completion.py SOURCE_ROOT COMMAND
"""

import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import unittest

import pages

ROOT = COMMAND = None
SECONDS = 30                # a shell that says nothing for so long has failed

# Each key sequence below stands in the shell's own language for: put all completions
# into the line, then write the line to the pipe.
BASH = """
PS1= HISTFILE= ; bind 'set bell-style none' ; bind '"\\C-o": insert-completions'
told() { printf '%s\\n' "$READLINE_LINE" >"$PIPE"; READLINE_LINE=; READLINE_POINT=0; }
bind -x '"\\C-t": told'
source "$SCRIPTS/cede.bash"
echo ready >"$PIPE"
"""
ZSH = """
PS1= ; unsetopt beep ; fpath=("$SCRIPTS" $fpath)
autoload -Uz compinit && compinit -u -d "$HOME/dump"
zle -C every complete-word _generic ; bindkey '^O' every
zstyle ':completion:every:*' completer _all_matches _complete
zstyle ':completion:every:*' insert true
told() { print -r -- "$BUFFER" >"$PIPE"; BUFFER=; } ; zle -N told ; bindkey '^T' told
echo ready >"$PIPE"
"""


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, folder, shell, setup, environment):
        self.pipe = os.path.join(folder, "pipe")
        os.mkfifo(self.pipe)
        script = os.path.join(folder, "setup")
        with open(script, "w", encoding="utf-8") as file:
            file.write(setup)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(shell[0], shell, {**environment, "PIPE": self.pipe, "TERM": "dumb"})
        # Both ends: the shell never waits for a reader.
        self.answers = os.open(self.pipe, os.O_RDWR)
        self.send(f"source {script}\n")
        if self.answer() != "ready":
            raise AssertionError(f"{shell} did not start")

    def send(self, text):
        os.write(self.terminal, text.encode())

    def answer(self):
        said = shown = b""
        while not said.endswith(b"\n"):
            ready = select.select([self.answers, self.terminal], [], [], SECONDS)[0]
            if not ready:
                raise AssertionError(f"no answer; the terminal shows {shown!r}")
            if self.terminal in ready:
                shown += os.read(self.terminal, 65536)
            if self.answers in ready:
                said += os.read(self.answers, 65536)
        return said.decode().strip()

    def close(self):
        os.close(self.terminal)
        os.close(self.answers)
        os.waitpid(self.pid, 0)


class Case:
    """What holds in every shell.  completions(line): the words that may end the line."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name in ("first.snap", "first.txt"):
            with open(os.path.join(cls.folder, name), "w", encoding="utf-8"):
                pass
        os.mkdir(os.path.join(cls.folder, "root"))
        cls.environment = {
            "HOME": cls.folder, "LC_ALL": "C.UTF-8",
            "SCRIPTS": os.path.join(ROOT, "cli/completion"),
            "PATH": os.pathsep.join([os.path.dirname(COMMAND), os.environ["PATH"]])}
        cls.texts = pages.helps(COMMAND)
        cls.commands = {name for name in cls.texts if name}
        cls.begin()

    @classmethod
    def begin(cls):
        pass

    def assert_has(self, line, *words):
        found = self.completions(line)
        for word in words:
            self.assertIn(word, found, line)
        return found

    def assert_is(self, line, words):
        self.assertEqual(self.completions(line), set(words), line)

    def test_commands(self):
        self.assert_is("cede ", {*self.commands, "help"})
        self.assert_is("cede sn", ["snapshot"])
        self.assert_is("cede --", ["--help", "--version"])
        self.assert_is("cede help ", self.commands)

    def test_options(self):
        for name in self.commands:
            options = {f"--{option}" for option in pages.options_of(self.texts[name])}
            self.assertIn("--help", options)
            self.assert_is(f"cede {name} --", options)
        self.assert_is("cede run --option a=b --opt", ["--option"])

    def test_processes(self):
        # By a name that no other run of this test has.
        program = os.path.join(self.folder, f"s{os.getpid()}e")
        shutil.copy(shutil.which("sleep"), program)
        with subprocess.Popen([program, "1000"]) as process:
            try:
                pid = str(process.pid)
                for line in ("cede doctor ", "cede stats --json ", "cede doctor --watch 60 ",
                             "cede map ", "cede map -o heap.svg ", "cede snapshot "):
                    self.assert_has(line + pid[:-1], pid)
                self.assertNotIn("first.snap", self.completions(f"cd {self.folder}; cede doctor "))
                self.processes_by_name(os.path.basename(program), pid)
            finally:
                process.kill()

    def processes_by_name(self, name, pid):
        self.assert_is(f"cede doctor {name}", [pid])

    def test_files(self):
        place = os.path.join(self.folder, "first")
        both = {f"{place}.snap", f"{place}.txt"}
        for line in ("cede snapshot 1 -o ", "cede snapshot --output ", "cede doctor --compare ",
                     f"cede doctor --compare {place}.snap ", "cede doctor --file "):
            self.assert_is(line + place, both)

    def test_folders(self):
        found = self.completions(f"cede doctor --sysroot {self.folder}/")
        self.assertEqual({word.rstrip("/") for word in found}, {f"{self.folder}/root"})

    def test_files_behind_a_sign(self):
        place = os.path.join(self.folder, "first")
        self.assert_is(f"cede map --output={place}.s", [f"--output={place}.snap"])

    def test_choices(self):
        self.assert_is("cede run --policy ", ["default", "classic"])
        self.assert_is("cede run --policy classic --background o", ["on", "off"])
        experiments = subprocess.run([COMMAND, "lab", "--list"], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout.splitlines()
        self.assertGreater(len(experiments), 10)
        self.assert_is("cede lab ", [line.split()[0] for line in experiments])
        self.assert_is("cede lab --total ", [])

    def test_program(self):
        for line in ("cede run ", "cede run -- ", "cede run --policy classic ",
                     "cede run --option huge=on ", "cede run --option=huge=on "):
            self.assert_has(line + "mkfif", "mkfifo")
        place = os.path.join(self.folder, "first.s")
        for line in ("cede run cat ", "cede run -- cat ", "cede run --option huge=on cat -n "):
            self.assert_is(line + place, [place + "nap"])
        self.assertNotIn("--policy", self.completions("cede run -- cat --"))


class Typed(Case):
    """Shells in which the line is typed."""

    @classmethod
    def begin(cls):
        cls.shell = Terminal(cls.folder, cls.COMMAND, cls.SETUP, cls.environment)
        cls.addClassCleanup(cls.shell.close)

    def completions(self, line):
        kept = line[:line.rfind(" ") + 1]
        self.shell.send(line + "\x0f\x14")
        answer = self.shell.answer() + " "
        self.assertTrue(answer.startswith(kept), answer)
        # zsh has a sign ready behind what takes a value.
        words = {word.removesuffix("=") for word in answer[len(kept):].split()}
        # Where nothing completes a word, it stands as it was.
        return words if words != {line[len(kept):]} else set()


@unittest.skipUnless(shutil.which("bash"), "there is no bash")
class Bash(Typed, unittest.TestCase):
    COMMAND, SETUP = ["bash", "--norc", "--noprofile", "-i"], BASH


@unittest.skipUnless(shutil.which("zsh"), "there is no zsh")
class Zsh(Typed, unittest.TestCase):
    COMMAND, SETUP = ["zsh", "-f", "-i"], ZSH


@unittest.skipUnless(shutil.which("fish"), "there is no fish")
class Fish(Case, unittest.TestCase):
    def completions(self, line):
        result = subprocess.run(["fish", "--no-config", "-c",
                                 'source $SCRIPTS/cede.fish; complete -C "$argv"', line],
                                env=self.environment, check=True, text=True, capture_output=True)
        self.assertEqual(result.stderr, "")
        return {answer.split("\t")[0] for answer in result.stdout.splitlines()}

    def processes_by_name(self, name, pid):
        """fish's own list of processes goes by numbers."""


if __name__ == "__main__":
    ROOT, COMMAND = map(os.path.abspath, sys.argv[1:3])
    del sys.argv[1:3]
    unittest.main()
