# SPDX-License-Identifier: Apache-2.0
"""PROTOCOL.md is enough: the client written from it works against the real daemons."""
import os
import subprocess
import sys
import unittest

from daemons import DaemonCase
from support import TIMEOUT

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../wire/client.py")


class PythonClient(DaemonCase):
    def run_client(self, *arguments):
        return subprocess.run([sys.executable, CLIENT, self.socket, *arguments], capture_output=True, text=True, timeout=TIMEOUT)

    def test_a_key_is_created_stored_and_got_again(self):
        database = self.path("patients.db")
        self.assertEqual(self.run_client("ping").returncode, 0)
        created = self.run_client("create", database, "medical")
        self.assertEqual((created.returncode, len(created.stdout.strip())), (0, 64), created.stderr)
        self.assertEqual(os.stat(database + ".key").st_mode & 0o777, 0o600)
        self.assertEqual(self.run_client("get", database).stdout, created.stdout)
        self.assertIn('"verified":true', self.run_client("check", database).stdout)
        again = self.run_client("create", database, "medical")
        self.assertEqual(again.returncode, 1)
        self.assertIn("exists", again.stderr)

    def test_a_refusal_is_told_in_its_sentence(self):
        refused = self.run_client("create", self.path("x.db"), "closed")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("No rule of the policy allows this", refused.stderr)
        self.assertFalse(os.path.exists(self.path("x.db.key")))


if __name__ == "__main__":
    unittest.main()
