# SPDX-License-Identifier: Apache-2.0
"""Key versions as a client of lkmd sees them: rotation, history, and KEKs that change. The database itself is not part of it."""
import base64
import json
import os
import resource
import signal
import sys
import threading
import unittest

import example_provider
import memscan
from daemons import DaemonCase, MovedClock, nobody
from mock_kms import MockKms
from support import (ABORT, CHECK, COMMIT, EXPLAIN, GET, IMPORT, KEK_DESCRIBE, KEY, KMS_GENERATE, KMS_REWRAP, KMS_WRAP, LIST, LOCK, PING, PURGE,
                     RECORD, REKEK, REWRAP, ROTATE, UNLOCK, Client, u32)
from test_memory import WITHOUT_MEMFD_SECRET

PROTOCOL, DENIED, LOCKED, AUDIT_UNAVAILABLE, SCOPE_UNKNOWN, SCOPE_NEEDED = 1, 10, 11, 12, 14, 15
RECORD_DAMAGED, RECORD_FOREIGN, RECORD_OUTDATED, VERSION_UNKNOWN, ROTATION_IN_PROGRESS = 20, 21, 23, 24, 25
RECORD_FULL, NOT_PENDING, VERSION_IN_USE, KEK_UNAVAILABLE, KEK_DENIED, KEK_MISCONFIGURED = 27, 28, 29, 30, 31, 32
WAL, FLAG_RESTORE_WAL = 1, 4


def number(field):
    return int.from_bytes(field or b"", "big")


def states(record):
    return [(version["number"], version["state"]) for version in json.loads(record)["versions"]]


class RotateCase(DaemonCase):
    scope_options = f"allow_history = uid:{os.getuid()}"

    def setUp(self):
        super().setUp()
        self.user = self.client()

    def change(self, request, record, *more):
        """The next record, or an assertion with the ERROR."""
        reply = self.user.ask(request, [(1, record), *more])
        self.assertEqual(reply.number, RECORD, reply.sentence)
        return reply.fields[1]

    def rotate(self, record, flags=0):
        return self.change(ROTATE, record, (2, u32(flags)))

    def commit(self, record, version):
        return self.change(COMMIT, record, (2, u32(version)))

    def abort(self, record, version):
        return self.change(ABORT, record, (2, u32(version)))

    def purge(self, record, version):
        return self.change(PURGE, record, (2, u32(version)))

    def restart(self):
        for process in (self.lkmd, self.kms):
            self.finish(process)
        self.kms = self.start_ready("lkm-kms")
        self.lkmd = self.start_ready("lkmd")
        self.user = self.client()

    def version(self, record, version):
        """The KEY of one version."""
        reply = self.user.ask(GET, [(1, record), (3, u32(version))])
        self.assertEqual(reply.number, KEY, reply.sentence)
        self.assertEqual(number(reply.fields[3]), version)
        return reply

    def audit_lines(self, *events):
        lines = [json.loads(line) for line in self.read(self.path("audit.jsonl")).splitlines()]
        return [(line["event"], line.get("version")) for line in lines if line["event"] in events]


