# SPDX-License-Identifier: Apache-2.0
"""systemd understands the units, and finds nothing to say about them.  test_units.py BUILD-FOLDER"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
class Units(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lkm-test-")
        self.addCleanup(shutil.rmtree, self.directory)

    def place(self, folder, name):
        """The unit as it is installed, calling the lkmctl of the build."""
        built = os.path.join(build, "systemd", name)
        with open(built if os.path.exists(built) else os.path.join(ROOT, "systemd", folder, name)) as file:
            text = file.read()
        self.assertNotIn("@bindir@", text)
        text = re.sub(r"^ExecStart=\S+/lkmctl ", f"ExecStart={build}/client/lkmctl ", text, flags=re.M)
        with open(os.path.join(self.directory, name), "w") as file:
            file.write(text)

    def verify(self, *options):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.directory,
                              env={**os.environ, "SYSTEMD_UNIT_PATH": self.directory + ":", "XDG_RUNTIME_DIR": self.directory}, check=False)
        # Of other units of this machine it speaks too.
        return done.returncode, [line for line in done.stdout.splitlines() if "lkm" in line]

    def test_units_of_the_system_are_clean(self):
        self.place("", "lkm-rotate@.service")
        self.place("", "lkm-rotate@.timer")
        for unit in ("lkm-rotate@var-lib-clinic.service", "lkm-rotate@var-lib-clinic.timer"):
            self.assertEqual(self.verify(unit), (0, []))

    def test_units_of_a_user_are_clean(self):
        self.place("user", "lkm-rotate.service")
        self.place("user", "lkm-rotate.timer")
        for unit in ("lkm-rotate.service", "lkm-rotate.timer"):
            self.assertEqual(self.verify("--user", unit), (0, []))

    def test_mistake_is_found(self):
        self.place("", "lkm-rotate@.service")
        with open(os.path.join(self.directory, "lkm-rotate@.service"), "a") as file:
            file.write("NoSuchOption=yes\n")
        self.assertNotEqual(self.verify("lkm-rotate@var-lib-clinic.service")[1], [])


if __name__ == "__main__":
    build = sys.argv.pop(1)
    unittest.main()
