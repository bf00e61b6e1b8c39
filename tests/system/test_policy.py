# SPDX-License-Identifier: Apache-2.0
"""Policy where systemd says who asks: rules for units, and a socket for administrators."""
import os
import socket
import unittest

import support

SO_PEERPIDFD = 77
ADMIN_SOCKET = "/run/lkm/admin.sock"


def kernel_tells_units():
    """Whether the kernel hands out the process at the other end of a socket."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        try:
            os.close(left.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            return False
    return True


@unittest.skipUnless(kernel_tells_units(), "the kernel is older than 6.5 and does not say which process has a socket")
class UnitRules(support.SystemCase):
    config = support.CONFIG.replace("user:clinic", "unit:clinic.service")

    def test_the_named_unit_is_allowed_and_another_unit_of_the_same_user_is_refused(self):
        self.clinic("lkmctl create unit.db\nlkmctl get unit.db | cat >/dev/null")
        for question in ("get", "check"):
            self.assertRegex(self.clinic(f"lkmctl {question} unit.db", name=f"elsewhere-{question}.service", check=False), "No rule")
            self.assertEqual(self.run_as("clinic", "lkmctl", question, "/var/lib/clinic/unit.db", check=False).returncode, 3)


class AdminSocket(support.SystemCase):
    config = "[lkmd]\nadmin = uid:0 user:clinic\n" + support.CONFIG

    def test_what_administrators_may_is_answered_on_their_socket_only(self):
        self.assertEqual(self.show("lkmd-admin.socket", "ActiveState"), "active")
        self.run_in("lkmctl", "status")
        self.run_in("lkmctl", "--socket", ADMIN_SOCKET, "status")
        refused = self.run_in("lkmctl", "--socket", "/run/lkm/lkm.sock", "status", check=False)
        self.assertEqual(refused.returncode, 3, refused.stdout)
        self.assertIn(ADMIN_SOCKET, refused.stdout)

    def test_nobody_but_root_reaches_it(self):
        self.assertEqual(self.run_as("clinic", "lkmctl", "--socket", ADMIN_SOCKET, "status", check=False).returncode, 4)


if __name__ == "__main__":
    unittest.main()
