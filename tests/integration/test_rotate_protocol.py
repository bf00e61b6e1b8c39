# SPDX-License-Identifier: Apache-2.0
"""Key versions as a client of lkmd sees them: rotation, history, and KEKs that change. The database itself is not part of it."""
import json
import os
import unittest

from daemons import DaemonCase
from support import (ABORT, CHECK, COMMIT, GET, IMPORT, KEY, PURGE, RECORD, REKEK, REWRAP, ROTATE, u32)

DENIED, LOCKED, AUDIT_UNAVAILABLE = 10, 11, 12
RECORD_DAMAGED, RECORD_FOREIGN, RECORD_OUTDATED, VERSION_UNKNOWN, ROTATION_IN_PROGRESS = 20, 21, 23, 24, 25
RECORD_FULL, NOT_PENDING, VERSION_IN_USE, KEK_UNAVAILABLE, KEK_DENIED = 27, 28, 29, 30, 31
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
