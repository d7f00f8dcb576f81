"""The second after a process's last free, as it is to be judged by."""

import os
import time


def queued_seconds(pid):
    """How long its threads stood ready without a processor."""
    sum_ns = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as times:
            sum_ns += int(times.read().split()[1])
    return sum_ns / 1e9


def second_passes(pid):
    """A second in which whoever gives back had a processor when it wanted one, as rest.c
    has it: a machine with more work than processors may let it wait."""
    due = time.monotonic() + 1
    queued = queued_seconds(pid)
    while (left := due + queued_seconds(pid) - queued - time.monotonic()) > 0:
        time.sleep(left)
