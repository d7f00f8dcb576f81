"""A memory control group for a test, of version 1 or 2, removed whatever happens."""

import os
import time


class NotPermitted(Exception):
    """Says in plain words why there can be no group here."""


def mounted(kind, option):
    """Where a control group file system of that kind is mounted."""
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, path, file_system, options = line.split()[:4]
            if file_system == kind and (not option or option in options.split(",")):
                return path
    return None


def write(path, value):
    with open(path, "w") as file:
        file.write(str(value))


class MemoryGroup:
    def __init__(self, limit):
        """`limit` in bytes, for all processes that enter."""
        self.limit = limit
        self.path = None

    def __enter__(self):
        try:
            self.make()
        except OSError as error:
            self.remove()
            raise NotPermitted(f"no memory control group can be made: {error}")
        return self

    def __exit__(self, *unused):
        self.remove()

    def make(self):
        name = f"cede-test-{os.getpid()}"
        root = mounted("cgroup", "memory")
        if root:
            self.path = os.path.join(root, name)
            os.mkdir(self.path)
            write(os.path.join(self.path, "memory.limit_in_bytes"), self.limit)
            return
        root = mounted("cgroup2", None)
        if not root:
            raise NotPermitted("no control group file system is mounted")
        with open(os.path.join(root, "cgroup.controllers")) as controllers:
            if "memory" not in controllers.read().split():
                raise NotPermitted("the memory controller is not available")
        write(os.path.join(root, "cgroup.subtree_control"), "+memory")
        self.path = os.path.join(root, name)
        os.mkdir(self.path)
        write(os.path.join(self.path, "memory.max"), self.limit)
        swap = os.path.join(self.path, "memory.swap.max")
        if os.path.exists(swap):
            write(swap, 0)

    def enter(self):
        """In the child, before exec."""
        write(os.path.join(self.path, "cgroup.procs"), os.getpid())

    def charged(self):
        """Bytes that the machine lacks because of the group's processes."""
        for name in ("memory.current", "memory.usage_in_bytes"):
            path = os.path.join(self.path, name)
            if os.path.exists(path):
                with open(path) as file:
                    return int(file.read())
        raise NotPermitted("the group does not tell what it uses")

    def remove(self):
        # The kernel keeps a group busy for a moment after its last process.
        for _ in range(50):
            if not self.path or not os.path.isdir(self.path):
                return
            try:
                os.rmdir(self.path)
            except OSError:
                time.sleep(0.1)
