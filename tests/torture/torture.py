# SPDX-License-Identifier: Apache-2.0
"""What the torture tests share: where they work, how long, and running their programs."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
from daemons import DaemonCase  # noqa: E402
from support import BUILD, TIMEOUT  # noqa: E402

# What is tested is a model of a disk, and no disk: memory is faster where it can be had.
if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"

LONG = bool(os.environ.get("LKM_TORTURE"))  # meson test --suite torture
PROGRAMS = os.path.join(BUILD, "tests/torture")
SKIP = ("the library that records or kills must be the first one, and so must a sanitizer's" if os.environ.get("LKM_SANITIZED") else
        "these tests count calls and states, not memory errors" if os.environ.get("LKM_TEST_WRAPPER") else None)
KIB, MIB = 1024, 1024 * 1024


def scratch(case):
    directory = tempfile.mkdtemp(prefix="lkm-torture-")
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


class TortureCase(DaemonCase):
    """Databases of lkm's, each in a directory of its own, and lkmd and lkm-kms."""
    scope_options = f"allow_history = uid:{os.getuid()}"
    app = os.path.join(PROGRAMS, "app")

    @classmethod
    def setUpClass(cls):
        cls.losses = PowerLoss()
        cls.n_databases = 0

    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config)  # the programs name no scope: one must be the only one
        self.write("lkmd.conf", text[:text.index("[scope billing]")])

    def new_directory(self):
        type(self).n_databases += 1
        directory = self.path(f"{self.n_databases}")
        os.mkdir(directory)
        return directory

    def run_app(self, *arguments, program=None, **environment):
        return subprocess.run([program or self.app, *arguments], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT,
                              env={**os.environ, "LKM_SOCKET": self.socket, **environment})

    def create(self, size, journal):
        database = os.path.join(self.new_directory(), "db")
        done = self.run_app("create", database, str(size), journal)
        self.assertEqual(done.returncode, 0, done.stdout)
        return database
