# SPDX-License-Identifier: Apache-2.0
"""Control groups named as systemd names those of its units, and processes that live in them."""
import os
import traceback



def hierarchy():
    """Where the unified hierarchy is mounted, or None."""
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if fields[2] == "cgroup2":
                return fields[1]
    return None


def why_not():
    """Why no control group can be made here, or None."""
    if os.getuid() != 0:
        return "making control groups needs root"
    root = hierarchy()
    if not root:
        return "no unified hierarchy of control groups is mounted"
    try:
        probe = os.path.join(root, f"lkm-test-{os.getpid()}")
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as error:
        return f"no control group can be made in {root}: {error.strerror}"
    return None


class Cgroup:
    """A control group, and those above it as far as they had to be made."""

    def __init__(self, path):
        self.path = hierarchy()
        self.made = []
        for name in path.split("/"):
            self.path = os.path.join(self.path, name)
            if not os.path.isdir(self.path):
                os.mkdir(self.path)
                self.made.insert(0, self.path)

    def enter(self):
        """Move the calling process into it."""
        with open(os.path.join(self.path, "cgroup.procs"), "w") as procs:
            procs.write("0")

    def remove(self):
        """All processes in it have ended, and been waited for."""
        for path in self.made:
            os.rmdir(path)


def in_child(run, before=None):
    """What @run() returns, bytes, in a child that calls @before() first."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if before:
                before()
            os.write(write, run())
            status = 0
        except BaseException:  # the parent's tests must not go on in the child
            traceback.print_exc()
        os._exit(status)
    os.close(write)
    answer = b""
    while more := os.read(read, 65536):
        answer += more
    os.close(read)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    return answer
