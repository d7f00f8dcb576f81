"""The workloads under every allocator: time, processor time, page faults, system calls
and peak memory, as ratios to glibc; geometric means, a verdict and a chart.

The allocators take turns, in another order each round; glibc runs twice a round, the
second time as the control: see judge.py for what follows from it.  System calls are
counted by strace in one more run.  Status 1 when a workload failed or printed
something else than under glibc.
"""

import collections
import os
import random
import subprocess
import sys
import tempfile

import judge
import support
import workloads

CONTROL = "glibc again"
SUBJECT = "cede default"
ROUNDS = 5

Run = collections.namedtuple("Run", "wall cpu faults peak")
# field, title, how glibc's value is shown, factor to that unit
METRICS = (
    ("wall", "Time", "{:,.0f} ms", 1000),
    ("cpu", "Processor time, user and system", "{:,.0f} ms", 1000),
    ("faults", "Page faults", "{:,.0f}", 1),
    ("calls", "System calls", "{:,.0f}", 1),
    ("peak", "Peak memory", "{:,.1f} MiB", 1 / 1024),
)
TIMED = ("wall", "cpu")

# The aims.
TIME_OF_BEST = 0.95  # geometric mean, against the best single peer's
TIME_OF_EACH = 1.15  # processor time of one workload, against its best peer
PEAK_OF_GLIBC = 0.95  # geometric mean
PEAK_OF_EACH = 1.25  # one workload
TINY_EXCESS_KIB = 300  # a tiny program


class Machine:
    """Runs workloads in a folder of its own and collects what they cost."""

    def __init__(self, measure):
        self.measure = measure
        self.expected = {}  # {workload: what it printed first}
        self.runs = {}  # {workload: {allocator: [Run]}}
        self.calls = {}  # {workload: {allocator: [number of system calls]}}
        self.failures = {}  # {(workload, allocator): why}

    def attempt(self, workload, name, launcher, **popen):
        """Whether it ran well; a failure is kept, and ends the pair's runs."""
        try:
            output = workload.run(launcher, env=support.CLEAN, **popen)
        except workloads.Failed as failure:
            self.failures[workload.name, name] = str(failure)
            return False
        if output != self.expected.setdefault(workload.name, output):
            self.failures[workload.name, name] = f"printed {output!r}"
        return (workload.name, name) not in self.failures

    def time(self, workload, name, settings):
        reading, writing = os.pipe()
        launcher = [self.measure, str(writing), *assignments(settings, workload)]
        is_well = self.attempt(workload, name, launcher, pass_fds=[writing])
        os.close(writing)
        with open(reading, encoding="ascii") as figures:
            line = figures.read().split()
        if is_well:
            row = self.runs.setdefault(workload.name, {})
            row.setdefault(name, []).append(Run(*map(float, line)))

    def count_calls(self, workload, name, settings, folder):
        counts = os.path.join(folder, "calls")
        launcher = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", counts]
        for assignment in assignments(settings, workload):
            launcher += ["-E", assignment]
        if self.attempt(workload, name, launcher):
            with open(counts, encoding="ascii") as lines:
                total = next(line for line in lines if line.rstrip().endswith(" total"))
            self.calls.setdefault(workload.name, {})[name] = [int(total.split()[0])]

    def values(self, metric):
        """{workload: {allocator: [value]}} without the pairs that ever failed."""
        if metric == "calls":
            source = self.calls
        else:
            source = {workload: {name: [getattr(run, metric) for run in runs]
                                 for name, runs in row.items()}
                      for workload, row in self.runs.items()}
        return {workload: {name: values for name, values in row.items()
                           if (workload, name) not in self.failures}
                for workload, row in source.items()}


def assignments(settings, workload):
    return [f"{name}={value}" for name, value in {**workload.settings, **settings}.items()]


def can_trace():
    """Whether strace is installed and permitted."""
    try:
        return subprocess.run(["strace", "-qq", "-c", "-o", "/dev/null", "true"],
                              stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        return False


def measure_all(machine, chosen, allocators, rounds, folder):
    """`allocators`: {name: settings}, the base first."""
    order = random.Random(1)
    for number in range(rounds):
        for workload in chosen:
            # The very first run, which says what a workload must print, is the base's.
            names = list(allocators)
            if number > 0:
                order.shuffle(names)
            for name in names:
                support.progress(f"round {number + 1}/{rounds} {workload.name} {name}")
                if (workload.name, name) not in machine.failures:
                    machine.time(workload, name, allocators[name])
    if can_trace():
        for workload in chosen:
            for name in allocators:
                support.progress(f"system calls {workload.name} {name}")
                if name != CONTROL and (workload.name, name) not in machine.failures:
                    machine.count_calls(workload, name, allocators[name], folder)
    support.progress("")


def ratio_cell(figures, workload, name, is_timed):
    if name not in figures.values[workload]:
        return "-"
    text = f"{figures.ratio(workload, name):.2f}"
    return f"{text} ±{figures.spread(workload, name):.0%}" if is_timed else text


def best_cell(figures, workload, peers, is_timed):
    best = figures.best(workload, peers)
    if best is None or SUBJECT not in figures.values[workload]:
        return "-"
    ratio, low, high = figures.against(workload, SUBJECT, best)
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}] {best}" if is_timed else f"{ratio:.2f} {best}"