class Rotation(RotateCase):
    def test_commit_makes_the_new_key_the_current_one_and_keeps_the_old(self):
        first = self.create(self.user)
        old = self.get(self.user, first)
        both = self.rotate(first)
        self.assertEqual(states(both), [(1, "current"), (2, "pending")])
        self.assertEqual(self.get(self.user, both), old)
        new = self.version(both, 2).fields[1]
        self.assertNotEqual(new, old)
        last = self.commit(both, 2)
        self.assertEqual(states(last), [(1, "retired"), (2, "current")])
        self.assertEqual(self.get(self.user, last), new)
        self.assertEqual(self.version(last, 1).fields[1], old)
        record = json.loads(last)
        self.assertEqual((record["version"], record["encrypted_dek"]), (2, record["versions"][1]["wraps"][0]["encrypted_dek"]))
        self.assertIsNotNone(record["rotated_at"])
        self.assertEqual(record["created_at"], json.loads(first)["created_at"])

    def test_abort_keeps_the_old_key_and_loses_nothing(self):
        first = self.create(self.user)
        old = self.get(self.user, first)
        both = self.rotate(first)
        new = self.version(both, 2).fields[1]
        last = self.abort(both, 2)
        self.assertEqual(states(last), [(1, "current"), (2, "retired")])
        self.assertEqual(self.get(self.user, last), old)
        self.assertEqual(self.version(last, 2).fields[1], new)
        self.assertIsNone(json.loads(last)["rotated_at"])
        self.assertEqual(states(self.rotate(last)), [(1, "current"), (2, "retired"), (3, "pending")])

    def test_answers_tell_of_a_rotation_that_has_not_ended(self):
        first = self.create(self.user)
        reply = self.user.ask(ROTATE, [(1, first), (2, u32(WAL))])
        self.assertEqual((number(reply.fields[3]), number(reply.fields[5])), (1, 2))
        both = reply.fields[1]
        for evicted in (False, True):
            if evicted:
                self.evict(self.user, both)
            reply = self.user.ask(GET, [(1, both)])
            self.assertEqual((number(reply.fields[3]), number(reply.fields[9]), number(reply.fields.get(8))), (1, 2, 0))
        reply = self.version(both, 2)
        self.assertEqual((number(reply.fields[9]), number(reply.fields[8])), (2, FLAG_RESTORE_WAL))
        reply = self.user.ask(COMMIT, [(1, both), (2, u32(2))])
        self.assertEqual((number(reply.fields[3]), number(reply.fields.get(5))), (2, 0))
        self.assertEqual(number(self.user.ask(GET, [(1, reply.fields[1])]).fields.get(9)), 0)

    def test_rotation_without_wal_restores_none(self):
        both = self.rotate(self.create(self.user))
        self.assertEqual(number(self.version(both, 2).fields.get(8)), 0)

    def test_second_rotation_is_refused(self):
        both = self.rotate(self.create(self.user))
        self.assertEqual(self.user.ask(ROTATE, [(1, both)]).error, ROTATION_IN_PROGRESS)

    def test_commit_and_abort_of_a_version_that_is_not_pending_are_refused(self):
        first = self.create(self.user)
        both = self.rotate(first)
        last = self.commit(both, 2)
        for request in (COMMIT, ABORT):
            for record, version in ((first, 1), (first, 2), (both, 0), (both, 1), (both, 3), (last, 1), (last, 2)):
                self.assertEqual(self.user.ask(request, [(1, record), (2, u32(version))]).error, NOT_PENDING)


    def test_record_is_full_at_64_versions_and_purge_makes_room(self):
        record = self.create(self.user)
        for version in range(2, 65):
            record = self.abort(self.rotate(record), version)
        self.assertEqual(self.user.ask(ROTATE, [(1, record)]).error, RECORD_FULL)
        record = self.purge(record, 7)
        record = self.rotate(record)
        self.assertEqual(len(json.loads(record)["versions"]), 64)
        self.assertNotIn((7, "destroyed"), states(record))
        self.assertEqual(states(record)[-1], (65, "pending"))

    def test_keys_of_before_leave_the_cache_at_commit(self):
        first = self.create(self.user)
        both = self.rotate(first)
        other = self.create(self.user)
        self.assertEqual(len(self.get(self.user, first)), 32)
        self.assertEqual(sorted(key["version"] for key in self.user.ask(LIST).json["keys"]), [1, 1, 1])
        last = self.commit(both, 2)
        self.assertEqual(sorted(key["version"] for key in self.user.ask(LIST).json["keys"]), [1, 2])
        requests = self.status(self.user)["kms"]["requests"]
        self.get(self.user, last)
        self.get(self.user, other)
        self.assertEqual(self.status(self.user)["kms"]["requests"], requests)

    def test_a_change_takes_the_current_key_out_of_the_cache(self):
        first = self.create(self.user)
        requests = self.status(self.user)["kms"]["requests"]
        both = self.rotate(first)  # one key made, and its wrap proved
        self.abort(both, 2)        # nothing to ask
        self.commit(both, 2)       # one key unwrapped
        self.assertEqual(self.status(self.user)["kms"]["requests"], requests + 3)
        self.evict(self.user, both)
        self.abort(both, 2)
        self.assertEqual(self.status(self.user)["kms"]["requests"], requests + 4)

    def test_check_tells_the_dates_and_states(self):
        last = self.commit(self.rotate(self.create(self.user)), 2)
        versions = self.user.ask(CHECK, [(1, self.purge(self.rotate(last), 1))]).json["versions"]
        self.assertEqual([version["state"] for version in versions], ["destroyed", "current", "pending"])
        self.assertEqual([version["ended_at"] is None for version in versions], [False, True, True])
        self.assertGreaterEqual(versions[0]["ended_at"], versions[0]["created_at"])
        self.assertEqual([len(version["kek_ids"]) for version in versions], [0, 1, 1])

    def test_record_of_before_these_members_still_rotates(self):
        """A retired version without ended_at; signed by nobody, so it stops at the mac and not at the parser."""
        last = json.loads(self.commit(self.rotate(self.create(self.user)), 2))
        del last["versions"][0]["ended_at"]
        reply = self.user.ask(ROTATE, [(1, json.dumps(last).encode())])
        self.assertIn("mac", reply.sentence)

    def test_answers_of_a_daemon_that_restarted_are_the_same(self):
        both = self.rotate(self.create(self.user), WAL)
        old, new = self.get(self.user, both), self.version(both, 2).fields[1]
        self.restart()
        reply = self.version(both, 2)
        self.assertEqual((reply.fields[1], number(reply.fields[8])), (new, FLAG_RESTORE_WAL))
        self.assertEqual(self.get(self.user, both), old)
        self.restart()
        last = self.commit(both, 2)
        self.assertEqual((self.get(self.user, last), self.version(last, 1).fields[1]), (new, old))


