# SPDX-License-Identifier: Apache-2.0
"""Credentials: the KEK reaches lkm-kms from the service manager, in clear or encrypted to this machine, and nobody else."""
import os
import re
import unittest

import support

TWO = support.CONFIG + """
[kek sealed]
kms_type = local
kek_credential = sealed
[scope sealed]
keks = sealed
allow = user:clinic
"""


class Credentials(support.SystemCase):
    config = TWO

    def digits(self):
        """Of the KEK, as its file has them."""
        return re.search(r"[0-9a-f]{64}", self.machine.read("/etc/lkm/credentials/local.kek")).group(0)

    def test_the_kek_in_the_folder_is_of_use_and_only_root_and_the_worker_can_read_it(self):
        self.database("clear.db")
        self.assertEqual(self.show("lkm-kms.service", "ActiveState"), "active")
        names = self.run_in("find", "/etc/lkm/credentials", "/run/credentials", "-type", "f", "-name", "*local.kek").stdout.split()
        self.assertGreaterEqual(len(names), 2, names)
        for name in names:
            for user in ("lkm", "clinic", "other"):
                self.assertNotEqual(self.run_as(user, "cat", name, check=False).returncode, 0, f"{user} reads {name}")

    def test_lkmd_never_has_the_kek(self):
        self.database("memory.db")
        wanted = self.digits()
        pid = self.process("lkmd.service")
        self.assertFalse(self.has(pid, wanted.encode()) or self.has(pid, bytes.fromhex(wanted)))
        # The search does find what is there.
        self.assertTrue(self.has(pid, b"medical"))

    def has(self, inside, wanted):
        """Whether a process of the machine has these bytes anywhere in its memory that can be read."""
        folder = self.machine.path(f"/proc/{inside}")
        with open(f"{folder}/maps") as maps, open(f"{folder}/mem", "rb", buffering=0) as memory:
            for line in maps:
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                if line.split()[1][0] != "r" or "[v" in line:
                    continue
                try:
                    memory.seek(start)
                    if wanted in memory.read(end - start):
                        return True
                except OSError:
                    continue # memfd_secret, which nobody can read
        return False

    def test_a_kek_that_is_encrypted_to_this_machine_is_of_use(self):
        self.run_in("lkm-kms", "--generate-kek", "/run/sealed")
        self.run_in("systemd-creds", "encrypt", "--with-key=host", "--name=lkm_encrypted_sealed", "/run/sealed", "/etc/lkm/credentials.encrypted/sealed")
        text = self.machine.read("/run/sealed")
        os.unlink(self.machine.path("/run/sealed"))
        self.assertNotIn(text.split()[-1], self.machine.read("/etc/lkm/credentials.encrypted/sealed"))
        self.run_in("systemctl", "restart", "lkm-kms.service")
        path = self.database("sealed.db", scope="sealed")
        self.run_in("systemctl", "restart", "lkm-kms.service", "lkmd.service")
        self.run_as("clinic", "lkmctl", "check", path)


if __name__ == "__main__":
    unittest.main()
