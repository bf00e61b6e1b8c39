# SPDX-License-Identifier: Apache-2.0
"""Policy where systemd says who asks: rules for units."""
import os
import socket
import unittest

import support

SO_PEERPIDFD = 77


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
    config = support.CONFIG.replace("allow = user:clinic", "allow = unit:clinic.service", 1)

    def test_the_named_unit_is_allowed_and_another_unit_of_the_same_user_is_refused(self):
        self.clinic("lkmctl create unit.db\nlkmctl check unit.db")
        self.assertRegex(self.clinic("lkmctl check unit.db", name="elsewhere.service", check=False), "(?i)denied|allow")
        self.assertEqual(self.run_as("clinic", "lkmctl", "check", "/var/lib/clinic/unit.db", check=False).returncode, 3)


if __name__ == "__main__":
    unittest.main()