class History(RotateCase):
    def test_destroyed_version_is_gone_and_the_others_stay(self):
        last = self.commit(self.rotate(self.create(self.user)), 2)
        key = self.get(self.user, last)
        purged = self.purge(last, 1)
        self.assertEqual(states(purged), [(1, "destroyed"), (2, "current")])
        self.assertEqual(json.loads(purged)["versions"][0]["wraps"], [])
        self.assertEqual(self.user.ask(GET, [(1, purged), (3, u32(1))]).error, VERSION_UNKNOWN)
        self.assertEqual(self.get(self.user, purged), key)

    def test_purge_refuses_what_is_in_use(self):
        first = self.create(self.user)
        both = self.rotate(first)
        last = self.commit(both, 2)
        for record, version, error in ((first, 1, VERSION_IN_USE), (both, 1, VERSION_IN_USE), (both, 2, VERSION_IN_USE), (last, 2, VERSION_IN_USE),
                                       (last, 3, VERSION_UNKNOWN), (self.purge(last, 1), 1, VERSION_UNKNOWN)):
            self.assertEqual(self.user.ask(PURGE, [(1, record), (2, u32(version))]).error, error)

    def test_version_that_no_record_has_is_unknown(self):
        both = self.rotate(self.create(self.user))
        for _ in range(2):
            self.assertEqual(self.user.ask(GET, [(1, both), (3, u32(3))]).error, VERSION_UNKNOWN)
            self.evict(self.user, both)


class Edited(RotateCase):
    def refused(self, request, record, version, *errors):
        tags = [(1, record), (3 if request == GET else 2, u32(version))]
        reply = self.user.ask(request, tags)
        self.assertIn(reply.error, errors, reply.sentence)

    def test_states_that_were_edited_give_no_key_and_no_record(self):
        """Neither another right nor another key comes of what a record claims."""
        last = self.commit(self.rotate(self.create(self.user)), 2)
        for states_ in (("pending", "current"), ("current", "retired"), ("current", "pending"), ("retired", "current")):
            record = json.loads(last)
            for version, state in zip(record["versions"], states_):
                version["state"] = state
                version.pop("ended_at", None)
            current = record["versions"][states_.index("current")]
            record["version"], record["encrypted_dek"] = current["number"], current["wraps"][0]["encrypted_dek"]
            text = json.dumps(record).encode()
            for version in (1, 2):
                self.refused(GET, text, version, RECORD_DAMAGED)
                self.refused(PURGE, text, version, RECORD_DAMAGED, VERSION_IN_USE)
                for request in (COMMIT, ABORT):
                    self.refused(request, text, version, RECORD_DAMAGED, NOT_PENDING)
            for request in (ROTATE, REWRAP, REKEK):
                self.refused(request, text, 0, RECORD_DAMAGED, ROTATION_IN_PROGRESS)
        self.assertEqual(self.audit_lines("rotate", "commit", "abort", "purge", "rewrap", "rekek"), [("rotate", 2), ("commit", 2)])

    def test_wraps_that_were_moved_do_not_unwrap(self):
        both = json.loads(self.rotate(self.create(self.user)))
        foreign = json.loads(self.rotate(self.create(self.user)))
        for wraps in (both["versions"][0]["wraps"], foreign["versions"][1]["wraps"]):
            record = json.dumps({**both, "versions": [both["versions"][0], {**both["versions"][1], "wraps": wraps}]}).encode()
            for request in (GET, COMMIT, ABORT):
                self.refused(request, record, 2, RECORD_DAMAGED)
        record = {**both, "versions": [{**both["versions"][0], "wraps": foreign["versions"][0]["wraps"]}, both["versions"][1]]}
        record["encrypted_dek"] = foreign["encrypted_dek"]
        for request in (GET, COMMIT, ABORT):
            self.refused(request, json.dumps(record).encode(), 2, RECORD_DAMAGED)

    def test_each_member_of_a_version_edited_in_turn_is_refused(self):
        both = json.loads(self.rotate(self.create(self.user), WAL))
        for i, version in enumerate(both["versions"]):
            for member, value in version.items():
                edited = json.loads(json.dumps(both))
                if member == "wraps":
                    edited["versions"][i][member] = value + value
                elif isinstance(value, int):
                    edited["versions"][i][member] = value + 2
                else:
                    edited["versions"][i][member] = "2024-01-15T10:30:00Z"
                self.refused(ABORT, json.dumps(edited).encode(), edited["versions"][1]["number"], RECORD_DAMAGED, RECORD_FOREIGN)
                del edited["versions"][i][member]
                self.refused(ABORT, json.dumps(edited).encode(), 2, RECORD_DAMAGED, RECORD_FOREIGN)

    def test_foreign_and_old_records_are_refused(self):
        record = self.create(self.user, b"billing")
        for request in (ROTATE, REWRAP, REKEK):
            self.refused(request, record.replace(b'"billing"', b'"nowhere"'), 0, RECORD_FOREIGN)
            self.refused(request, record.replace(b'"billing"', b'"medical"'), 0, RECORD_FOREIGN, RECORD_DAMAGED)
            self.refused(request, b"{}", 0, RECORD_DAMAGED)
            self.refused(request, json.dumps({"encrypted_dek": "AQID", "kek_id": "x", "version": 1, "created_at": "2024-01-15T10:30:00Z",
                                              "rotated_at": None, "encryption_context": {}, "dek_spec": "AES_256"}).encode(), 0, RECORD_OUTDATED)


