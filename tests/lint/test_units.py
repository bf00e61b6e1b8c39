# SPDX-License-Identifier: Apache-2.0
"""systemd understands the units and finds nothing to say about them, and they leave the services no more than they need.  test_units.py BUILD-FOLDER"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
PROGRAMS = {"lkmctl": "client", "lkmd": "daemon", "lkm-kms": "daemon/kms"}
INSTANCE = "lkm-rotate@var-lib-clinic"


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
class UnitCase(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lkm-test-")
        self.addCleanup(shutil.rmtree, self.directory)

    def place(self, folder):
        """The units as they are installed, calling the programs of the build. Return: those to look at."""
        units = []
        for name in os.listdir(os.path.join(ROOT, "systemd", folder)):
            above = build if name.endswith(".in") else ROOT
            name = name.removesuffix(".in")
            if name.endswith((".service", ".socket", ".timer")):
                with open(os.path.join(above, "systemd", folder, name)) as file:
                    self.write(name, re.sub(r"^ExecStart=\S+/([a-z-]+)", lambda m: f"ExecStart={build}/{PROGRAMS[m[1]]}/{m[1]}", file.read(), flags=re.M))
                units.append(name.replace("lkm-rotate@", INSTANCE))
        return sorted(units)

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w") as file:
            file.write(text)

    def change(self, name, old, new):
        with open(os.path.join(self.directory, name)) as file:
            text = file.read()
        self.assertIn(old, text)
        self.write(name, text.replace(old, new))

    def analyze(self, *arguments):
        done = subprocess.run(["systemd-analyze", "--no-pager", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.directory,
                              env={**os.environ, "SYSTEMD_UNIT_PATH": self.directory + ":", "XDG_RUNTIME_DIR": self.directory}, check=False)
        # Of other units of this machine it speaks too.
        return done.returncode, [line for line in done.stdout.splitlines() if "lkm" in line]

    def verify(self, *options):
        return self.analyze("verify", "--man=no", *options)


class Verified(UnitCase):
    def test_units_of_the_system_are_clean(self):
        units = self.place("")
        self.assertEqual(units, ["lkm-kms.service", "lkm-kms.socket", INSTANCE + ".service", INSTANCE + ".timer", "lkmd-admin.socket", "lkmd.service",
                                 "lkmd.socket"])
        for unit in units:
            self.assertEqual(self.verify(unit), (0, []), unit)

    def test_units_of_a_user_are_clean(self):
        units = self.place("user")
        self.assertEqual(units, ["lkm-kms.service", "lkm-kms.socket", "lkm-rotate.service", "lkm-rotate.timer", "lkmd.service", "lkmd.socket"])
        for unit in units:
            self.assertEqual(self.verify("--user", unit), (0, []), unit)

    def test_mistake_is_found(self):
        self.place("")
        self.change("lkmd.service", "NoNewPrivileges=", "NoSuchOption=")
        self.assertNotEqual(self.verify("lkmd.service")[1], [])

    def test_nothing_is_left_to_be_filled_in(self):
        for folder, _, names in os.walk(os.path.join(build, "systemd")):
            for name in names:
                with open(os.path.join(folder, name)) as file:
                    self.assertNotRegex(file.read(), r"@[a-z_]+@", name)


@unittest.skipUnless(shutil.which("systemd-sysusers"), "systemd-sysusers is not installed")
class Users(UnitCase):
    def test_each_user_that_a_unit_names_is_made(self):
        os.mkdir(os.path.join(self.directory, "etc"))
        done = subprocess.run(["systemd-sysusers", "--root=" + self.directory, os.path.join(ROOT, "systemd/sysusers.conf")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        self.assertNotIn("not a valid", done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout)
        with open(os.path.join(self.directory, "etc/passwd")) as file:
            made = {line.split(":")[0] for line in file}
        named = set()
        for unit in self.place(""):
            if "@" not in unit:
                with open(os.path.join(self.directory, unit)) as file:
                    named.update(re.findall(r"^(?:Socket)?User=(\S+)", file.read(), flags=re.M))
        self.assertEqual(named, {"lkm", "lkm-kms"})
        self.assertLessEqual(named, made)


class Exposed(UnitCase):
    """By `systemd-analyze security`, 0.0 (nothing) to 10.0: of what a service could do to the machine if it were taken over."""

    def setUp(self):
        super().setUp()
        self.place("")

    def exposure(self, unit):
        status, lines = self.analyze("security", "--offline=yes", os.path.join(self.directory, unit))
        found = [re.search(r"Overall exposure level for \S+: ([0-9.]+) ", line) for line in lines]
        self.assertEqual((status, len([m for m in found if m])), (0, 1), lines)
        return float([m for m in found if m][0][1])

    def test_lkmd_is_exposed_at_most_half_a_point(self):
        self.assertLessEqual(self.exposure("lkmd.service"), 0.5)

    def test_worker_is_exposed_at_most_one_point_two(self):
        self.assertLessEqual(self.exposure("lkm-kms.service"), 1.2)

    def test_a_freedom_more_is_seen(self):
        self.change("lkmd.service", "PrivateNetwork=yes", "PrivateNetwork=no")
        self.change("lkm-kms.service", "ProtectHome=yes", "ProtectHome=no")
        self.assertGreater(self.exposure("lkmd.service"), 0.5)
        self.assertGreater(self.exposure("lkm-kms.service"), 1.2)

    def test_processes_of_others_are_seen_by_lkmd(self):
        # The rules for units need that; the score would be better without.
        with open(os.path.join(self.directory, "lkmd.service")) as file:
            self.assertNotRegex(file.read(), r"(?m)^(ProtectProc|PrivateUsers|PrivatePIDs)=")


if __name__ == "__main__":
    build = sys.argv.pop(1)
    unittest.main()
