"""
The manual pages against what they describe: the command's own help, the public
header, the library's table of settings.

    pages.py SOURCE_ROOT COMMAND

Prints one line for each thing that a page lacks, has besides, or tells differently.
Exits 1 when there is one.
"""

import glob
import os
import re
import subprocess
import sys

HELP_OPTION = re.compile(r"  (?:-(\w), |    )--([\w-]+)(?:[= ](\S+))?(?:  |$)")
PAGE_OPTION = re.compile(r"(?:Fl (\w) , )?Fl -([\w-]+)(.*)")


class Page:
    """A page's source, by sections."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        parts = re.split(r"^\.Sh (.*)\n", self.text, flags=re.M)
        self.sections = dict(zip(parts[1::2], parts[2::2]))

    def section(self, name):
        return self.sections.get(name, "")

    def items(self, name):
        """(head, body) of each entry of the lists in a section."""
        for item in re.split(r"^\.It ", self.section(name), flags=re.M)[1:]:
            head, _, body = item.partition("\n")
            yield head, body.split("\n.El")[0]

    def description(self):
        return re.search(r"^\.Nd (.*)", self.text, re.M).group(1)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def sources(root):
    """The command's sources."""
    return glob.glob(os.path.join(root, "cli/**/*.c"), recursive=True)


def differences(where, what, wanted, found):
    """Of two dictionaries: what is missing, what is there besides, what differs."""
    for name in sorted({*wanted, *found}):
        if name not in found:
            yield f"{where}: lacks {what} {name}"
        elif name not in wanted:
            yield f"{where}: {what} {name} does not exist"
        elif wanted[name] != found[name]:
            yield f"{where}: {what} {name} is {wanted[name]}, not {found[name]}"


# --- commands ---

def commands_of(text):
    """The commands that `cede --help` lists, and what each is for."""
    return {name: summary for name, summary in re.findall(r"^  (\w+) +(.*)", text, re.M)
            if name != "cede"}


def options_of(text):
    """The options of a command's help: {name: (letter, argument, default)}."""
    options = {}
    for entry in re.split(r"\n(?=  .{4}--)", text.split("\n\n")[0])[1:]:
        letter, name, argument = HELP_OPTION.match(entry).groups()
        default = re.search(r"\(default:\s+(\w+)", entry)
        options[name] = letter, (argument or "").lower(), default and default.group(1)
    return options


def page_options(page, options):
    """The same of a page.  A default is there when the text has its word."""
    found = {}
    for head, body in page.items("OPTIONS"):
        match = PAGE_OPTION.match(head)
        if match is None:
            continue
        letter, name, argument = match.groups()
        default = options.get(name, (None, None, None))[2]
        is_told = default and re.search(rf"\b{default}\b", body)
        found[name] = (letter, re.sub(r"\b(Ar|Cm|Ns)\b|\s", "", argument),
                       default if is_told else None)
    return found


def statuses_of(text):
    paragraph = re.search(r"^Exit status.*?(?:\n\n|\Z)", text, re.M | re.S)
    return dict.fromkeys(re.findall(r"\b\d+\b", paragraph.group())) if paragraph else None


def page_statuses(page):
    return dict.fromkeys(head for head, _ in page.items("EXIT STATUS") if head.isdigit())


def check_examples(where, lines, options):
    """Every `cede COMMAND --option` in the lines exists."""
    for line in lines:
        for command, rest in re.findall(r"\bcede (\w+)([^|;]*)", line):
            if command not in options:
                yield f"{where}: the example '{line}' has an unknown command"
                continue
            for word in re.findall(r" -(\w|-[\w-]+)", rest.split(" -- ")[0]):
                if word[1:] not in options[command] and \
                        word not in {letter for letter, *_ in options[command].values()}:
                    yield f"{where}: the example '{line}' has an unknown option -{word}"


def check_command(name, pages, texts, options):
    where, help_of = f"cede-{name}.1", f"cede {name} --help"
    examples = re.findall(rf"^  (.*\bcede {name}\b.*)", texts[name], re.M)
    if not examples:
        yield f"{help_of}: no example"
    yield from check_examples(help_of, examples, options)
    page = pages.get(where)
    if page is None:
        yield f"{where}: no such page"
        return
    yield from differences(where, "option", options[name], page_options(page, options[name]))
    for option in re.findall(r" (-\S+)", texts[name].partition("\n")[0]):
        if not re.search(rf"\bFl {option[1:]}\b", page.section("SYNOPSIS")):
            yield f"{where}: the synopsis lacks {option}"
    yield from differences(where, "exit status",
                           statuses_of(texts[name]) or statuses_of(texts[None]),
                           page_statuses(page))


def check_commands(pages, texts):
    commands = commands_of(texts[None])
    options = {name: options_of(texts[name]) for name in commands}
    listed = {head.split()[1].removeprefix("cede-"): body.strip()
              for head, body in pages["cede.1"].items("DESCRIPTION")}
    yield from differences("cede.1", "command", commands, listed)
    for name, page in pages.items():
        command = re.fullmatch(r"cede-(\w+)\.1", name)
        if command and page.description() != commands.get(command[1]):
            yield f"{name}: describes '{page.description()}', not '{commands.get(command[1])}'"
    for name in commands:
        yield from check_command(name, pages, texts, options)
    for name, page in pages.items():
        lines = re.findall(r"^(?:\.Dl )?\$ (.*)", page.section("EXAMPLES"), re.M)
        if not lines:
            yield f"{name}: no example"
        yield from check_examples(name, lines, options)


