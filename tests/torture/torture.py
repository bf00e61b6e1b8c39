# SPDX-License-Identifier: Apache-2.0
"""What the torture tests share: where they work, how long, and running their programs."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
from support import BUILD  # noqa: E402

LONG = bool(os.environ.get("LKM_TORTURE"))  # meson test --suite torture
PROGRAMS = os.path.join(BUILD, "tests/torture")
SKIP = ("the library that records or kills must be the first one, and so must a sanitizer's" if os.environ.get("LKM_SANITIZED") else
        "these tests count calls and states, not memory errors" if os.environ.get("LKM_TEST_WRAPPER") else None)
KIB, MIB = 1024, 1024 * 1024


def scratch(case):
    """A directory that is memory where that is possible: what is tested is a model of a disk, and no disk."""
    directory = tempfile.mkdtemp(prefix="lkm-torture-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    case.addCleanup(shutil.rmtree, directory)
    return directory


def tool(name, *arguments, **options):
    """Run a program of this folder; its progress goes to the log of the test."""
    return subprocess.run([os.path.join(PROGRAMS, name), *arguments], stdout=subprocess.PIPE, text=True, check=True, **options).stdout


class PowerLoss:
    """The sum of what power-loss found."""

    def __init__(self):
        self.sum = dict.fromkeys(("states", "lost", "flipped", "manual", "msec"), 0)

    def add(self, line, what):
        found = json.loads(line)
        for name in self.sum:
            self.sum[name] += found[name]
        print(f"{what}: {found['states']} states of {found['calls']} calls, {found['lost']} lost, {found['flipped']} flipped, "
              f"{found['manual']} manual, {found['states'] * 1000 // max(found['msec'], 1)} a second", flush=True)
        return found