class Rights(RotateCase):
    def requests(self, both, last):
        """Each request that needs a right, as (right, number, fields)."""
        version = u32(2)
        return [("rotate", ROTATE, [(1, last)]), ("rotate", COMMIT, [(1, both), (2, version)]), ("rotate", ABORT, [(1, both), (2, version)]),
                ("rotate", REWRAP, [(1, last)]), ("rotate", REKEK, [(1, last)]), ("rotate", GET, [(1, both), (3, version)]),
                ("history", PURGE, [(1, last), (2, u32(1))]), ("history", GET, [(1, last), (3, u32(1))]),
                ("recover", GET, [(1, last), (4, b"\1")]), ("recover", GET, [(1, last), (3, u32(1)), (4, b"\1")]),
                ("recover", GET, [(1, both), (3, version), (4, b"\1")]),
                ("create", IMPORT, [(1, os.urandom(32)), (2, b"medical")])]

    def denied(self, client, both, last):
        """The rights that @client lacks."""
        errors = [(right, client.ask(request, fields).error) for right, request, fields in self.requests(both, last)]
        self.assertLessEqual({error for _, error in errors}, {0, DENIED})
        rights = {}
        for right, error in errors:
            rights.setdefault(right, set()).add(error)
        self.assertTrue(all(len(found) == 1 for found in rights.values()), rights)
        return {right for right, found in rights.items() if DENIED in found}

    def records(self):
        both = self.rotate(self.create(self.user))
        return both, self.commit(both, 2)

    def with_options(self, options):
        self.scope_options = options
        self.configure()
        self.restart()

    def test_each_right_is_asked_for_by_itself(self):
        both, last = self.records()
        me, somebody = f"uid:{os.getuid()}", "uid:4242"
        for options, missing in ((f"allow_history = {me}", set()), ("", {"history", "recover"}), (f"allow_rotate = {somebody}", {"rotate", "history", "recover"}),
                                 (f"allow_rotate = {somebody}\nallow_history = {me}", {"rotate"}), ("allow_rotate =", {"rotate", "history", "recover"}),
                                 (f"allow_history = {me}\nallow_recover =", {"recover"}), (f"allow_recover = {me}", {"history"})):
            self.with_options(options)
            self.assertEqual(self.denied(self.user, both, last), missing, options)
            self.assertEqual(len(self.get(self.user, last)), 32)
            rights = self.user.ask(EXPLAIN, [(2, b"medical")]).json["rights"]
            self.assertEqual({right for right in ("use", "create", "rotate", "history", "recover") if not rights[right]["allowed"]}, missing)

    def test_other_uid_is_refused(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        both, last = self.records()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(nobody().pw_gid)
            os.setuid(nobody().pw_uid)
            client = Client(self.socket)
            os.write(write, bytes(client.ask(request, fields).error for _, request, fields in self.requests(both, last)))
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(os.read(read, 16), bytes([DENIED] * 12))
        os.close(read)
        os.close(write)
        lines = [json.loads(line) for line in self.read(self.path("audit.jsonl")).splitlines()]
        self.assertEqual([line["reason"] for line in lines if line["event"] == "deny"], ["rotate"] * 6 + ["history"] * 2 + ["recover"] * 3 + ["create"])

    def test_locked_daemon_changes_nothing(self):
        both, last = self.records()
        self.user.ask(LOCK)
        for _, request, fields in self.requests(both, last):
            self.assertEqual(self.user.ask(request, fields).error, LOCKED)
        self.user.ask(UNLOCK)
        self.assertEqual(self.denied(self.user, both, last), set())

    def test_what_waits_when_the_daemon_is_locked_gets_nothing(self):
        both, last = self.records()
        self.user.ask(LOCK)
        self.user.ask(UNLOCK)
        self.kms.send_signal(signal.SIGSTOP)
        sent = [self.user.send(request, fields) for _, request, fields in self.requests(both, last)]
        with Client(self.socket) as admin:
            admin.ask(LOCK)
        self.kms.send_signal(signal.SIGCONT)
        self.assertEqual({(reply.request_id, reply.error) for reply in (self.user.receive() for _ in sent)}, {(i, LOCKED) for i in sent})


class Audit(RotateCase):
    def test_each_change_has_a_line_with_its_version_and_rule(self):
        record = self.create(self.user)
        record = self.abort(self.rotate(record), 2)
        both = self.rotate(record)
        self.version(both, 3)
        record = self.commit(both, 3)
        self.version(record, 1)
        record = self.purge(record, 2)
        self.change(REKEK, self.change(REWRAP, record))
        self.change(IMPORT, os.urandom(32), (2, b"medical"))
        lines = [json.loads(line) for line in self.read(self.path("audit.jsonl")).splitlines()][1:]
        lines = [line for line in lines if line["event"] != "evict"]
        self.assertEqual([(line["event"], line["version"]) for line in lines],
                         [("create", 1), ("rotate", 2), ("abort", 2), ("rotate", 3), ("release", 3), ("commit", 3), ("release", 1), ("purge", 2),
                          ("rewrap", 3), ("rekek", 3), ("import", 1)])
        ids = {line["database_id"] for line in lines[:-1]}
        self.assertEqual(ids, {json.loads(record)["database_id"]})
        for line in lines:
            self.assertEqual((line["decision"], line["reason"], line["scope"], line["uid"]), ("allow", f"uid:{os.getuid()}", "medical", os.getuid()))

    def test_audit_failure_refuses_each_change_and_each_key(self):
        first = self.create(self.user)
        both = self.rotate(first)
        last = self.commit(both, 2)
        requests = ((ROTATE, last), (COMMIT, both), (ABORT, both), (PURGE, last), (REWRAP, last), (REKEK, last), (GET, both), (GET, last))
        limits = resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for request, record in requests:
            version = 1 if record is last else 2
            reply = self.user.ask(request, [(1, record), (3 if request == GET else 2, u32(version))])
            self.assertEqual(reply.error, AUDIT_UNAVAILABLE, hex(request))
        self.assertEqual(self.user.ask(IMPORT, [(1, os.urandom(32)), (2, b"medical")]).error, AUDIT_UNAVAILABLE)
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, limits)
        self.assertEqual(states(self.rotate(last)), [(1, "retired"), (2, "current"), (3, "pending")])

    def test_a_change_that_failed_has_no_line(self):
        record = self.create(self.user)
        self.finish(self.kms)
        self.assertEqual(self.user.ask(ROTATE, [(1, record)]).error, KEK_UNAVAILABLE)
        self.assertEqual(self.audit_lines("rotate"), [])