def print_metric(figures, names, peers, metric):
    """`names`: the columns, the base first."""
    field, title, form, factor = metric
    base, *others = names
    is_timed = field in TIMED
    has_best = bool(peers) and SUBJECT in names
    rows = []
    for workload, row in figures.values.items():
        if base not in row:
            continue
        rows.append([workload, form.format(figures.median(workload, base) * factor)]
                    + [ratio_cell(figures, workload, name, is_timed) for name in others]
                    + [best_cell(figures, workload, peers, is_timed)] * has_best)
    if not figures.common:
        print(f"\n{title}: nothing to compare")
        return
    rows.append(["geometric mean", ""] + [f"{figures.mean(name):.3f}" for name in others]
                + [""] * has_best)
    print(f"\n{title}, of {base}'s:\n")
    support.print_table(["", *names] + [f"{SUBJECT} / best peer"] * has_best, rows)


def verdicts(figures, peers):
    """(metric, text, whether the aim is reached: None without a verdict)"""
    glibc = [support.glibc().name]
    for metric in ("wall", "cpu", "peak"):
        doubt = figures[metric].doubt()
        if doubt:
            yield metric, f"no verdict, {doubt}", None
        elif metric == "peak":
            yield metric, *judge.base_verdict(figures[metric], SUBJECT, PEAK_OF_GLIBC)
            yield metric, *judge.each_verdict(figures[metric], SUBJECT, glibc, PEAK_OF_EACH)
        elif peers:
            yield metric, *judge.means_verdict(figures[metric], SUBJECT, peers, TIME_OF_BEST)
            if metric == "cpu":
                yield metric, *judge.each_verdict(figures[metric], SUBJECT, peers, TIME_OF_EACH)
    if "startup" in figures["peak"].common:
        excess = (figures["peak"].median("startup", SUBJECT)
                  - figures["peak"].median("startup", figures["peak"].base))
        yield ("peak", f"a tiny program: glibc's and {excess:.0f} KiB"
               f" (aim: {TINY_EXCESS_KIB})", excess <= TINY_EXCESS_KIB)


def panels_of(figures, names):
    """The ratios of processor time and peak memory, for support.draw."""
    for metric, title in (("cpu", "Processor time"), ("peak", "Peak memory")):
        rows = [(workload, [figures[metric].ratio(workload, name) for name in names])
                for workload in figures[metric].common]
        rows.append(("geometric mean", [figures[metric].mean(name) for name in names]))
        yield f"{title}, of {figures[metric].base}'s", rows


def parse_arguments():
    """(arguments, allocators, peers, workloads), what was picked of them; glibc always."""
    parser = support.arguments_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", metavar="WORKLOAD,...", help="only these workloads")
    parser.add_argument("--allocators", metavar="NAME,...", help="only these beside glibc")
    parser.add_argument("--chart", metavar="FILE.svg", help="build/release/bench/chart.svg")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it work at all?")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be above 0")
    peers = [*support.peers(), *arguments.allocator]
    allocators = support.picked(parser, arguments.allocators,
                                [*support.both_policies(arguments.build), *peers])
    chosen = support.picked(parser, arguments.only,
                            workloads.all_workloads(support.programs_of(arguments.build)))
    return (arguments, [support.glibc(), *allocators],
            [peer for peer in peers if peer in allocators], chosen)


def print_results(machine, names, peers, chart, programs):
    """`names`: the base first, then the control."""
    figures = {}
    for metric in METRICS:
        field = metric[0]
        columns = [name for name in names if name != CONTROL or field in TIMED]
        compared = names if field != "calls" else columns
        figures[field] = judge.Figures(machine.values(field), compared, names[0], CONTROL)
        print_metric(figures[field], columns, peers, metric)
    if not figures["cpu"].common:
        return
    if SUBJECT in names:
        print("\nVerdict:\n")
        for metric, text, is_reached in verdicts(figures, peers):
            mark = {True: ": reached", False: ": NOT reached", None: ""}[is_reached]
            print(f"- {metric}: {text}{mark}")
    support.draw(programs, chart, names[2:], panels_of(figures, names[2:]))


def main():
    arguments, allocators, peers, chosen = parse_arguments()
    programs = support.programs_of(arguments.build)
    support.require_loadable(allocators, [os.path.join(programs, "startup")])
    base, *others = allocators
    settings = {base.name: base.settings, CONTROL: base.settings,
                **{allocator.name: allocator.settings for allocator in others}}

    machine = Machine(os.path.join(programs, "measure"))
    for workload in chosen:
        if not workload.is_runnable():
            print(f"without {workload.name}: {workload.tool} is not installed")
    chosen = [workload for workload in chosen if workload.is_runnable()]
    with tempfile.TemporaryDirectory() as folder:
        for workload in chosen:
            workload.prepare(folder, arguments.tiny)
        measure_all(machine, chosen, settings, arguments.rounds, folder)

    print_results(machine, list(settings), [peer.name for peer in peers],
                  arguments.chart or os.path.join(programs, "chart.svg"), programs)
    for (workload, name), why in machine.failures.items():
        print(f"FAILED: {workload} under {name}: {why}", file=sys.stderr)
    return 1 if machine.failures else 0


if __name__ == "__main__":
    sys.exit(main())
