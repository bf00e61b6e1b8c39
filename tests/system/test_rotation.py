# SPDX-License-Identifier: Apache-2.0
"""The timers that rotate: for a folder as the owners of its databases, and for a user's own databases."""
import struct
import unittest

import support
from machine import until

DAYS = 24 * 3600 * 1000000
LONG_AGO = """[Service]
Environment=LD_PRELOAD=/usr/local/lib/libfake-clock.so FAKE_CLOCK=/usr/local/lib/clock
"""


class Rotation(support.SystemCase):
    config = support.CONFIG + "rotation_enabled = yes\nrotation_period_days = 90\n"

    def old_database(self, path):
        """A database of clinic's whose key is 100 days old."""
        clock = "/usr/local/lib/clock"
        self.machine.copy(support.release.fake_clock, "/usr/local/lib/libfake-clock.so")
        with open(self.machine.path(clock), "wb") as file:
            file.write(struct.pack("=qq", 0, -100 * DAYS))
        self.machine.write("/run/systemd/system/lkmd.service.d/long-ago.conf", LONG_AGO)
        self.run_in("systemctl", "daemon-reload")
        self.run_in("systemctl", "restart", "lkmd.service")
        self.run_as("clinic", "lkmctl", "create", path)
        self.run_as("clinic", "lkmctl", "sqlcipher", path, text="CREATE TABLE patient(name); INSERT INTO patient VALUES('Ada');")
        self.run_in("rm", "/run/systemd/system/lkmd.service.d/long-ago.conf")
        self.run_in("systemctl", "daemon-reload")
        self.run_in("systemctl", "restart", "lkmd.service")

    def version(self, path):
        return self.run_as("clinic", "lkmctl", "history", path).stdout

    def opens(self, path):
        return self.run_as("clinic", "lkmctl", "sqlcipher", path, text="SELECT name FROM patient;").stdout.strip()

    def test_the_timer_of_a_folder_rotates_what_is_due_as_its_owner(self):
        path = "/var/lib/clinic/due.db"
        self.old_database(path)
        self.assertNotRegex(self.version(path), r"(?m)^\s*2\b")
        self.run_in("systemctl", "enable", "--now", "lkm-rotate@var-lib-clinic.timer")
        self.assertEqual(self.show("lkm-rotate@var-lib-clinic.timer", "ActiveState"), "active")
        self.run_in("systemctl", "start", "lkm-rotate@var-lib-clinic.service")
        self.assertRegex(self.version(path), r"(?m)^\s*2\b")
        self.assertEqual(self.opens(path), "Ada")
        for name in (path, path + ".key"):
            self.assertEqual(self.run_in("stat", "--format=%U", name).stdout.strip(), "clinic")

    def test_the_timer_of_a_user_rotates_what_is_due(self):
        home = "/home/clinic/.local/share"
        self.run_as("clinic", "mkdir", "-p", home)
        path = f"{home}/due.db"
        self.old_database(path)
        uid = self.run_in("id", "-u", "clinic").stdout.strip()
        self.run_in("systemctl", "start", f"user@{uid}.service")
        own = ("env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/clinic", "systemctl", "--user")
        until(lambda: self.run_as("clinic", *own, "is-system-running", check=False).stdout.strip() in ("running", "degraded"), "the user's systemd runs")
        self.run_as("clinic", *own, "enable", "--now", "lkm-rotate.timer")
        self.run_as("clinic", *own, "start", "lkm-rotate.service")
        self.assertRegex(self.version(path), r"(?m)^\s*2\b")
        self.assertEqual(self.opens(path), "Ada")


if __name__ == "__main__":
    unittest.main()
