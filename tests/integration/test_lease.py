# SPDX-License-Identifier: Apache-2.0
"""Leases: whoever has a database open is told when a rotation wants it, and nobody who died, lies or does not listen is waited for in vain."""
import base64
import json
import os
import signal
import subprocess
import unittest

from daemons import DaemonCase, nobody
from support import BUILD, DONE, KMS_GENERATE, LOCK, PING, REPORT, UNLOCK, WRAPPER, Client, frame, pairs, u32, not_under_valgrind

setUpModule = not_under_valgrind

LEASE, LEASE_EVENT, YIELD, QUIESCE, RESUME = 0x0030, 0x8030, 0x0031, 0x0032, 0x0033
CLOSE, REOPEN = 1, 2
PROTOCOL, QUOTA, DENIED, LOCKED, SHUTTING_DOWN, RECORD_DAMAGED, RECORD_FOREIGN, ROTATION_IN_PROGRESS = 1, 4, 10, 11, 13, 20, 21, 25
LEASES_PER_CONNECTION = 64
MINUTE = 60000


class LeaseCase(DaemonCase):
    def setUp(self):
        super().setUp()
        self.record = self.create(self.client())

    def holder(self, record=None):
        """A connection with a lease, and the lease's id."""
        client = self.client()
        reply = client.ask(LEASE, [(1, record or self.record)])
        self.assertEqual(reply.number, DONE, reply.sentence)
        return client, reply.request_id

    def quiesce(self, client, timeout_msec=0, record=None):
        reply = client.ask(QUIESCE, [(1, record or self.record), (2, u32(timeout_msec))])
        self.assertEqual(reply.number, REPORT, reply.sentence)
        return reply.json

    def assert_told(self, client, lease, event):
        reply = client.receive()
        self.assertEqual((reply.number, reply.request_id, reply.fields[1]), (LEASE_EVENT, lease, bytes([event])))

    def yield_(self, client, lease):
        self.assertEqual(client.ask(YIELD, [(1, u32(lease))]).number, DONE)

    def assert_nothing_told(self, client):
        """What comes next is the answer to the next question."""
        self.assertEqual(client.ask(PING).number, DONE)

    def leases(self):
        return self.status(self.client())["leases"]