class Import(RotateCase):
    def imported(self, key, *fields):
        reply = self.user.ask(IMPORT, [(1, key), (2, b"medical"), *fields])
        self.assertEqual(reply.number, RECORD, reply.sentence)
        return reply

    def test_imported_key_comes_back_and_rotates(self):
        key = os.urandom(32)
        reply = self.imported(key, (3, b"sqlcipher"), (4, b"\3"), (5, u32(1024)))
        self.assertEqual((number(reply.fields[3]), reply.fields[4]), (1, b"medical"))
        record = reply.fields[1]
        self.assertEqual(states(record), [(1, "current")])
        for _ in range(2):
            got = self.user.ask(GET, [(1, record)])
            self.assertEqual((got.fields[1], got.fields[2], got.fields[5], got.fields[6], number(got.fields[7])),
                             (key, reply.fields[2], b"sqlcipher", b"\3", 1024))
            self.evict(self.user, record)
        both = self.rotate(record)
        last = self.commit(both, 2)
        self.assertEqual(self.version(last, 1).fields[1], key)
        self.assertNotEqual(self.get(self.user, last), key)

    def test_each_import_is_a_database_of_its_own(self):
        key = os.urandom(32)
        self.assertNotEqual(self.imported(key).fields[2], self.imported(key).fields[2])

    def test_scope_is_found_as_in_create(self):
        self.assertEqual(self.user.ask(IMPORT, [(1, os.urandom(32))]).error, SCOPE_NEEDED)
        self.assertEqual(self.user.ask(IMPORT, [(1, os.urandom(32)), (2, b"nowhere")]).error, SCOPE_UNKNOWN)
        self.assertEqual(self.user.ask(IMPORT, [(1, os.urandom(32)), (2, b"closed")]).error, DENIED)

    def test_key_of_another_length_breaks_the_protocol(self):
        for n in (31, 33):
            with Client(self.socket) as client:
                self.assertEqual(client.ask(IMPORT, [(1, os.urandom(n)), (2, b"medical")]).error, PROTOCOL)
                self.assertTrue(client.is_closed())


