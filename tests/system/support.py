# SPDX-License-Identifier: Apache-2.0
"""What the tests on a real systemd share: a machine with the packages installed and a policy for the user clinic, units, and load."""
import json
import os
import subprocess
import unittest

from machine import TIMEOUT, until
from release import SOURCE

release = None # the Release that is tested, set by main.py
DAEMONS = ("lkm", "lkm-tools", "liblkm1")

# Beside what the package ships, whose KEK "local" was made when it was installed.
CONFIG = """
[scope medical]
keks = local
encryption_context = purpose=test
allow = user:clinic
allow_history = user:clinic
"""

# What the user clinic asks, as a program of its own would: a database in the folder of its service, and its key.
CLINIC = """[Service]
Type=oneshot
User=clinic
StateDirectory=clinic
WorkingDirectory=/var/lib/clinic
NoNewPrivileges=yes
ProtectSystem=strict
ExecStart=/bin/sh -e /run/{name}.sh
"""


class SystemCase(unittest.TestCase):
    """Each class has a machine of its own, with a clean root; its tests run in it one after the other."""
    installs = DAEMONS
    with_compiler = False
    config = CONFIG
    config_path = "/etc/lkm/lkmd.conf.d/test.conf"
    configured = None

    @classmethod
    def setUpClass(cls):
        cls.configured = None
        cls.machine = release.boot(with_compiler=cls.with_compiler)
        cls.addClassCleanup(cls.machine.stop)
        if not cls.installs:
            return
        try:
            cls.prepare()
        except Exception:
            tell(cls)
            raise

    @classmethod
    def prepare(cls):
        cls.install(*cls.installs)
        for user in ("clinic", "other"):
            cls.machine.run("useradd", "--system", "--create-home", user)
        cls.machine.run("install", "-d", "-o", "clinic", "/var/lib/clinic")
        cls.configure(cls.config)

    @classmethod
    def install(cls, *packages):
        return cls.machine.run("dpkg", "--install", *(f"/packages/{os.path.basename(release.packages[package])}" for package in packages)).stdout

    @classmethod
    def configure(cls, text):
        """Put @text in force, unless it is."""
        if text != cls.configured:
            cls.machine.write(cls.config_path, text)
            cls.machine.run("systemctl", "restart", "lkmd.service")
            cls.machine.run("systemctl", "try-restart", "lkm-kms.service")
        cls.configured = text

    def setUp(self):
        if self.installs:
            self.configure(self.config)

    def run_in(self, *command, **options):
        return self.machine.run(*command, **options)

    def run_as(self, user, *command, **options):
        return self.machine.run("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command, **options)

    def unit(self, name, text):
        """Write a unit, and have systemd read it. It is gone again after the test."""
        path = f"/run/systemd/system/{name}"
        self.machine.write(path, text)
        self.run_in("systemctl", "daemon-reload")
        self.addCleanup(self.run_in, "systemctl", "daemon-reload")
        self.addCleanup(os.unlink, self.machine.path(path))

    def clinic(self, script, name="clinic.service", check=True):
        """Run @script as the service of the user clinic. Return: what it wrote to the journal."""
        self.machine.write(f"/run/{name}.sh", script)
        self.unit(name, CLINIC.format(name=name))
        done = self.run_in("systemctl", "start", name, check=False)
        text = self.journal(name, self.show(name, "InvocationID"))
        if check:
            self.assertEqual(done.returncode, 0, text)
        else:
            self.assertNotEqual(done.returncode, 0, text)
        return text

    def show(self, unit, name):
        return self.run_in("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit, invocation=None):
        self.run_in("journalctl", "--sync")
        which = f"_SYSTEMD_INVOCATION_ID={invocation}" if invocation else f"--unit={unit}"
        return self.run_in("journalctl", "--boot", "--no-pager", "--output=cat", which).stdout

    def status(self):
        return json.loads(self.run_in("lkmctl", "--json", "status").stdout)

    def process(self, unit):
        """The main process of a unit, as its number outside; the unit has one."""
        inside = self.show(unit, "MainPID")
        self.assertNotEqual(inside, "0", f"{unit} does not run")
        return int(inside)

    def database(self, name, scope="medical"):
        """A new database of clinic's. Return: its path."""
        path = f"/var/lib/clinic/{name}"
        self.run_as("clinic", "lkmctl", "--scope", scope, "create", path)
        return path

    def until_restarted(self, unit, before):
        """Wait until systemd has started @unit again, and it serves. @before: NRestarts of it."""
        until(lambda: int(self.show(unit, "NRestarts")) > before and self.show(unit, "ActiveState") == "active", f"systemd restarts {unit}")


class Load:
    """Requests of the user clinic in several threads, from the first answer until the end of the `with`; then `result` says what came of them."""

    def __init__(self, machine, database):
        self.machine = machine
        self.database = database
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.machine.enter("setpriv", "--reuid=clinic", "--regid=clinic", "--init-groups", "lkm-load", self.database),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise AssertionError(f"the load does not start: {line}{self.process.communicate()[0]}")
        return self

    def __exit__(self, *_):
        output = self.process.communicate("", timeout=TIMEOUT)[0]
        self.result = json.loads(output)


def tell(test):
    """What the machine of a test, or of a class of them, that failed has to say."""
    machine = getattr(test, "machine", None)
    if machine:
        print("-- journal of the machine")
        print(machine.run("journalctl", "--boot", "--no-pager", "--lines=25", check=False).stdout)