def check_environment(root, pages):
    """The variables that the command reads."""
    wanted = {}
    for path in sources(root):
        wanted.update(dict.fromkeys(re.findall(r'(?:getenv|environment_\w+)\("(\w+)"',
                                               read(root, path))))
    found = dict.fromkeys(head.removeprefix("Ev ") for head, _ in
                          pages["cede.1"].items("ENVIRONMENT"))
    yield from differences("cede.1", "variable", wanted, found)


# --- the library ---

def table(text, name):
    return re.search(rf"\b{name}\[\] = \{{\n(.*?)\n\}};", text, re.S).group(1)


def check_settings(root, pages):
    source, guide = read(root, "src/base/settings.c"), read(root, "docs/tuning.md")
    options = dict(re.findall(r'\{ "(\w+)", "(.*?)"', table(source, "options")))
    tunables = {name: (variable.strip('"').replace("NULL", ""), parameter)
                for name, variable, parameter in
                re.findall(r'\{ "(\w+)", ([\w"]+), (\w+)', table(source, "tunables"))}
    found_options, found_tunables = {}, {}
    for head, _ in pages["cede-options.7"].items("DESCRIPTION"):
        tunable = re.fullmatch(r"Cm (\w+) Pq (?:Ev (\w+) , )?Dv (\w+)", head)
        option = re.fullmatch(r"Cm (\w+) Ns = Ns (Cm (.*)|Ar bytes)", head)
        if tunable:
            found_tunables[tunable[1]] = tunable[2] or "", tunable[3]
        elif option:
            words = set((option[3] or "").split(" | "))
            values = options.get(option[1], "")
            found_options[option[1]] = values if option[3] is None or \
                words == set(values.split(" or ")) else option[3]
    yield from differences("cede-options.7", "option", options, found_options)
    yield from differences("cede-options.7", "tunable", tunables, found_tunables)
    for name in {**options, **tunables}:
        if f"`{name}`" not in guide:
            yield f"docs/tuning.md: lacks {name}"


def plain(words):
    """A piece of C with its blanks in one way."""
    return re.sub(r"\s*(\*)\s*", r" \1", " ".join(words.split())).strip()


def check_header(root, pages):
    page = pages["cede.3"]
    header = re.sub(r"/\*.*?\*/", "", read(root, "include/cede/cede.h"), flags=re.S)
    wanted = {name: (plain(kind), plain(arguments)) for kind, name, arguments in
              re.findall(r"^([\w *]+?)\b(cede_\w+)\(([^)]*)\);", header, re.M)}
    found = {}
    for kind, name, arguments in re.findall(r"^\.Ft (.*)\n\.Fn (\w+) (.*)",
                                            page.section("SYNOPSIS"), re.M):
        each = re.findall(r'"(.*?)"', arguments) or [arguments]
        found[name] = plain(kind), plain(", ".join(each))
    yield from differences("cede.3", "function", wanted, found)
    fields = re.search(r"struct cede_stats \{(.*?)\}", header, re.S).group(1)
    yield from differences("cede.3", "field",
                           dict.fromkeys(re.findall(r"(\w+);", fields)),
                           dict.fromkeys(head.removeprefix("Va ") for head, _ in
                                         page.items("DESCRIPTION")))
    for name in sorted(set(re.findall(r"\bCEDE_[A-Z_]+\b|\bcede_\w+(?=;)", header))):
        if name != "CEDE_CEDE_H" and not re.search(rf"\b{name}\b", page.text):
            yield f"cede.3: lacks {name}"


# --- all pages ---

def check_references(root, pages):
    schemas = {schema for path in sources(root)
               for schema in re.findall(r'"(cede-\w+/\d+)"', read(root, path))}
    for name, page in pages.items():
        for schema in re.findall(r"\bcede-\w+/\d+", page.text):
            if schema not in schemas:
                yield f"{name}: nothing writes the schema {schema}"
        for title, section in re.findall(r"\bXr (\S*cede\S*) (\d)", page.text):
            if f"{title}.{section}" not in pages:
                yield f"{name}: refers to {title}({section}), which does not exist"
        for file in re.findall(r"share/doc/cede/([\w./-]+)", page.text):
            if not os.path.exists(os.path.join(root, file)):
                yield f"{name}: refers to {file}, which does not exist"


def check_mdoc(root):
    """What mandoc warns of; its notes on style depend on the pages of the machine."""
    result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning",
                             *sorted(glob.glob(os.path.join(root, "man/*")))],
                            capture_output=True, text=True, check=False)
    yield from result.stdout.splitlines()
    if result.stderr or (result.returncode and not result.stdout):
        yield f"mandoc: {result.stderr.strip() or result.returncode}"


def complaints(root, texts):
    """All of them.  texts: the help of each command by its name, that of cede by None."""
    pages = {os.path.basename(path): Page(path)
             for path in sorted(glob.glob(os.path.join(root, "man/*")))}
    return [*check_commands(pages, texts), *check_environment(root, pages),
            *check_settings(root, pages), *check_header(root, pages),
            *check_references(root, pages), *check_mdoc(root)]


def helps(command):
    """The help of each command by its name, that of cede by None."""
    def told(*arguments):
        return subprocess.run([command, *arguments, "--help"], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
    return {None: told(), **{name: told(name) for name in commands_of(told())}}


def main():
    root, command = sys.argv[1:]
    found = complaints(root, helps(command))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