class Outage(RotateCase):
    def test_kms_that_is_away_changes_nothing(self):
        first = self.create(self.user)
        both = self.rotate(first)
        last = self.commit(both, 2)
        self.finish(self.kms)
        for request, fields in ((ROTATE, [(1, last)]), (COMMIT, [(1, both), (2, u32(2))]), (ABORT, [(1, both), (2, u32(2))]), (REWRAP, [(1, last)]),
                                (REKEK, [(1, last)]), (GET, [(1, last), (3, u32(1))]), (IMPORT, [(1, os.urandom(32)), (2, b"medical")])):
            self.assertEqual(self.user.ask(request, fields).error, KEK_UNAVAILABLE, hex(request))
        # What is known needs nobody.
        self.assertEqual(states(self.purge(last, 1)), [(1, "destroyed"), (2, "current")])
        self.kms = self.start_ready("lkm-kms")
        self.assertEqual(states(self.rotate(last)), [(1, "retired"), (2, "current"), (3, "pending")])

    def test_a_change_outlives_its_connection(self):
        record = self.create(self.user)
        self.kms.send_signal(signal.SIGSTOP)
        for request in (ROTATE, REWRAP, REKEK):
            with Client(self.socket) as leaving:
                leaving.send(request, [(1, record)])
                self.assertEqual(leaving.ask(PING).request_id, leaving.next_id)
        self.user.ask(PING)
        self.kms.send_signal(signal.SIGCONT)
        self.rotate(record)
        self.assertEqual(sorted(self.audit_lines("rotate", "rewrap", "rekek")), [("rekek", 1), ("rewrap", 1), ("rotate", 2), ("rotate", 2)])

    def test_what_is_under_way_is_answered_before_the_end(self):
        record = self.create(self.user)
        self.kms.send_signal(signal.SIGSTOP)
        request_id = self.user.send(ROTATE, [(1, record)])
        with Client(self.socket) as other:
            other.ask(PING)
        self.lkmd.send_signal(signal.SIGTERM)
        self.kms.send_signal(signal.SIGCONT)
        reply = self.user.receive()
        self.assertEqual((reply.request_id, reply.number), (request_id, RECORD))
        self.assertEqual(self.lkmd.wait(60), 0)


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class Stale(RotateCase):
    scope_options = "cache_ttl = 15min\nstale_grace = 10h\ncache_max_age = 12h"

    def configure(self, **changes):
        self.clock = MovedClock(self.path("clock"))
        super().configure(**changes)

    def start_ready(self, name, prefix=()):
        return super().start_ready(name, self.clock.prefix() if name == "lkmd" else prefix)

    def test_a_stale_key_opens_databases_and_changes_no_record(self):
        both = self.rotate(self.create(self.user))
        self.finish(self.kms)
        self.assertEqual(states(self.abort(both, 2)), [(1, "current"), (2, "retired")])  # fresh
        self.clock.move(3600)
        self.user.ask(PING)
        reply = self.user.ask(GET, [(1, both)])
        self.assertEqual((reply.number, number(reply.fields[8])), (KEY, 1))
        for request in (ABORT, COMMIT):
            self.assertEqual(self.user.ask(request, [(1, both), (2, u32(2))]).error, KEK_UNAVAILABLE)
        self.assertEqual(self.user.ask(GET, [(1, both)]).number, KEY)  # and it still serves