class Leases(LeaseCase):
    def test_a_holder_is_told_yields_and_is_told_to_go_on(self):
        holder, lease = self.holder()
        rotator = self.client()
        asked = rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        self.assert_told(holder, lease, CLOSE)
        self.assert_nothing_told(holder)
        self.yield_(holder, lease)
        reply = rotator.receive()
        self.assertEqual((reply.number, reply.request_id), (REPORT, asked))
        self.assertEqual(reply.json, {"quiet": True, "more": False,
                                      "holders": [{"uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid(), "yielded": True}]})
        self.assert_nothing_told(holder)
        self.assertEqual(rotator.ask(RESUME).number, DONE)
        self.assert_told(holder, lease, REOPEN)
        self.assert_nothing_told(holder)

    def test_without_holders_it_is_quiet_at_once(self):
        self.assertEqual(self.quiesce(self.client(), MINUTE), {"quiet": True, "holders": [], "more": False})

    def test_all_holders_are_waited_for(self):
        holders = [self.holder() for _ in range(5)]
        rotator = self.client()
        rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        for client, lease in holders[:4]:
            self.assert_told(client, lease, CLOSE)
            self.yield_(client, lease)
        # The last one has not: a rotator in the same place would see it.
        self.assertEqual(rotator.ask(PING).number, DONE)
        client, lease = holders[4]
        self.assert_told(client, lease, CLOSE)
        self.yield_(client, lease)
        self.assertTrue(rotator.receive().json["quiet"])

    def test_the_timeout_names_who_did_not_yield(self):
        (first, first_lease), _second = self.holder(), self.holder()
        rotator = self.client()
        asked = rotator.send(QUIESCE, [(1, self.record), (2, u32(50))])
        self.assert_told(first, first_lease, CLOSE)
        self.yield_(first, first_lease)
        report = rotator.receive()
        self.assertEqual(report.request_id, asked)
        self.assertFalse(report.json["quiet"])
        self.assertEqual([h["yielded"] for h in report.json["holders"]], [False, True])
        # It goes on being wanted, and may be waited for again.
        self.assertFalse(self.quiesce(rotator, 1)["quiet"])
        self.assertFalse(self.quiesce(rotator)["quiet"])

    def test_another_version_of_the_record_is_the_same_database(self):
        holder, lease = self.holder()
        self.assertFalse(self.quiesce(self.client(), 0, self.record + b"\n")["quiet"])
        self.assert_told(holder, lease, CLOSE)

    def test_other_databases_are_left_alone(self):
        other = self.create(self.client())
        holder, _ = self.holder(other)
        self.assertTrue(self.quiesce(self.client(), MINUTE)["quiet"])
        self.assert_nothing_told(holder)

    def test_a_holder_that_dies_is_not_waited_for(self):
        holder, lease = self.holder()
        rotator = self.client()
        rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        self.assert_told(holder, lease, CLOSE)
        holder.socket.close()
        self.assertEqual(rotator.receive().json, {"quiet": True, "holders": [], "more": False})

    def test_a_rotator_that_dies_resumes_everybody(self):
        holder, lease = self.holder()
        for yielded in (False, True):
            rotator = self.client()
            rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
            self.assert_told(holder, lease, CLOSE)
            if yielded:
                self.yield_(holder, lease)
                self.assertTrue(rotator.receive().json["quiet"])
            rotator.socket.close()
            self.assert_told(holder, lease, REOPEN)
        self.assertEqual(self.leases(), {"held": 1, "databases": 1, "quiesced": 0})

    def test_of_two_rotators_the_second_is_refused(self):
        first, second = self.client(), self.client()
        self.quiesce(first)
        for _ in range(2):
            reply = second.ask(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
            self.assertEqual(reply.error, ROTATION_IN_PROGRESS, reply.sentence)
        second.ask(RESUME)  # not its own: nothing
        self.assertEqual(second.ask(QUIESCE, [(1, self.record)]).error, ROTATION_IN_PROGRESS)
        first.ask(RESUME)
        self.assertTrue(self.quiesce(second)["quiet"])

    def test_a_connection_quiesces_one_database_and_asks_once_at_a_time(self):
        other = self.create(self.client())
        rotator, (_holder, _) = self.client(), self.holder()
        rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        self.assertEqual(rotator.ask(QUIESCE, [(1, self.record)]).error, ROTATION_IN_PROGRESS)
        rotator.send(RESUME)
        # Whoever resumes waits no longer.
        replies = sorted((rotator.receive() for _ in range(2)), key=lambda reply: reply.number)
        self.assertEqual([reply.number for reply in replies], [DONE, REPORT])
        self.assertFalse(replies[1].json["quiet"])
        self.quiesce(rotator)
        self.assertEqual(rotator.ask(QUIESCE, [(1, other)]).error, QUOTA)
        self.assertEqual(rotator.ask(RESUME).number, DONE)
        self.assertEqual(rotator.ask(RESUME).number, DONE)
        self.assertTrue(self.quiesce(rotator, 0, other)["quiet"])

    def test_a_lease_taken_meanwhile_has_to_wait(self):
        rotator = self.client()
        self.assertTrue(self.quiesce(rotator)["quiet"])
        holder, lease = self.holder()
        self.assert_told(holder, lease, CLOSE)
        self.assertFalse(self.quiesce(rotator)["quiet"])
        self.yield_(holder, lease)
        self.assertTrue(self.quiesce(rotator, MINUTE)["quiet"])
        rotator.ask(RESUME)
        self.assert_told(holder, lease, REOPEN)

    def test_a_yield_counts_only_for_the_event_before_it(self):
        holder, lease = self.holder()
        self.yield_(holder, lease)  # nobody wants it
        rotator = self.client()
        self.assertFalse(self.quiesce(rotator)["quiet"])
        rotator.ask(RESUME)
        self.assertFalse(self.quiesce(rotator)["quiet"])
        for event in (CLOSE, REOPEN, CLOSE):
            self.assert_told(holder, lease, event)
        self.yield_(holder, lease)
        self.assertTrue(self.quiesce(rotator)["quiet"])
        rotator.ask(RESUME)
        self.assert_told(holder, lease, REOPEN)
        self.assertFalse(self.quiesce(rotator)["quiet"])  # yielding once is not for ever

    def test_yield_of_no_lease_and_a_second_lease_of_one_id_are_refused(self):
        holder, lease = self.holder()
        self.assertEqual(holder.ask(YIELD, [(1, u32(lease + 1))]).error, PROTOCOL)
        stranger = self.client()
        self.assertEqual(stranger.ask(YIELD, [(1, u32(lease))]).error, PROTOCOL)
        holder.socket.sendall(frame(LEASE, lease, [(1, self.record)]))
        self.assertEqual(holder.receive().error, PROTOCOL)
        self.assertEqual(self.leases()["held"], 1)

    def test_a_record_is_proved_before_anybody_is_told(self):
        holder, _ = self.holder()
        forged = self.record.replace(b'"page_size": 4096', b'"page_size": 8192')
        self.assertNotEqual(forged, self.record)
        client = self.client()
        for request in (LEASE, QUIESCE):
            self.assertEqual(client.ask(request, [(1, forged)]).error, RECORD_DAMAGED)
            self.assertEqual(client.ask(request, [(1, self.record.replace(b'"medical"', b'"closed"'))]).error, DENIED)
            self.assertEqual(client.ask(request, [(1, self.record.replace(b'"medical"', b'"nowhere"'))]).error, RECORD_FOREIGN)
        self.assert_nothing_told(holder)
        self.assertEqual(self.leases()["held"], 1)

    def test_a_cold_key_is_unwrapped_for_a_lease_and_a_quiesce(self):
        for request, answer in ((LEASE, DONE), (QUIESCE, REPORT)):
            self.evict(self.client(), self.record)
            client = self.client()
            self.assertEqual(client.ask(request, [(1, self.record)]).number, answer)
            client.socket.close()

    def test_both_are_in_the_audit_log(self):
        self.holder()
        self.quiesce(self.client())
        lines = self.read(self.path("audit.jsonl"))
        self.assertIn('"event":"lease"', lines.replace(" ", ""))
        self.assertIn('"event":"quiesce"', lines.replace(" ", ""))

    def test_another_uid_is_denied(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(nobody().pw_gid)
            os.setuid(nobody().pw_uid)
            client = Client(self.socket)
            os.write(write, bytes([client.ask(LEASE, [(1, self.record)]).error, client.ask(QUIESCE, [(1, self.record)]).error]))
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(os.read(read, 16), bytes([DENIED] * 2))
        os.close(read)
        os.close(write)
        self.assertEqual(self.leases()["held"], 0)


class Limits(LeaseCase):
    def test_a_flood_of_leases_is_refused(self):
        client = self.client()
        replies = [client.ask(LEASE, [(1, self.record)]) for _ in range(LEASES_PER_CONNECTION + 10)]
        self.assertEqual([reply.number for reply in replies[:LEASES_PER_CONNECTION]], [DONE] * LEASES_PER_CONNECTION)
        self.assertEqual([reply.error for reply in replies[LEASES_PER_CONNECTION:]], [QUOTA] * 10)
        self.assertEqual(self.leases(), {"held": LEASES_PER_CONNECTION, "databases": 1, "quiesced": 0})
        client.socket.close()
        self.assertEqual(self.leases(), {"held": 0, "databases": 0, "quiesced": 0})

    def test_many_holders_are_not_all_listed(self):
        holders = [self.client() for _ in range(5)]
        for client in holders:
            for _ in range(60):
                client.send(LEASE, [(1, self.record)])
            for _ in range(60):
                self.assertEqual(client.receive().number, DONE)
        report = self.quiesce(self.client())
        self.assertEqual((len(report["holders"]), report["more"], report["quiet"]), (256, True, False))

    def test_a_holder_that_never_reads_holds_up_and_grows_nothing(self):
        deaf, lease = self.holder()
        holder, second = self.holder()
        # Its answers wait until the daemon reads no more from it: the socket and the daemon's own buffer are full.
        rotator = self.client()
        deaf.socket.setblocking(False)
        turns_it_took_nothing, unsent = 0, b""
        while turns_it_took_nothing < 100:
            unsent = unsent or frame(PING, 7) * 1000
            try:
                unsent = unsent[deaf.socket.send(unsent):]
                turns_it_took_nothing = 0
            except BlockingIOError:
                turns_it_took_nothing += 1
                rotator.ask(PING)
        memory = None
        for round_ in range(1000):
            rotator.send(QUIESCE, [(1, self.record)])
            self.assertFalse(rotator.receive().json["quiet"])
            self.assert_told(holder, second, CLOSE)
            rotator.ask(RESUME)
            self.assert_told(holder, second, REOPEN)
            if round_ == 100:
                memory = self.resident()
        if not os.environ.get("LKM_SANITIZED") and not WRAPPER:
            self.assertLess(self.resident(), memory + 512 * 1024)
        # When it reads at last, it is told how things stand, not all that happened.
        self.quiesce(rotator)
        deaf.socket.settimeout(60)
        events = []
        while not events or events[-1] != (lease, bytes([CLOSE])):
            reply = deaf.receive()
            if reply.number == LEASE_EVENT:
                events.append((reply.request_id, reply.fields[1]))
        self.assertLessEqual(len(events), 3)

    def resident(self):
        with open(f"/proc/{self.lkmd.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    def test_clients_that_leave_in_any_state_leave_nothing(self):
        for state in range(4):
            rotator, (holder, lease) = self.client(), self.holder()
            rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
            self.assert_told(holder, lease, CLOSE)
            if state & 1:
                holder.send(YIELD, [(1, u32(lease))])
            order = (holder, rotator) if state & 2 else (rotator, holder)
            for client in order:
                client.socket.close()
        self.assertEqual(self.leases(), {"held": 0, "databases": 0, "quiesced": 0})
        # One that is both, and one that asks and hangs up.
        both, lease = self.holder()
        both.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        self.assert_told(both, lease, CLOSE)
        both.send(YIELD, [(1, u32(lease))])
        self.assertEqual({both.receive().number, both.receive().number}, {DONE, REPORT})
        both.socket.close()
        self.evict(self.client(), self.record)
        gone = self.client()
        gone.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        gone.send(LEASE, [(1, self.record)])
        gone.socket.close()
        self.assertEqual(self.leases(), {"held": 0, "databases": 0, "quiesced": 0})


class States(LeaseCase):
    def test_a_locked_daemon_gives_no_leases_and_keeps_those_it_gave(self):
        (holder, lease), admin, rotator = self.holder(), self.client(), self.client()
        self.quiesce(rotator)
        self.assert_told(holder, lease, CLOSE)
        self.assertEqual(admin.ask(LOCK).number, DONE)
        for request in (LEASE, QUIESCE):
            self.assertEqual(self.client().ask(request, [(1, self.record)]).error, LOCKED)
        self.yield_(holder, lease)
        self.assertEqual(rotator.ask(RESUME).number, DONE)
        self.assert_told(holder, lease, REOPEN)
        admin.ask(UNLOCK)

    def test_a_daemon_that_stops_keeps_nobody_waiting(self):
        holder, lease = self.holder()
        rotator = self.client()
        rotator.send(QUIESCE, [(1, self.record), (2, u32(MINUTE))])
        self.assert_told(holder, lease, CLOSE)
        self.lkmd.send_signal(signal.SIGTERM)
        self.assertEqual(rotator.receive().error, SHUTTING_DOWN)
        self.assertTrue(rotator.is_closed())
        self.assertEqual(self.lkmd.wait(60), 0)

    def test_a_reload_that_takes_the_right_away_leaves_leases(self):
        (holder, lease), rotator, admin = self.holder(), self.client(), self.client()
        config = self.read(self.config)
        self.write("lkmd.conf", config.replace("[scope medical]", "[scope other]"))
        self.lkmd.send_signal(signal.SIGHUP)
        while '"reload"' not in self.read(self.path("audit.jsonl")):
            self.assertEqual(admin.ask(PING).number, DONE)
        self.assertEqual(rotator.ask(QUIESCE, [(1, self.record)]).error, RECORD_FOREIGN)
        self.assertEqual(self.leases()["held"], 1)
        self.write("lkmd.conf", config)
        self.lkmd.send_signal(signal.SIGHUP)
        while self.read(self.path("audit.jsonl")).count('"reload"') < 2:
            self.assertEqual(admin.ask(PING).number, DONE)
        self.assertFalse(self.quiesce(rotator)["quiet"])
        self.assert_told(holder, lease, CLOSE)


class Library(LeaseCase):
    """The same through liblkm."""

    def setUp(self):
        super().setUp()
        self.environment = {**os.environ, "LKM_SOCKET": self.socket}
        self.database = self.path("patients.db")
        with open(self.database + ".key", "wb") as file:
            file.write(self.record)

    def helper(self, name, *arguments):
        process = self.start([*WRAPPER, f"{BUILD}/tests/integration/{name}", *arguments], env=self.environment, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        process.say = lambda line: (process.stdin.write(line + "\n"), process.stdin.flush())
        process.hear = lambda: process.stdout.readline().strip()
        return process

    def hold(self):
        process = self.helper("lease-helper", "hold", self.database)
        self.assertEqual(process.hear(), "OK")
        return process

    def rotator(self):
        process = self.helper("quiesce-helper", self.database)
        self.assertEqual(process.hear(), "OK")
        return process

    def ask(self, process, line):
        process.say(line)
        return process.hear()

    def test_an_application_is_told_closes_and_goes_on(self):
        holder, rotator = self.hold(), self.rotator()
        self.assertEqual(self.ask(holder, "wanted"), "0")
        self.assertEqual(self.ask(holder, "yield 0"), "OK")  # for nobody: it goes on at once
        rotator.say("quiesce 60000")
        self.assertEqual(self.ask(holder, "wait"), "OK wanted")
        self.assertEqual(self.ask(holder, "wanted"), "1")
        holder.say("yield 0")
        self.assertEqual(rotator.hear(), "quiet 1")
        self.assertEqual(self.ask(rotator, "resume"), "OK")
        self.assertEqual(holder.hear(), "OK")
        self.assertEqual(self.ask(holder, "wanted"), "0")

    def test_who_does_not_yield_is_named(self):
        holders, rotator = [self.hold() for _ in range(4)], self.rotator()
        said = self.ask(rotator, "quiesce 0")
        self.assertRegex(said, r"^busy 4 process \d+ \(user \d+\), .*, and others$")
        first = int(said.split()[3])
        self.assertIn(first, [holder.pid for holder in holders])
        for holder in holders[1:]:
            self.assertEqual(self.ask(holder, "wait"), "OK wanted")
            holder.say("yield 0")
        self.assertEqual(self.ask(rotator, "quiesce 200"), f"busy 4 process {holders[0].pid} (user {os.getuid()})")

    def test_a_yield_that_takes_too_long_may_be_repeated(self):
        holder, rotator = self.hold(), self.rotator()
        self.ask(rotator, "quiesce 0")
        self.assertEqual(self.ask(holder, "wait"), "OK wanted")
        self.assertRegex(self.ask(holder, "yield 20"), "^TIMEOUT the rotation of .*Yield again")
        self.assertEqual(self.ask(holder, "wanted"), "1")
        self.assertEqual(self.ask(rotator, "quiesce 0"), "quiet 1")
        holder.say("yield 0")
        self.ask(rotator, "resume")
        self.assertEqual(holder.hear(), "OK")

    def test_a_rotator_that_is_killed_lets_everybody_go_on(self):
        holder, rotator = self.hold(), self.rotator()
        rotator.say("quiesce 60000")
        self.assertEqual(self.ask(holder, "wait"), "OK wanted")
        holder.say("yield 0")
        self.assertEqual(rotator.hear(), "quiet 1")
        rotator.kill()
        self.assertEqual(holder.hear(), "OK")

    def test_a_second_rotator_is_told_so(self):
        first, second = self.rotator(), self.rotator()
        self.assertEqual(self.ask(first, "quiesce 0"), "quiet 0")
        self.assertRegex(self.ask(second, "quiesce 60000"), "^ROTATION_IN_PROGRESS ")
        self.assertEqual(self.ask(first, "resume"), "OK")
        self.assertEqual(self.ask(second, "quiesce 0"), "quiet 0")

    def test_a_new_lease_waits_for_the_rotation(self):
        rotator = self.rotator()
        self.assertEqual(self.ask(rotator, "quiesce 0"), "quiet 0")
        late = self.helper("lease-helper", "hold", self.database)
        while self.leases()["held"] == 0:
            pass
        self.assertEqual(self.ask(rotator, "quiesce 60000"), "quiet 1")
        self.assertEqual(self.ask(rotator, "resume"), "OK")
        self.assertEqual(late.hear(), "OK")
        self.assertEqual(self.ask(late, "wanted"), "0")

    def test_a_new_lease_does_not_wait_for_ever(self):
        rotator = self.rotator()
        self.assertEqual(self.ask(rotator, "quiesce 0"), "quiet 0")
        late = self.helper("lease-helper", "hold", self.database, "100")
        self.assertRegex(late.hear(), r"^ROTATION_IN_PROGRESS \S+patients.db is being rotated")

    def restart(self):
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")

    def test_a_lease_survives_a_restart_of_the_daemon(self):
        holder = self.hold()
        self.restart()
        self.assertEqual(self.ask(holder, "wanted"), "0")
        while self.leases()["held"] == 0:
            pass
        rotator = self.rotator()
        rotator.say("quiesce 60000")
        self.assertEqual(self.ask(holder, "wait"), "OK wanted")
        holder.say("yield 0")
        self.assertEqual(rotator.hear(), "quiet 1")
        # While it has yielded, too: the new daemon knows of no rotation.
        self.restart()
        self.assertEqual(holder.hear(), "OK")
        self.assertEqual(self.ask(rotator, "resume"), "OK")

    def test_without_a_daemon_nothing_hangs(self):
        holder = self.hold()
        self.finish(self.lkmd)
        self.assertEqual(self.ask(holder, "wanted"), "0")
        self.assertRegex(self.ask(holder, "yield 50"), "^NO_DAEMON ")
        self.lkmd = self.start_ready("lkmd")
        self.assertEqual(self.ask(holder, "yield 0"), "OK")
        self.assertEqual(self.leases()["held"], 1)

    def test_a_forked_child_has_no_lease_and_its_parent_keeps_it(self):
        holder = self.hold()
        self.assertEqual(self.ask(holder, "fork"), "refused in the child")
        self.assertEqual(self.leases()["held"], 1)
        rotator = self.rotator()
        rotator.say("quiesce 60000")
        self.assertEqual(self.ask(holder, "wait"), "OK wanted")

    def test_a_hundred_leases_of_one_process(self):
        crowd = self.helper("lease-helper", "crowd", self.database, "100")
        self.assertEqual(crowd.hear(), "OK")
        self.assertEqual(self.leases()["held"], 100)
        crowd.say("")
        self.assertEqual(crowd.wait(60), 0)

    def test_a_record_of_the_seeds_format_is_upgraded_first(self):
        # A wrap bound by the user's pairs alone, as the seed made it.
        with Client(self.path("kms.sock")) as kms:
            made = kms.ask(KMS_GENERATE, [(1, b"local"), (2, pairs({"purpose": "test"}))])
        new = json.loads(self.record)
        old = {name: new[name] for name in ("version", "created_at", "rotated_at", "encryption_context", "dek_spec")}
        old |= {"encrypted_dek": base64.b64encode(made.fields[3]).decode(), "kek_id": made.fields[2].decode()}
        self.write("patients.db.key", json.dumps(old))
        # One scope alone is open to the caller now, so the upgrade needs no name.
        self.write("lkmd.conf", self.read(self.config).replace("[scope billing]\nkeks = other\nallow", "[scope billing]\nkeks = other\n#"))
        self.restart()
        self.hold()
        self.assertEqual(json.loads(self.read(self.database + ".key"))["format"], 2)
        self.assertEqual(self.leases()["held"], 1)

    def test_errors_are_those_of_loading(self):
        os.unlink(self.database + ".key")
        self.assertRegex(self.helper("lease-helper", "hold", self.database).hear(), "^NOT_FOUND ")
        self.write("patients.db", "")
        self.assertRegex(self.helper("lease-helper", "hold", self.database).hear(), "^KEY_MISSING ")
        self.write("patients.db.key", "{}")
        self.assertRegex(self.helper("lease-helper", "hold", self.database).hear(), "^RECORD_DAMAGED ")


if __name__ == "__main__":
    unittest.main()
