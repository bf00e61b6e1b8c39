# SPDX-License-Identifier: Apache-2.0
"""The three clocks of a key, through real daemons whose machine seems to have slept: ttl, stale grace, max age."""
import os
import signal
import unittest

from daemons import DaemonCase, MovedClock
from support import ERROR, GET, PING

MINUTE, HOUR = 60, 3600
STALE = 1
KEK_UNAVAILABLE = 30


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class Clock(DaemonCase):
    scope_options = "cache_ttl = 15min\nstale_grace = 10h\ncache_max_age = 12h"

    def configure(self, **changes):
        self.clock = MovedClock(self.path("clock"))
        super().configure(**changes)

    def start_ready(self, name, prefix=()):
        return super().start_ready(name, self.clock.prefix() if name == "lkmd" else prefix)

    def setUp(self):
        super().setUp()
        self.user = self.client()
        self.record = self.create(self.user)
        self.key = self.get(self.user, self.record)
        self.assertEqual(len(self.key), 32)

    def wake_after(self, seconds):
        """The machine sleeps; whatever comes next wakes lkmd, which first wipes what is due."""
        self.clock.move(seconds)
        self.user.ask(PING)

    def counters(self):
        return self.status(self.user)["cache"]

    def unwraps(self):
        return self.status(self.user)["kms"]["requests"]

    def ask(self):
        return self.user.ask(GET, [(1, self.record)])

    def kms_goes_away(self):
        self.finish(self.kms)

    def assert_fresh(self):
        reply = self.ask()
        self.assertEqual((reply.fields[1], reply.fields.get(8, bytes(4))[-1] & STALE), (self.key, 0))

    def assert_stale(self):
        reply = self.ask()
        self.assertEqual((reply.fields[1], reply.fields[8][-1] & STALE), (self.key, STALE))

    def assert_refused(self, error):
        reply = self.ask()
        self.assertEqual((reply.number, reply.error), (ERROR, error))

    def test_key_is_asked_for_again_after_ttl(self):
        before = self.unwraps()
        self.wake_after(10 * MINUTE)
        self.assert_fresh()
        self.assertEqual(self.unwraps(), before)
        self.wake_after(6 * MINUTE)
        self.assert_fresh()
        self.assertEqual(self.unwraps(), before + 1)

    def test_stale_key_is_served_only_while_the_kms_is_away(self):
        self.kms_goes_away()
        self.wake_after(16 * MINUTE)
        self.assert_stale()
        self.wake_after(9 * HOUR)
        self.assert_stale()
        before = self.unwraps()
        self.kms = self.start_ready("lkm-kms")
        self.assert_fresh()
        self.assertGreater(self.unwraps(), before)

    def test_grace_ends(self):
        self.kms_goes_away()
        self.wake_after(11 * HOUR)
        self.assertEqual(self.counters()["keys"], 0)
        self.assert_refused(KEK_UNAVAILABLE)

    def test_denial_is_never_covered_by_grace(self):
        os.unlink(self.path("kek"))
        self.assertEqual(self.run_program("lkm-kms", "--generate-kek", self.path("kek")).returncode, 0)
        self.finish(self.kms)
        self.kms = self.start_ready("lkm-kms")
        self.assert_fresh()  # lkmd has not asked yet
        self.wake_after(16 * MINUTE)
        reply = self.ask()
        self.assertEqual(reply.number, ERROR)
        self.assertNotEqual(reply.error, KEK_UNAVAILABLE)
        self.assertEqual(self.counters()["keys"], 0)
        self.kms_goes_away()
        self.assert_refused(KEK_UNAVAILABLE)

    def test_hot_key_is_refreshed_ahead(self):
        before = self.unwraps()
        self.wake_after(14 * MINUTE)
        self.assert_fresh()  # in the last tenth of its ttl: served, and renewed behind it
        while self.status(self.user)["flights"]:
            pass
        self.assertEqual(self.unwraps(), before + 1)
        self.wake_after(10 * MINUTE)
        self.assert_fresh()
        self.assertEqual(self.unwraps(), before + 1)
        self.assertEqual(self.counters()["misses"], 0)


class MaxAge(Clock):
    scope_options = "cache_ttl = 15min\nstale_grace = 10h\ncache_max_age = 1h"
    test_stale_key_is_served_only_while_the_kms_is_away = test_grace_ends = test_denial_is_never_covered_by_grace = None
    test_hot_key_is_refreshed_ahead = test_key_is_asked_for_again_after_ttl = None

    def test_nothing_extends_max_age(self):
        self.kms_goes_away()
        for _ in range(3):
            self.wake_after(19 * MINUTE)
            self.assert_stale()
        self.wake_after(4 * MINUTE)
        self.assertEqual(self.counters()["keys"], 0)
        self.assert_refused(KEK_UNAVAILABLE)
        self.lkmd.send_signal(signal.SIGTERM)
        self.assertEqual(self.lkmd.wait(), 0)


if __name__ == "__main__":
    unittest.main()