class Keks(RotateCase):
    """The scope's KEKs change; the DEKs do not."""

    keks, more = "local", ""

    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config).replace("keks = local\nencryption_context", f"keks = {self.keks}\nencryption_context")
        self.config = self.write("lkmd.conf", text + self.more)

    def with_keks(self, keks, more=None):
        self.keks, self.more = keks, self.more if more is None else more
        self.configure()
        self.restart()

    def kek_id(self, name):
        return self.user.ask(KEK_DESCRIBE, [(1, name.encode())]).json["keks"][0]["kek_id"]

    def kek_ids(self, record):
        return [[wrap["kek_id"] for wrap in version["wraps"]] for version in json.loads(record)["versions"]]

    def wraps(self, record):
        return [wrap["encrypted_dek"] for version in json.loads(record)["versions"] for wrap in version["wraps"]]

    def history(self):
        """A record with a destroyed, a retired, a current and a pending version, and the keys of the last three."""
        record = self.purge(self.commit(self.rotate(self.create(self.user)), 2), 1)
        record = self.rotate(self.commit(self.rotate(record), 3), WAL)
        return record, self.keys(record)

    def keys(self, record):
        return [self.version(record, 2).fields[1], self.get(self.user, record), self.version(record, 4).fields[1]]

    def assert_same(self, record, before, keys):
        """Nothing but the wraps is another."""
        self.evict(self.user, record)
        self.assertEqual(self.keys(record), keys)
        now, then = json.loads(record), json.loads(before)
        for value in (now, then):
            for member in ("mac", "encrypted_dek", "kek_id"):
                del value[member]
            for version in value["versions"]:
                version["wraps"] = len(version["wraps"]) > 0
        self.assertEqual(now, then)

    def test_rewrap_goes_to_the_newest_version_of_the_kek(self):
        record, keys = self.history()
        self.assertEqual(self.run_program("lkm-kms", "--add-kek-version", self.path("kek")).returncode, 0)
        self.restart()
        again = self.change(REWRAP, record)
        self.assertEqual(self.kek_ids(again), self.kek_ids(record))
        numbers = [int.from_bytes(base64.b64decode(wrap)[1:5], "big") for wrap in self.wraps(record) + self.wraps(again)]
        self.assertEqual(numbers, [1] * 3 + [2] * 3)
        self.assert_same(again, record, keys)
        # The old version of the KEK is not needed any more.
        lines = self.read(self.path("kek")).splitlines()
        self.write("kek", lines[0] + "\n" + lines[2] + "\n")
        self.restart()
        self.assertEqual(self.keys(again), keys)
        self.assertEqual(self.user.ask(REWRAP, [(1, record)]).error, KEK_MISCONFIGURED)

    def test_rewrap_finds_each_wraps_own_kek_and_leaves_the_list_of_keks(self):
        self.with_keks("local other")
        record, keys = self.history()
        self.with_keks("other local")
        again = self.change(REWRAP, record)
        self.assertEqual(self.kek_ids(again), self.kek_ids(record))
        self.assertFalse(set(self.wraps(again)) & set(self.wraps(record)))
        self.assert_same(again, record, keys)

    def test_rekek_moves_from_one_local_kek_to_another(self):
        record, keys = self.history()
        self.with_keks("other")
        self.assertEqual(self.user.ask(GET, [(1, record)]).error, RECORD_FOREIGN)
        moved = self.change(REKEK, record)
        other = self.kek_id("other")
        self.assertEqual(self.kek_ids(moved), [[], [other], [other], [other]])
        self.assert_same(moved, record, keys)
        # And the old KEK may go.
        os.unlink(self.path("kek"))
        self.restart()
        self.assertEqual(self.keys(moved), keys)

    def test_rekek_adds_and_removes_keks_in_the_scopes_order(self):
        record, keys = self.history()
        self.with_keks("other local")
        local, other = self.kek_id("local"), self.kek_id("other")
        both = self.change(REKEK, record)
        self.assertEqual(self.kek_ids(both), [[]] + [[other, local]] * 3)
        self.assert_same(both, record, keys)
        self.with_keks("local")
        one = self.change(REKEK, both)
        self.assertEqual(self.kek_ids(one), [[]] + [[local]] * 3)
        self.assert_same(one, record, keys)

    def test_version_that_no_kek_unwraps_refuses_the_whole(self):
        record, _ = self.history()
        os.unlink(self.path("kek"))
        self.assertEqual(self.run_program("lkm-kms", "--generate-kek", self.path("kek")).returncode, 0)
        self.with_keks("other")
        for request in (REKEK, REWRAP):
            self.assertEqual(self.user.ask(request, [(1, record)]).error, RECORD_FOREIGN)

    def mock_keks(self):
        """KEKs "aws" and "vault" on one mock."""
        mock = MockKms()
        self.addCleanup(mock.stop)
        arn = mock.control("aws/key", alias="alias/lkm", regions=["eu-central-1"])["arn"]
        mock.control("aws/user", access_key_id="AKIALKM", secret_access_key="0123456789abcdefghij", policy=["kms:*"])
        for path, body in (("sys/mounts/transit", {"type": "transit"}), ("transit/keys/lkm", {"type": "aes256-gcm96", "derived": True})):
            status, _, text = mock.request("POST", f"/v1/{path}", body, {"X-Vault-Token": "root"})
            self.assertLess(status, 300, text)
        for name, text in (("token", "root\n"),
                           ("credentials", "[default]\naws_access_key_id = AKIALKM\naws_secret_access_key = 0123456789abcdefghij\n")):
            os.chmod(self.write(name, text), 0o600)
        return mock, (f"[kek aws]\nkms_type = aws\nkek_id = {arn}\nendpoint = {mock.http}\naws_credentials_file = {self.path('credentials')}\n"
                      f"[kek vault]\nkms_type = vault\naddress = {mock.http}\nkek_id = lkm\ntoken_file = {self.path('token')}\n")

    def test_rekek_moves_to_aws_to_vault_and_back(self):
        record, keys = self.history()
        mock, sections = self.mock_keks()
        there = record
        for keks, calls in (("aws", ("kms", "Encrypt")), ("vault", ("vault", None)), ("vault aws local", ("kms", "Encrypt")), ("local", None)):
            self.with_keks(keks, sections)
            before = sum(mock.count(*calls).values()) if calls else 0
            there = self.change(REKEK, there)
            ids = [self.kek_id(name) for name in keks.split()]
            self.assertEqual(self.kek_ids(there), [[]] + [ids] * 3)
            self.assert_same(there, record, keys)
            if calls:
                self.assertGreaterEqual(sum(mock.count(*calls).values()), before + 3)
        mock.fault("cut")
        self.assertEqual(self.keys(there), keys)

    def test_kms_that_goes_away_in_the_middle_changes_nothing(self):
        mock, sections = self.mock_keks()
        self.with_keks("local aws", sections)
        record, keys = self.history()
        last = self.abort(record, 4)
        made = mock.count("kms", "Encrypt")[200]
        mock.fault("lose-region", "kms", "Encrypt")
        mock.fault("lose-region", "kms", "ReEncrypt")
        for request in (ROTATE, REWRAP, REKEK):
            # The first wraps are made when the second KEK is asked.
            before = self.status(self.user)["kms"]["requests"]
            reply = self.user.ask(request, [(1, last)])
            self.assertEqual(reply.error, KEK_UNAVAILABLE, reply.sentence)
            self.assertGreaterEqual(self.status(self.user)["kms"]["requests"], before + 2)
        self.assertEqual(mock.count("kms", "Encrypt")[200], made)
        self.assertEqual(self.audit_lines("rewrap", "rekek"), [])
        mock.clear_faults()
        self.restart()  # lkm-kms asks nothing for a while of a service that failed several times
        self.assertEqual(self.keys(record), keys)
        rotated = self.rotate(last)
        self.assertEqual(self.kek_ids(rotated)[-1], [self.kek_id("local"), self.kek_id("aws")])
        self.change(REKEK, rotated)
        self.change(REWRAP, rotated)

    def provider(self):
        """A KEK "socket" whose provider wraps right as long as its list of what it does wrong is empty."""
        wrong = []

        class Session(example_provider.Session):
            def answer(self, number, fields):
                answered, reply = super().answer(number, fields)
                if number in wrong:
                    kek = example_provider.Kek(self.server.master, fields[example_provider.KEK[number]])
                    context = fields.get(example_provider.CONTEXT[number], example_provider.NO_CONTEXT)
                    reply = {**reply, max(reply): kek.wrap(os.urandom(32), context)}
                return answered, reply

        os.mkdir(self.path("provider"), 0o700)
        server = example_provider.Server(self.path("provider/socket"), os.urandom(32), session=Session)
        threading.Thread(target=server.serve_forever).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return wrong, f"[kek socket]\nkms_type = socket\nprovider_socket = {self.path('provider/socket')}\n"

    def test_wrap_that_holds_another_key_replaces_none(self):
        """A KMS that wraps something else would take the key of the database away, and tell nobody."""
        record, keys = self.history()
        wrong, section = self.provider()
        self.with_keks("local socket", section)
        good = self.change(REKEK, record)
        last = self.abort(good, 4)
        wrong.extend((KMS_WRAP, KMS_REWRAP))
        for request in (ROTATE, REWRAP, REKEK):
            reply = self.user.ask(request, [(1, last)])
            self.assertEqual(reply.error, KEK_MISCONFIGURED, hex(request))
            self.assertIn("another key", reply.sentence)
        wrong.clear()
        self.with_keks("socket")
        self.assert_same(good, record, keys)
        wrong.append(KMS_GENERATE)
        self.assertEqual(self.user.ask(ROTATE, [(1, last)]).error, KEK_MISCONFIGURED)
        wrong.clear()
        self.rotate(last)

    def test_kms_that_refuses_to_make_a_key_leaves_the_current_one_alone(self):
        mock, sections = self.mock_keks()
        self.with_keks("aws", sections)
        record = self.create(self.user)
        mock.control("aws/user", access_key_id="AKIALKM", secret_access_key="0123456789abcdefghij", policy=["kms:Decrypt", "kms:DescribeKey"])
        self.assertEqual(self.user.ask(ROTATE, [(1, record)]).error, KEK_DENIED)
        requests = self.status(self.user)["kms"]["requests"]
        self.assertEqual(len(self.get(self.user, record)), 32)
        self.assertEqual(self.status(self.user)["kms"]["requests"], requests)

    def test_kms_that_refuses_the_current_key_evicts_it(self):
        mock, sections = self.mock_keks()
        self.scope_options = "cache_ttl = 0s\nstale_grace = 1h"
        self.with_keks("aws", sections)
        record = self.create(self.user)
        self.assertEqual(self.status(self.user)["cache"]["keys"], 1)
        mock.control("aws/user", access_key_id="AKIALKM", secret_access_key="0123456789abcdefghij", policy=["kms:Encrypt"])
        self.assertEqual(self.user.ask(ROTATE, [(1, record)]).error, KEK_DENIED)
        self.assertEqual(self.status(self.user)["cache"]["keys"], 0)


