# SPDX-License-Identifier: Apache-2.0
"""What the torture tests share: where they work, how long, and running their programs."""
import collections
import concurrent.futures
import fcntl
import itertools
import json
import os
import shutil
import signal
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
SKIP = ("the library that records, kills or fails must be the first one, and so must a sanitizer's" if os.environ.get("LKM_SANITIZED") else
        "these tests count calls and states, not memory errors" if os.environ.get("LKM_TEST_WRAPPER") else None)
KIB, MIB = 1024, 1024 * 1024

Database = collections.namedtuple("Database", "path content")  # content: its hash


def scratch(case):
    directory = tempfile.mkdtemp(prefix="lkm-torture-")
    case.addCleanup(shutil.rmtree, directory)
    return directory


def tool(name, *arguments, **options):
    """Run a program of this folder; its progress goes to the log of the test."""
    return subprocess.run([os.path.join(PROGRAMS, name), *arguments], stdout=subprocess.PIPE, text=True, check=True, **options).stdout


def each_of(one, cases):
    """one(*case) for each, as many at once as there are processors."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(one, *case) for case in cases]:
            done.result()


def tell_found(line, what):
    """The line of power-loss."""
    found = json.loads(line)
    print(f"{what}: {found['states']} states of {found['calls']} calls, {found['lost']} lost, {found['flipped']} flipped, "
          f"{found['manual']} manual, {found['taken_back']} taken back, {found['states'] * 1000 // max(found['msec'], 1)} a second", flush=True)
    return found


class TortureCase(DaemonCase):
    """Databases of lkm's, each in a directory of its own, and lkmd and lkm-kms."""
    scope_options = f"allow_history = uid:{os.getuid()}"
    app = os.path.join(PROGRAMS, "app")
    lkmctl = os.path.join(BUILD, "client/lkmctl")

    @classmethod
    def setUpClass(cls):
        cls.numbers = itertools.count()
        cls.n_states = collections.Counter()

    @classmethod
    def tearDownClass(cls):
        if cls.n_states:
            print("in all:", ", ".join(f"{n} {what}" for what, n in cls.n_states.items()), flush=True)

    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config)  # the programs name no scope: one must be the only one
        self.write("lkmd.conf", text[:text.index("[scope billing]")])

    # ---- databases ----

    def new_path(self):
        directory = self.path(str(next(self.numbers)))
        os.mkdir(directory)
        return os.path.join(directory, "db")

    def run_lkm(self, *command, **environment):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                              env={**os.environ, "LKM_SOCKET": self.socket, **environment})

    def must(self, *command, **environment):
        done = self.run_lkm(*command, **environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def create(self, size, journal):
        path = self.new_path()
        return Database(path, self.must(self.app, "create", path, str(size), journal).strip())

    def create_passphrase(self, size, passphrase):
        path = self.new_path()
        return Database(path, self.must(self.app, "create-passphrase", path, str(size), passphrase).strip())

    # ---- power loss ----

    def power_loss(self, what, states, seed, database, *command, **environment):
        line = tool("power-loss", database.path, database.content, str(states), str(seed), *command,
                    env={**os.environ, "LKM_SOCKET": self.socket, "TORTURE_WHAT": what, **environment})
        found = tell_found(line, f"{what}, seed {seed}")
        for name in ("states", "lost", "flipped", "manual", "taken_back") if not what.startswith("control") else ():
            self.n_states[name] += found[name]
        return found

    # ---- kills ----

    def counted(self, directory, *command, preload=None, **environment):
        """Run a command, and tell how many calls each process made that came to its end by itself."""
        counts = os.path.join(directory, f"counts-{next(self.numbers)}")
        done = self.run_lkm(*command, LD_PRELOAD=preload or os.path.join(BUILD, "tests/integration/libkill-at.so"), KILL_COUNT=counts, **environment)
        calls = {}
        if os.path.exists(counts):
            with open(counts) as file:
                for line in file:
                    name, n = line.rsplit(":", 1)
                    calls.setdefault(name, int(n))
            os.unlink(counts)
        return done, calls

    def copy(self, path):
        """A copy of a database and what lies beside it. Its record is not bound to a path."""
        copied = self.new_path()
        shutil.rmtree(os.path.dirname(copied))
        shutil.copytree(os.path.dirname(path), os.path.dirname(copied))
        return copied

    @staticmethod
    def remove(path):
        shutil.rmtree(os.path.dirname(path))

    @staticmethod
    def wait_for_the_last(path):
        """lkm-rekey outlives who started it, and has the lock of the .key as long as it works."""
        while True:
            with open(path + ".key") as key:
                fcntl.flock(key, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(key.fileno()), os.stat(path + ".key")):
                    return

    def has_pending(self, path):
        with open(path + ".key") as record:
            return any(version["state"] == "pending" for version in json.load(record)["versions"])

    def interrupt(self, database, program, part):
        """Kill @program in a rotation when it has done @part of its calls, and what started it as well."""
        dry = self.copy(database.path)
        _, calls = self.counted(self.directory, self.app, "rotate", dry)
        alone = program == "app rotate"
        done = self.run_lkm(self.app, "rotate", database.path, LD_PRELOAD=os.path.join(BUILD, "tests/integration/libkill-at.so"), KILL_IN=program,
                            KILL_AT=str(int(calls[program] * part)), **({} if alone else {"KILL_PARENT": "1"}))
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.wait_for_the_last(database.path)
        self.assertTrue(self.has_pending(database.path))
