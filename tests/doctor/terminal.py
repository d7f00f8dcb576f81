"""A real terminal to run a command in: tmux, with a server of its own."""

import os
import shlex
import subprocess
import tempfile
import time


class Terminal:
    """A shell in so many columns and lines."""

    def __init__(self, columns=100, lines=30, **settings):
        self.folder = tempfile.TemporaryDirectory()
        self.environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color",
                            **settings}
        # A shell that edits its line would change how the terminal treats it.
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines),
                  "-c", self.folder.name, "exec bash --norc --noprofile --noediting")
        # The terminal is not set up before the shell is there.
        self.comes_to(str.strip)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.tmux("kill-server")
        self.folder.cleanup()

    def tmux(self, *arguments):
        return subprocess.run(["tmux", "-S", os.path.join(self.folder.name, "tmux"), "-u",
                               *arguments], env=self.environment, capture_output=True,
                              text=True, check=True, timeout=60).stdout

    def type(self, *words):
        """Runs a line of the shell."""
        self.tmux("send-keys", "-l", shlex.join(map(str, words)))
        self.press("Enter")

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, columns, lines):
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self):
        return self.tmux("capture-pane", "-p").rstrip("\n").split("\n")

    def settings(self):
        """How the terminal treats what is typed, and whether it shows its other screen."""
        tty = self.tmux("display-message", "-p", "#{pane_tty}").strip()
        state = subprocess.run(["stty", "-g", "-F", tty], capture_output=True, text=True,
                               check=True).stdout
        return state + self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}")

    def comes_to(self, condition):
        """The screen once it is as the condition says, of its text."""
        deadline = time.monotonic() + 60
        while not condition("\n".join(self.screen())):
            assert time.monotonic() < deadline, "\n".join(self.screen())
            time.sleep(0.05)
        return self.screen()

    def shows(self, text):
        return self.comes_to(lambda screen: text in screen)
