# SPDX-License-Identifier: Apache-2.0
"""The packages: what an administrator changed stays, nobody notices an upgrade, and a purge leaves what cannot be had again."""
import os
import unittest

import support
from machine import until

CONFFILE = "/etc/lkm/lkmd.conf"


class Upgrade(support.SystemCase):
    def upgrade(self):
        newer = support.release.newer()
        for path in newer:
            self.machine.copy(path, f"/packages/{os.path.basename(path)}")
        self.run_in("dpkg", "--force-confdef", "--force-confold", "--install", *(f"/packages/{os.path.basename(path)}" for path in newer))

    def test_an_upgrade_under_load_fails_no_request_and_keeps_the_configuration(self):
        path = self.database("upgrade.db")
        changed = self.machine.read(CONFFILE) + "# changed here\n"
        self.machine.write(CONFFILE, changed)
        before = self.process("lkmd.service")
        with support.Load(self.machine, path) as load:
            self.upgrade()
            until(lambda: self.process("lkmd.service") != before, "the upgrade starts the new lkmd")
            self.run_as("clinic", "lkmctl", "check", path)
        self.assertEqual((load.result["failed"], load.result["first"]), (0, ""))
        self.assertEqual(self.machine.read(CONFFILE), changed)
        self.assertIn("from a newer package", self.machine.read(CONFFILE + ".dpkg-dist"))
        self.assertEqual(self.run_in("systemctl", "--failed", "--no-legend", "--plain").stdout, "")


class Removal(support.SystemCase):
    def exists(self, path):
        return os.path.lexists(self.machine.path(path))

    def test_a_purge_removes_all_but_what_no_package_can_bring_back(self):
        path = self.database("purge.db")
        self.run_in("dpkg", "--remove", "lkm")
        self.assertTrue(self.exists(CONFFILE))
        for unit in ("lkmd.socket", "lkmd.service", "lkm-kms.socket", "lkm-kms.service"):
            self.assertEqual(self.run_in("systemctl", "is-active", unit, check=False).stdout.strip(), "inactive", unit)
        self.assertFalse(self.exists("/run/lkm/lkm.sock"))
        self.run_in("dpkg", "--purge", "lkm", "lkm-tools", "liblkm1")
        left = self.run_in("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\\n", "*lkm*", check=False).stdout
        self.assertNotRegex(left, "(?m)^(lkm|liblkm).* [a-z]i")
        for gone in (CONFFILE, "/usr/sbin/lkmd", "/usr/bin/lkmctl", "/var/log/lkm"):
            self.assertFalse(self.exists(gone), gone)
        # Without the KEK no database would ever open again; it and the databases are the administrator's.
        for kept in ("/etc/lkm/credentials/local", path + ".key"):
            self.assertTrue(self.exists(kept), kept)
        self.assertEqual(self.run_in("systemctl", "--failed", "--no-legend", "--plain").stdout, "")


class Judged(unittest.TestCase):
    def test_lintian_has_nothing_to_say(self):
        said = support.release.build_root.run("sh", "-c", "lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs /packages/*.deb || true")
        self.assertEqual(said.strip(), "")


if __name__ == "__main__":
    unittest.main()
