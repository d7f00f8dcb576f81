"""cede map: its sums are the doctor's, and the page works in a browser.

    test_map.py COMMAND TARGET [CASE ...]
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree

import support
from support import NO_CACHE, Target

COMMAND = TARGET = None
DATA = re.compile(r'<script type="application/json" (id="map"|class="row")>(.*)</script>')


def run(*arguments, **settings):
    return support.cede(COMMAND, "map", *arguments, env={**os.environ, **settings})


class Page:
    """The data of an HTML picture."""

    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        (_, head), *rows = DATA.findall(self.text)
        self.head = json.loads(head)
        self.rows = [json.loads(row) for _, row in rows]
        self.bytes = {state["name"]: state["bytes"] for state in self.head["states"]}

    def cells(self):
        """(address, bytes, {state: (bytes, height)}, blocks) of each cell."""
        for row in self.rows:
            for count, grain, _, (size, _, others, states, blocks) in row["runs"]:
                triples = [states[i:i + 3] for i in range(0, len(states), 3)]
                known = sum(blocks[i + 2] for i in range(0, len(blocks), 3))
                for i in range(count):
                    yield (16 * grain + i * size, size,
                           {self.head["states"][s]["name"]: (b, h) for s, b, h in triples},
                           known + others)


class Case(support.Case):
    def draw(self, pid, ending):
        path = self.path("heap." + ending)
        result = run("-o", path, pid)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
        return path

    def page(self, pid):
        return Page(self.draw(pid, "html"))


class Sums(Case):
    """The legend, the cells and the doctor say the same."""

    def check(self, target):
        page = self.page(target.pid)
        resident = support.findings(COMMAND, target.pid)["resident"]
        for state in ("live", "internal", "foreign"):
            self.assertEqual(page.bytes[state], resident["heap"][state], state)
        self.assertEqual(page.bytes["pinned"], resident["shared_free_bytes"])
        self.assertEqual(sum(page.bytes[state] for state in ("cached", "free", "top")),
                         resident["whole_free_bytes"])
        self.assertEqual(sum(state["bytes"] for state in page.head["states"] if state["resident"]),
                         resident["heap_bytes"])
        self.assertEqual(page.head["resident_bytes"], resident["heap_bytes"])
        sums = dict.fromkeys(page.bytes, 0)
        for _, size, states, blocks in page.cells():
            self.assertEqual(sum(bytes for bytes, _ in states.values()), size)
            self.assertEqual(sum(height for _, height in states.values()),
                             page.head["cell_height"])
            self.assertGreater(blocks, 0)
            self.assertTrue("live" not in states or states["live"][1])
            for state, (bytes, _) in states.items():
                sums[state] += bytes
        self.assertEqual(sums, page.bytes)
        return page

    def test_list(self):
        with Target(TARGET, "list", 2000, **NO_CACHE) as target:
            target.go()
            self.check(target)
            target.go()
            before = self.check(target)
            self.assertGreater(before.bytes["free"], 122000000)
            self.assertGreater(before.bytes["pinned"], 8000000)
            self.assertIn("Verdict: retention", before.head["title"])
            target.trim()
            after = self.check(target)
            self.assertGreater(after.bytes["gone"], 122000000)
            self.assertEqual(after.bytes["pinned"] // 4096, before.bytes["pinned"] // 4096)

    def test_arenas(self):
        with Target(TARGET, "threads", 4, 40000) as target:
            page = self.check(target)
            titles = [section["text"] for section in page.head["sections"]]
            self.assertRegex(titles[0], "^Main arena, on the break: ")
            self.assertRegex(titles[1], "^Arena 1, in [1-9][0-9]* heaps?: .*; its top of .* at 0x")
            tops = sum(mark == 2 for row in page.rows for _, _, mark, _ in row["runs"])
            self.assertEqual(tops, len(support.findings(COMMAND, target.pid)["arenas"]))

    def test_others(self):
        for arguments in (("foreign", 1, 1), ("blocked", 1, 1), ("sparse", 300000, 50),
                          ("chance", 5)):
            with self.subTest(arguments), Target(TARGET, *arguments) as target:
                self.check(target)

    def test_large(self):
        """However large the heap, the picture has a bound."""
        with Target(TARGET, "list", 10000, **NO_CACHE) as target:
            target.go()
            target.go()
            page = self.check(target)
            self.assertIn(sum(1 for _ in page.cells()), range(20000, 40100))
            self.assertIn("Each cell is 8 pages, 32 KiB.", page.head["subtitle"])
            for ending in ("html", "svg", "png"):
                self.assertLess(os.path.getsize(self.draw(target.pid, ending)), 4000000)


class Pictures(Case):
    def test_svg(self):
        with Target(TARGET, "list", 300, **NO_CACHE) as target:
            target.go()
            target.go()
            page = self.page(target.pid)
            tree = xml.etree.ElementTree.parse(self.draw(target.pid, "svg"))
        drawn = {tuple(round(float(part) * 2.55) for part in
                       re.search(r"stroke:rgb\(([^)]*)\)", style).group(1).replace("%", "").split(","))
                 for style in (path.get("style") or "" for path in tree.iter()
                               if path.tag.endswith("path")) if "stroke:rgb" in style}
        shown = {state for _, _, states, _ in page.cells()
                 for state, (_, height) in states.items() if height}
        for state in page.head["states"]:
            color = tuple(bytes.fromhex(state["color"][1:]))
            self.assertEqual(color in drawn, state["name"] in shown, state["name"])
        self.assertLessEqual({"live", "pinned", "free"}, shown)

    def test_png(self):
        with Target(TARGET, "list", 300) as target:
            target.go()
            path = self.draw(target.pid, "png")
        with open(path, "rb") as file:
            header = file.read(24)
        self.assertEqual(header[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">I", header[16:20])[0], 2 * (2 * 24 + 100 + 256 * 4))

    def test_colors(self):
        """All states differ by 15 in CIELAB, also without red or green cones."""
        with Target(TARGET, "list", 10) as target:
            target.go()
            colors = {state["name"]: linear(state["color"])
                      for state in self.page(target.pid).head["states"]}
        for vision, matrix in VISIONS.items():
            seen = {name: lab([sum(m * c for m, c in zip(row, color)) for row in matrix])
                    for name, color in colors.items()}
            for one in seen:
                for other in seen:
                    if one < other:
                        self.assertGreater(sum((a - b) ** 2 for a, b in
                                               zip(seen[one], seen[other])) ** 0.5, 15,
                                           f"{one} and {other}: {vision}")


# Of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
VISIONS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
                   (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
                     (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
                   (0.004733, 0.691367, 0.303900)),
}


def linear(color):
    parts = [part / 255 for part in bytes.fromhex(color[1:])]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def lab(color):
    red, green, blue = (min(1, max(0, part)) for part in color)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116
               for part in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


# Hands in the page: moves, turns the wheel, drags and types, and notes what the page
# then says of the cell under the pointer, and the color there.
HANDS = """
<pre id="told"></pre>
<script>
{
    const told = { errors: [] };
    addEventListener("error", event => told.errors.push(event.message));
    const canvas = document.querySelector("canvas"), facts = document.getElementById("facts");
    const place = canvas.getBoundingClientRect();
    const at = (x, y) => ({ clientX: place.left + x, clientY: place.top + y, bubbles: true,
        cancelable: true });
    const note = (name, x, y) => {
        canvas.dispatchEvent(new PointerEvent("pointermove", at(x, y)));
        const color = canvas.getContext("2d").getImageData(x, y, 1, 1).data;
        told[name] = { color: [...color].slice(0, 3), facts: facts.hidden ? "" : facts.innerText };
    };
    const key = key => canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const X = 110 + 4 * COLUMN + 2, Y = 30 + 2;
    note("first", X, Y);
    note("beside", X + 4, Y);
    note("outside", 20, Y);
    canvas.dispatchEvent(new WheelEvent("wheel", { ...at(X, Y), deltaY: -400 }));
    note("zoomed", X, Y);
    note("zoomed beside", X + 10, Y);
    canvas.dispatchEvent(new PointerEvent("pointermove",
        { ...at(X, Y), buttons: 1, movementX: 50, movementY: 30 }));
    note("dragged", X + 50, Y + 30);
    key("ArrowLeft");
    note("moved", X + 130, Y + 30);
    key("0");
    note("again", X, Y);
    key("+");
    note("larger", X, Y);
    key("-");
    note("as before", X, Y);
    told.legend = document.getElementById("legend").innerText;
    told.title = document.title;
    told.scripts = document.scripts.length;
    document.getElementById("told").textContent = JSON.stringify(told);
}
</script>
"""


def browsed(page, column):
    """What the hands noted, in a headless browser."""
    path = page.path + ".hands.html"
    with open(path, "w", encoding="utf-8") as file:
        file.write(page.text + HANDS.replace("COLUMN", str(column)))
    result = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,900",
         f"--user-data-dir={path}.profile", "--dump-dom",
         "file://" + path], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    told = re.search(r'<pre id="told">(.+?)</pre>', result.stdout, re.S)
    assert told, result.stdout[-2000:] + result.stderr[-2000:]
    text = told.group(1)
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&amp;", "&")):
        text = text.replace(entity, letter)
    return json.loads(text)


class Filed(Case):
    def test_as_if_live(self):
        """A snapshot's picture is that of the process when it was taken."""
        with Target(TARGET, "list", 300, **NO_CACHE) as target:
            target.go()
            target.go()
            snapshot = self.path("heap.snap")
            support.cede(COMMAND, "snapshot", target.pid, "-o", snapshot, check=True)
            live = self.page(target.pid)
            taken = support.findings(COMMAND, snapshot, "--file")["taken"]
            time.sleep(1)
        path = self.path("filed.html")
        result = run("--file", snapshot, "-o", path, TZ="UTC")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
        filed = Page(path)
        self.assertEqual(filed.rows, live.rows)
        self.assertEqual(filed.bytes, live.bytes)
        self.assertEqual(filed.head["title"], live.head["title"])
        self.assertTrue(filed.head["subtitle"].startswith(taken[:19].replace("T", " ")),
                        filed.head["subtitle"])
        for ending in ("svg", "png"):
            self.assertEqual(run("--file", snapshot, "-o", path + "." + ending).returncode, 0)


