# SPDX-License-Identifier: Apache-2.0
"""What lkmd and lkm-kms do when a KMS throttles, denies, goes away, comes back or is slow, on clocks that the test moves: against lkm-mock-kms, which can be told to."""
import json
import os
import unittest

import memscan
from daemons import DaemonCase, MovedClock
from mock_kms import MockKms
from support import BUILD, ERROR, GET, KEY, LOCK, PING, UNLOCK, Client

MINUTE, HOUR, DAY = 60, 3600, 86400
STALE = 1
KEK_UNAVAILABLE, KEK_DENIED = 30, 31
UNSEAL_KEY = "bG9jay1tb2NrLWttcyB1bnNlYWxzIHdpdGggdGhpcyE="  # of lkm-mock-kms
ACCESS_KEY_ID, SECRET = "AKIALKM", "0123456789abcdefghijABCDEFGHIJ0123456789"

CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
cache_keys = 2048
kms_timeout = {timeout}
admin = uid:{uid}
[kms]
idle_exit = 0
{keks}
[scope medical]
keks = {names}
allow = uid:{uid}
{scope}
"""


class FaultCase(DaemonCase):
    """Both daemons, with clocks that the test moves where that can be, and the mock."""

    scope_options = "cache_ttl = 15min\nstale_grace = 1h\ncache_max_age = 12h"
    timeout = "3s"

    def setUp(self):
        super(DaemonCase, self).setUp()
        self.mock = MockKms()
        self.addCleanup(self.mock.stop)
        self.clock = MovedClock(self.path("clock"))
        self.write("resolver", "")
        self.configure()
        self.kms, self.lkmd = self.start_ready("lkm-kms"), self.start_ready("lkmd")
        self.socket = self.path("lkm.sock")
        self.user = self.client()

    def configure(self):
        keks = self.keks()
        self.config = self.write("lkmd.conf", CONFIG.format(
            directory=self.directory, uid=os.getuid(), timeout=self.timeout, names=" ".join(keks), scope=self.scope_options,
            keks="".join(f"[kek {name}]\n{lines}\n" for name, lines in keks.items())))

    def start_ready(self, name, prefix=()):
        if not os.environ.get("LKM_SANITIZED"):
            prefix = ("env", f"FAKE_RESOLVER={self.path('resolver')}", f"FAKE_CLOCK={self.path('clock')}",
                      f"LD_PRELOAD={BUILD}/tests/integration/libfake-clock.so:{BUILD}/tests/integration/libfake-resolver.so")
        return super().start_ready(name, prefix)

    def secret_file(self, name, text):
        path = self.write(name, text)
        os.chmod(path, 0o600)
        return path

    # -- AWS and Vault on the mock, ready to be a KEK --

    def aws(self, region="eu-central-1", endpoint=None, key=None):
        key = key or self.mock.control("aws/key", regions=[region])
        self.aws_key = key["key_id"]
        self.mock.control("aws/user", access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET)
        credentials = self.secret_file("credentials", f"[default]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET}\n")
        return (f"kms_type = aws\nkek_id = {key['arns'][region]}\nendpoint = {endpoint or self.mock.https}\n"
                f"ca_file = {self.mock.ca}\naws_credentials_file = {credentials}")

    def vault_api(self, method, path, body=None):
        status, _, text = self.mock.request(method, f"/v1/{path}", body, {"X-Vault-Token": "root", "X-Vault-Request": "true"})
        self.assertLess(status, 300, text)
        return text

    def vault(self):
        self.vault_api("POST", "sys/mounts/transit", {"type": "transit"})
        self.vault_api("POST", "transit/keys/lkm", {"type": "aes256-gcm96", "derived": True})
        self.vault_api("POST", "sys/policies/acl/lkm", {"policy": 'path "transit/*" { capabilities = ["read", "update"] }'})
        self.vault_api("POST", "sys/auth/approle", {"type": "approle"})
        self.vault_api("POST", "auth/approle/role/lkm", {"token_policies": "lkm", "token_ttl": "1h", "bind_secret_id": False})
        role_id = json.loads(self.vault_api("GET", "auth/approle/role/lkm/role-id"))["data"]["role_id"]
        return f"kms_type = vault\naddress = {self.mock.https}\nca_file = {self.mock.ca}\nkek_id = lkm\nauth = approle\nrole_id = {role_id}"

    def keks(self):
        return {"real": self.aws()}

    # -- one key --

    def make(self):
        self.record = self.create(self.user)
        self.key = self.get(self.user, self.record)
        self.assertEqual(len(self.key), 32)

    def ask(self):
        return self.user.ask(GET, [(1, self.record)])

    def go_on(self, seconds):
        self.clock.move(seconds)
        self.user.ask(PING)

    def assert_fresh(self):
        reply = self.ask()
        self.assertEqual((reply.number, reply.fields.get(1)), (KEY, self.key), reply.sentence)
        self.assertEqual(reply.fields.get(8, bytes(4))[-1] & STALE, 0)

    def assert_refused(self, *errors):
        reply = self.ask()
        self.assertEqual(reply.number, ERROR)
        self.assertIn(reply.error, errors, reply.sentence)
        return reply.sentence

    def until_fresh(self):
        """The breaker lets an attempt through after some seconds, which this clock passes at once."""
        for _ in range(100):
            self.clock.move(5)
            if self.ask().number == KEY:
                break
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)
        self.assert_fresh()


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class Outage(FaultCase):
    scope_options = "cache_ttl = 1min\nstale_grace = 5min\ncache_max_age = 1h"

    def test_ten_minutes_of_outage_cost_few_calls_and_serve_stale_keys_within_their_grace_only(self):
        self.make()
        self.mock.fault("status", service="kms", status=503, body="")
        before = sum(self.mock.count("kms").values())
        served = []
        for _ in range(10 * MINUTE):
            self.go_on(1)
            reply = self.ask()
            if reply.number == KEY:
                self.assertEqual(reply.fields[1], self.key)
                served.append("stale" if reply.fields.get(8, bytes(4))[-1] & STALE else "fresh")
            else:
                self.assertEqual(reply.error, KEK_UNAVAILABLE, reply.sentence)
                served.append("none")
        self.assertEqual("".join(sorted(served, key=["fresh", "stale", "none"].index)), "".join(served), "fresh, then stale, then none")
        self.assertAlmostEqual(served.count("fresh"), MINUTE, delta=2)
        self.assertAlmostEqual(served.count("stale"), 5 * MINUTE, delta=2)
        calls = sum(self.mock.count("kms").values()) - before
        self.assertTrue(3 <= calls <= 60, calls)
        self.mock.clear_faults()
        self.until_fresh()

    def test_nothing_is_served_after_max_age(self):
        self.scope_options = "cache_ttl = 15min\nstale_grace = 10h\ncache_max_age = 1h"
        self.configure()
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        self.user = self.client()
        self.make()
        self.mock.fault("status", service="kms", status=503, body="")
        self.go_on(59 * MINUTE)
        self.assertEqual(self.ask().fields[8][-1] & STALE, STALE)
        self.go_on(2 * MINUTE)
        self.assert_refused(KEK_UNAVAILABLE)
        self.assertEqual(self.status(self.user)["cache"]["keys"], 0)

    def test_denial_evicts_and_nothing_stale_follows(self):
        self.make()
        self.mock.control("key-state", key_id=self.aws_key, state="Disabled")
        self.go_on(61)
        self.assert_refused(KEK_DENIED)
        self.assertEqual(self.status(self.user)["cache"]["keys"], 0)
        self.mock.fault("status", service="kms", status=503, body="")
        self.assert_refused(KEK_UNAVAILABLE)
        self.mock.clear_faults()
        self.mock.control("key-state", key_id=self.aws_key, state="Enabled")
        self.until_fresh()


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class RecoveryOfAws(FaultCase):
    """Without a restart of anything of ours."""

    def cold(self):
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)

    def test_throttled_calls_are_repeated(self):
        self.make()
        self.cold()
        self.mock.fault("throttle", service="kms", count=1)
        self.timeout = "10s"
        self.assert_fresh()

    def test_cut_answers_are_repeated(self):
        self.make()
        self.cold()
        self.mock.fault("cut", service="kms", count=1)
        self.assert_fresh()

    def test_garbage_is_no_key(self):
        self.make()
        self.cold()
        self.mock.fault("garbage", service="kms")
        self.assertEqual(self.ask().number, ERROR)
        self.mock.clear_faults()
        self.until_fresh()

    def test_new_credentials_are_read_when_the_old_ones_expire(self):
        self.make()
        self.cold()
        self.mock.control("aws/user", access_key_id=ACCESS_KEY_ID, secret_access_key="another" + SECRET)
        self.assertEqual(self.ask().number, ERROR)
        self.secret_file("credentials", f"[default]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = another{SECRET}\n")
        self.until_fresh()

    def test_keys_that_are_not_known_yet_are_tried_again(self):
        self.mock.reset()  # everything is unknown
        reply = self.user.ask(0x0010, [(1, b"medical")])
        self.assertEqual(reply.number, ERROR)
        self.mock.control("aws/user", access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET)
        self.mock.control("aws/key", key_id=self.aws_key, regions=["eu-central-1"])
        for _ in range(100):
            self.clock.move(5)
            reply = self.user.ask(0x0010, [(1, b"medical")])
            if reply.number != ERROR:
                return
        self.fail(reply.sentence)

    def test_clock_that_is_a_day_off_is_corrected(self):
        self.make()
        for days in (1, -2):
            self.cold()
            self.clock.move(0, days * DAY)
            self.assert_fresh()

    def test_server_whose_clock_jumps_is_followed(self):
        self.make()
        for hours in (3, -3):
            self.cold()
            self.mock.clock(hours * HOUR)
            self.assert_fresh()


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class RecoveryOfNames(FaultCase):
    def keks(self):
        # The certificate names this machine only: what answers under this name must not be believed, but it has to be found first.
        return {"real": self.aws(endpoint=f"https://kms.test:{self.mock.https_port}")}

    def test_name_that_does_not_resolve_is_told_and_asked_for_again(self):
        os.unlink(self.path("resolver"))
        reply = self.user.ask(0x0010, [(1, b"medical")])
        self.assertEqual(reply.error, KEK_UNAVAILABLE, reply.sentence)
        self.assertIn("kms.test", reply.sentence)
        self.write("resolver", "")
        for _ in range(20):
            self.clock.move(61)
            reply = self.user.ask(0x0010, [(1, b"medical")])
            if "certificate" in reply.sentence:
                return
        self.fail(reply.sentence)


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class RecoveryOfRegions(FaultCase):
    def keks(self):
        key = self.mock.control("aws/key", multi_region=True, regions=["eu-central-1", "eu-west-1"])
        return {"first": self.aws("eu-central-1", key=key), "second": self.aws("eu-west-1", key=key)}

    def test_other_region_serves_while_one_is_lost(self):
        self.make()
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)
        self.mock.fault("lose-region", region="eu-central-1")
        self.assert_fresh()
        self.mock.clear_faults()
        self.mock.fault("lose-region", region="eu-west-1")
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)
        self.until_fresh()


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class RecoveryOfVault(FaultCase):
    def keks(self):
        return {"real": self.vault()}

    def cold(self):
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)

    def test_expired_token_and_sealed_vault(self):
        self.make()
        self.cold()
        self.mock.fault("expire-tokens", service="vault", count=1)
        self.assert_fresh()
        self.cold()
        self.vault_api("PUT", "sys/seal")
        self.assertIn("sealed", self.assert_refused(KEK_UNAVAILABLE))
        self.vault_api("PUT", "sys/unseal", {"key": UNSEAL_KEY})
        self.until_fresh()


class Load(FaultCase):
    """A thousand cold keys at once, and a KMS that takes its time."""
    N, EACH = 1000, 125
    timeout = "30s"
    sent_at_most = 1000

    def test_a_thousand_cold_keys_are_at_most_sixteen_calls_at_a_time(self):
        records = [self.create(self.user) for _ in range(self.N)]
        keys = [self.get(self.user, record) for record in records]
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)
        self.mock.control("log", "DELETE")
        self.mock.fault("delay", service=self.service, delay_msec=100)
        clients = [self.client() for _ in range(self.N // self.EACH)]
        wanted = {}
        for i, record in enumerate(records):
            client = clients[i % len(clients)]
            wanted[client, client.send(GET, [(1, record)])] = keys[i]
        for client in clients:
            for _ in range(self.EACH):
                reply = client.receive()
                self.assertEqual(reply.number, KEY, reply.sentence)
                self.assertEqual(reply.fields[1], wanted.pop((client, reply.request_id)))
        self.assertFalse(wanted)
        log = self.mock.log()
        self.assertLessEqual(log["in_flight_max"], 16)
        self.assertGreater(log["in_flight_max"], 1)
        calls = sum(self.mock.count(self.service).values())
        self.assertLessEqual(calls, self.calls_at_most)


class LoadOfAws(Load):
    service, calls_at_most = "kms", 1000


class LoadOfVault(Load):
    service, calls_at_most = "vault", 200

    def keks(self):
        return {"real": self.vault()}


del Load


@unittest.skipIf(os.getuid() != 0, "reading the memory of a process that allows no tracing needs root")
@unittest.skipIf("valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""), "valgrind keeps copies of its own")
@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "sanitizers keep what was freed")
class Memory(FaultCase):
    """lkm-kms after a thousand unwraps, failures and cut connections."""

    def worked(self):
        self.make()
        for i in range(1000):
            if i % 50 == 10:
                self.mock.fault("cut", service=self.service, count=1)
            if i % 50 == 20:
                self.mock.fault("status", service=self.service, status=400, body='{"errors": ["no"], "__type": "ValidationException"}', count=1)
            self.evict(self.user, self.record)
            self.ask()
        self.mock.clear_faults()
        self.evict(self.user, self.record)
        self.assert_fresh()
        self.evict(self.user, self.record)
        with Client(self.path("kms.sock")) as client:
            client.ask(PING)

    def assert_nothing(self, wanted):
        arena = memscan.locked(self.kms.pid)
        self.assertEqual([hit for hit in memscan.scan_for(self.kms.pid, wanted) if hit[1].split()[0] not in arena], [])


class MemoryOfAws(Memory):
    service = "kms"

    def test_no_key_and_no_secret_access_key_is_left(self):
        self.worked()
        self.assert_nothing(memscan.forms(self.key))
        self.assert_nothing(memscan.text_forms(SECRET.encode()))
        self.assert_nothing(memscan.text_forms(b"AWS4" + SECRET.encode()))


class MemoryOfVault(Memory):
    service = "vault"

    def keks(self):
        lines = self.vault()
        token = json.loads(self.vault_api("POST", "auth/token/create", {"policies": ["lkm"], "ttl": "1h"}))["auth"]["client_token"]
        self.token = token.encode()
        return {"real": lines.partition("\nauth =")[0] + f"\ntoken_file = {self.secret_file('token', token)}"}

    def test_no_key_and_no_token_is_left(self):
        self.worked()
        self.assert_nothing(memscan.forms(self.key))
        self.assert_nothing(memscan.text_forms(self.token))


del Memory


if __name__ == "__main__":
    unittest.main()
