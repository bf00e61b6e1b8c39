# SPDX-License-Identifier: Apache-2.0
"""lkm of one user, under his own systemd: the steps that lkmd.socket of users gives."""
import unittest

import support
from machine import until


class OwnDaemons(support.SystemCase):
    def setUp(self):
        super().setUp()
        uid = self.run_in("id", "-u", "clinic").stdout.strip()
        self.run_in("systemctl", "start", f"user@{uid}.service")
        self.runtime = f"/run/user/{uid}"
        until(lambda: self.systemctl("is-system-running", check=False).stdout.strip() in ("running", "degraded"), "the user's systemd runs")

    def as_user(self, *command, **options):
        return self.run_as("clinic", "env", f"XDG_RUNTIME_DIR={self.runtime}", "HOME=/home/clinic", *command, **options)

    def systemctl(self, *arguments, **options):
        return self.as_user("systemctl", "--user", *arguments, **options)

    def test_a_user_has_daemons_and_a_kek_of_his_own(self):
        self.run_in("systemctl", "stop", "lkmd.socket", "lkmd.service")
        self.as_user("lkm-run", "--dev", "true")
        self.as_user("cp", "/home/clinic/.config/lkm/dev.conf", "/home/clinic/.config/lkm/lkmd.conf")
        self.systemctl("enable", "--now", "lkmd.socket", "lkm-kms.socket")
        path = "/home/clinic/own.db"
        self.as_user("lkmctl", "create", path)
        self.assertEqual(self.systemctl("is-active", "lkmd.service", "lkm-kms.service").stdout.split(), ["active", "active"])
        self.systemctl("restart", "lkmd.service")
        self.as_user("lkmctl", "check", path)
        self.assertEqual(self.run_as("other", "lkmctl", "--socket", f"{self.runtime}/lkm/lkm.sock", "ping", check=False).returncode, 4)


if __name__ == "__main__":
    unittest.main()