@unittest.skipUnless(shutil.which("chromium"), "there is no chromium")
class Browser(Case):
    def test_hands(self):
        with Target(TARGET, "list", 300, **NO_CACHE) as target:
            target.go()
            target.go()
            page = self.page(target.pid)
        cells = list(page.cells())
        column = next(i for i in range(40, 200) if "pinned" in cells[i][2])
        told = browsed(page, column)
        address, size, states, blocks = cells[column]
        self.assertEqual(told["errors"], [])

        first = told["first"]["facts"]
        self.assertTrue(first.startswith(f"{address:#x} \u2013 {address + size:#x}, 4096 bytes\n"),
                        first)
        self.assertIn(f"{states['pinned'][0]} bytes pinned", first)
        self.assertIn(f"{states['live'][0]} bytes live", first)
        self.assertIn("1 \u00d7 32 bytes live", first)
        self.assertIn("bytes bin", first)
        pinned = next(s for s in page.head["states"] if s["name"] == "pinned")
        self.assertEqual(told["first"]["color"], list(bytes.fromhex(pinned["color"][1:])))
        self.assertTrue(told["beside"]["facts"].startswith(f"{address + size:#x} "))
        self.assertEqual(told["outside"]["facts"], "")
        # The wheel zooms about the pointer; a cell is then ten pixels wide.
        for name in ("zoomed", "dragged", "moved", "again"):
            self.assertEqual(told[name], told["first"], name)
        self.assertTrue(told["zoomed beside"]["facts"].startswith(f"{address + size:#x} "))
        self.assertNotEqual(told["larger"]["facts"], told["first"]["facts"])
        self.assertEqual(told["as before"], told["first"])
        self.assertEqual(told["title"], page.head["title"])
        self.assertIn(f"{page.head['resident_bytes'] / 1e6:.3f} MB", told["legend"])

    def test_hostile_name(self):
        """What a process calls itself is text, and nothing else."""
        name = "</script><b>&"
        program = ("import sys; "
                   f"open('/proc/self/comm', 'w').write('{name}'); print(flush=True); sys.stdin.read()")
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE,
                              env=support.environment(PYTHONMALLOC="malloc")) as process:
            process.stdout.readline()
            page = self.page(process.pid)
            process.stdin.close()
        self.assertTrue(page.head["title"].startswith(name + " ("))
        told = browsed(page, 0)
        self.assertEqual(told["errors"], [])
        self.assertEqual(told["title"], page.head["title"])
        # Its own, the data and the hands.
        self.assertEqual(told["scripts"], len(page.rows) + 3)

    def test_alone(self):
        with Target(TARGET, "list", 10) as target:
            target.go()
            text = self.page(target.pid).text
        self.assertIn("default-src 'none'", text)
        self.assertNotRegex(text, r"https?:|//|\bsrc=|\bhref=|@import|url\(")


