# SPDX-License-Identifier: Apache-2.0
"""What the README types is typed, against lkm-mock-kms."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from support import BUILD, TIMEOUT

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../README.md")
PROGRAMS = ("tests/mock-kms", "daemon/run", "daemon/kms", "daemon", "client")


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
@unittest.skipIf(os.environ.get("LKM_TEST_WRAPPER"), "typed as a person would, without a wrapper")
class Readme(unittest.TestCase):
    def type(self, section):
        with open(README) as file:
            text = file.read()
        block = re.search(rf"^## {section}\n.*?^```sh\n(.*?)^```", text, re.M | re.S).group(1)
        with tempfile.TemporaryDirectory(prefix="lkm-test-") as directory:
            done = subprocess.run(["bash", "-eu", "-c", block], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=TIMEOUT,
                                  check=False, env={**os.environ, "TMPDIR": directory, "PATH": ":".join([os.path.join(BUILD, p) for p in PROGRAMS] + [os.environ["PATH"]])})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_aws(self):
        printed = self.type("AWS KMS")
        self.assertIn("kms:GenerateDataKey", printed)
        self.assertRegex(printed, r"verified +yes")

    def test_vault(self):
        printed = self.type("Vault and OpenBao")
        self.assertIn('path "transit/datakey/plaintext/lkm"', printed)
        self.assertRegex(printed, r"vault +vault +yes")

    def test_rotation(self):
        printed = self.type("Rotation")
        self.assertRegex(printed, r"patients.db: rotated to version 2: ")
        self.assertRegex(printed, r"1 +retired +\S+Z +\S+Z +local:")
        self.assertIn("1 database: 1 with nothing to do", printed)

    def test_audit(self):
        printed = self.type("Audit")
        self.assertRegex(printed, r"(?m)^\d+ +\S+ \S+ +release +\S+ +\S+ +medical ")
        self.assertIn(",release,", printed)
        self.assertRegex(printed, r"(?m)^Records 1 to \d+ are good: ")
        self.assertRegex(printed, r"(?m)^TAMPERED WITH: record \d+ was changed: ")
        self.assertIn("exit status 1", printed)

    def test_moving_in(self):
        printed = self.type("Moving in")
        self.assertRegex(printed, r"patients\.db: adopted: key 2")
        self.assertRegex(printed, r"(?m)^visit +1$")
        self.assertRegex(printed, r"(?m)^Ada$")


if __name__ == "__main__":
    unittest.main()
