# SPDX-License-Identifier: Apache-2.0
"""The packages: what an administrator changed stays, nobody notices an upgrade, and a purge leaves what cannot be had again."""
import os
import re
import unittest

import support
from machine import until

CONFFILE = "/etc/lkm/lkmd.conf"
KEK = "/etc/lkm/credentials/local.kek"


class Upgrade(support.SystemCase):
    def upgrade(self):
        newer = support.release.newer()
        for path in newer:
            self.machine.copy(path, f"/packages/{os.path.basename(path)}")
        self.run_in("dpkg", "--force-confdef", "--force-confold", "--install", *(f"/packages/{os.path.basename(path)}" for path in newer))

    def listening_since(self):
        return [self.show(socket, "ActiveEnterTimestampMonotonic") for socket in ("lkmd.socket", "lkmd-admin.socket", "lkm-kms.socket")]

    def test_an_upgrade_under_load_fails_no_request_and_keeps_the_configuration(self):
        path = self.database("upgrade.db")
        changed = self.machine.read(CONFFILE) + "# changed here\n"
        self.machine.write(CONFFILE, changed)
        before = self.process("lkmd.service")
        listening = self.listening_since()
        with support.Load(self.machine, path) as load:
            self.upgrade()
            until(lambda: self.process("lkmd.service") != before, "the upgrade starts the new lkmd")
            self.run_as("clinic", "lkmctl", "check", path)
        self.assertEqual((load.result["failed"], load.result["first"]), (0, ""))
        self.assertEqual(self.listening_since(), listening)
        self.assertEqual(self.machine.read(CONFFILE), changed)
        self.assertIn("from a newer package", self.machine.read(CONFFILE + ".dpkg-dist"))
        self.assertEqual(self.run_in("systemctl", "--failed", "--no-legend", "--plain").stdout, "")


class Removal(support.SystemCase):
    def exists(self, path):
        return os.path.lexists(self.machine.path(path))

    def test_a_purge_removes_all_but_what_no_package_can_bring_back(self):
        path = self.database("purge.db")
        kek = self.machine.read(KEK)
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
        self.assertEqual(self.run_in("systemctl", "--failed", "--no-legend", "--plain").stdout, "")
        # Without the KEK no database would ever open again: it is the administrator's, and of use when the packages come back.
        self.assertEqual(self.machine.read(KEK), kek)
        self.install(*self.installs)
        self.assertEqual(self.machine.read(KEK), kek)
        self.machine.write(self.config_path, self.config)
        self.run_in("systemctl", "restart", "lkmd.service")
        self.run_as("clinic", "lkmctl", "check", path)


class Autopkgtest(support.SystemCase):
    """debian/tests/control, as Debian's own machines run it, where the packages are new and a compiler is there."""
    installs = ()
    with_compiler = True

    def test_the_tests_of_the_source_package_pass(self):
        self.install(*support.DAEMONS, "liblkm-dev")
        with open(os.path.join(support.SOURCE, "packaging/debian/tests/control")) as file:
            names = re.search(r"^Tests: (.*)$", file.read(), re.M).group(1).replace(",", " ").split()
        for name in names:
            with self.subTest(name=name):
                self.run_in("sh", "-c", f"cd /lkm && exec packaging/debian/tests/{name}")


class Judged(unittest.TestCase):
    def test_lintian_has_nothing_to_say(self):
        said = support.release.build_root.run("sh", "-c", "lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs /packages/*.deb || true")
        self.assertEqual(said.strip(), "")


if __name__ == "__main__":
    unittest.main()