class Errors(Case):
    def test_usage(self):
        pid = os.getpid()
        self.assert_says(run(pid), 2, "where to?")
        self.assert_says(run("-o", "heap.gif", pid), 2, "'heap.gif'", ".svg", ".png", ".html")
        self.assert_says(run("-o", ".svg", pid), 2, "'.svg'")
        self.assert_says(run("-o", "heap.svg"), 2, "map: which process?")
        self.assert_says(run("-o", "heap.svg", "x"), 2, "map: 'x' is no process id")
        self.assert_says(run("-o", "heap.svg", "--file", "heap.snap", pid), 2, "not both")
        self.assert_says(run("-o", "heap.svg", "--file", "/none"), 1, "/none: No such file")
        self.assert_says(run("--wrong", pid), 2, "--wrong", "cede help map")

    def test_files(self):
        with Target(TARGET, "list", 10) as target:
            target.go()
            for ending in ("svg", "png", "html"):
                path = self.path("none/heap." + ending)
                self.assert_says(run("-o", path, target.pid), 1, path)
            full = self.path("full.html")
            os.symlink("/dev/full", full)
            self.assert_says(run("-o", full, target.pid), 1, full, "disk")

    def test_nobody(self):
        self.assert_says(run("-o", self.path("a.svg"), 2 ** 22 + 1), 1,
                         "no process", str(2 ** 22 + 1))

    def test_no_heap(self):
        path = self.path("heap.svg")
        with Target(TARGET, "list", 10) as target:
            self.assert_says(run("-o", path, target.pid), 1, "has no heap of glibc's malloc")
            self.assertFalse(os.path.exists(path))

    def test_other_allocator(self):
        library = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
        if not os.path.exists(library):
            self.skipTest("no jemalloc here")
        with Target(TARGET, "list", 1000, LD_PRELOAD=library) as target:
            target.go()
            self.assert_says(run("-o", self.path("heap.svg"), target.pid), 1,
                             "has no heap of glibc's malloc", "runs on jemalloc")


if __name__ == "__main__":
    COMMAND, TARGET = map(os.path.abspath, sys.argv[1:3])
    unittest.main(argv=sys.argv[2:], verbosity=2)