@unittest.skipIf(os.getuid() != 0, "reading the memory of a process that allows no tracing needs root")
@unittest.skipIf("valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""), "valgrind keeps copies of its own")
class Memory(RotateCase):
    """Without memfd_secret(2), so that the scanner can read where keys are."""

    def start_ready(self, name, prefix=()):
        return super().start_ready(name, (sys.executable, "-c", WITHOUT_MEMFD_SECRET))

    def found(self, key):
        """The forms of @key in lkmd; lkm-kms has none."""
        for path in ("lkm.sock", "kms.sock"):
            with Client(self.path(path)) as client:
                client.ask(PING)
        self.assertEqual(memscan.scan(self.kms.pid, key), [])
        return [form for form, _ in memscan.scan(self.lkmd.pid, key)]

    def test_memory_has_no_old_key_after_commit_and_none_after_lock(self):
        first = self.create(self.user)
        both = self.rotate(first)
        old, new = self.get(self.user, both), self.version(both, 2).fields[1]
        self.assertEqual((set(self.found(old)), self.found(new)), ({"raw"}, []))
        last = self.commit(both, 2)
        self.assertEqual((self.found(old), self.found(new)), ([], ["raw"]))
        self.assertEqual(self.version(last, 1).fields[1], old)
        self.assertEqual(self.found(old), [])
        self.user.ask(LOCK)
        self.assertEqual((self.found(old), self.found(new)), ([], []))

    def test_memory_has_no_key_after_changes_that_fail(self):
        first = self.create(self.user)
        both = self.rotate(first)
        old, new = self.get(self.user, both), self.version(both, 2).fields[1]
        edited = both.replace(b"test", b"tost")
        for i in range(100):
            record = edited if i % 2 else both
            for request, version in ((COMMIT, 2), (ABORT, 2), (PURGE, 1), (REWRAP, 0), (REKEK, 0)):
                self.user.ask(request, [(1, record), (2, u32(version))])
            self.user.ask(GET, [(1, record), (3, u32(2))])
        imported = os.urandom(32)
        self.user.ask(IMPORT, [(1, imported), (2, b"medical")])
        self.assertEqual(self.found(imported), ["raw"])
        self.user.ask(LOCK)
        for key in (old, new, imported):
            self.assertEqual(self.found(key), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
