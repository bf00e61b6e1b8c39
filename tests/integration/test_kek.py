# SPDX-License-Identifier: Apache-2.0
"""What an administrator asks about KEKs: of lkm-kms alone, and through lkmd."""
import json
import os
import resource
import signal
import struct
import subprocess
import unittest

from daemons import DaemonCase, nobody
from support import (HELLO, KEK_CHECK, KEK_DESCRIBE, KEK_POLICY, KMS_CHECK, KMS_DESCRIBE, KMS_POLICY, KMS_RELOAD, PING, REPORT, Client, u16)
from test_kms import CORRUPT, MISCONFIGURED, NOT_FOUND, NOT_MINE, KmsCase

DENIED, AUDIT_UNAVAILABLE, KEK_UNAVAILABLE, KEK_MISCONFIGURED = 10, 12, 30, 32
STEPS = ["generate", "unwrap", "context", "wrap", "rewrap"]


class Worker(KmsCase):
    def setUp(self):
        super().setUp()
        self.process = self.serve(stderr=subprocess.DEVNULL)
        self.user = self.client()

    def described(self, name=b"one"):
        return self.user.ask(KMS_DESCRIBE, [(1, name)]).json["keks"][0]

    def restart(self):
        self.finish(self.process)
        os.unlink(self.socket_path)
        self.process = self.serve(stderr=subprocess.DEVNULL)
        self.user = self.client()


class Check(Worker):
    def test_check_proves_each_step(self):
        report = self.user.ask(KMS_CHECK, [(1, b"one")]).json
        self.assertEqual(report["steps"], [{"step": step, "done": True, "error": "", "sentence": "", "permission": ""} for step in STEPS])
        self.assertEqual((report["kek"], report["kek_id"], report["usable"]), ("one", self.described()["kek_id"], True))

    def test_kek_that_cannot_be_asked_is_told_by_its_own_error(self):
        self.assertEqual(self.user.ask(KMS_CHECK, [(1, b"two")]).error, NOT_FOUND)
        self.configure(one=self.path("missing.kek"))
        self.restart()
        reply = self.user.ask(KMS_CHECK, [(1, b"one")])
        self.assertEqual(reply.error, MISCONFIGURED)
        self.assertIn("missing.kek", reply.sentence)

    def test_local_kek_has_no_policy_and_says_why(self):
        reply = self.user.ask(KMS_POLICY, [(1, b"one")])
        self.assertEqual(reply.error, MISCONFIGURED)
        self.assertIn("permissions of its file", reply.sentence)
        self.assertEqual(self.user.ask(KMS_POLICY, [(1, b"two")]).error, NOT_FOUND)

    def test_features_tell_of_both(self):
        client = self.client(greet=False)
        features = client.ask(HELLO, [(1, u16(1)), (2, u16(1))]).fields[2].decode().split()
        self.assertLessEqual({"check", "policy"}, set(features))


class Readiness(Worker):
    def test_kek_that_was_loaded_stays_usable_without_its_file(self):
        before = self.described()
        self.assertEqual((before["usable"], before["error"], before["last_error"], before["last_error_at"]), (True, "", "", ""))
        os.unlink(self.kek_path)
        self.made(self.user)
        self.assertEqual(self.user.ask(KMS_RELOAD).error, MISCONFIGURED)
        self.made(self.user)
        self.assertEqual(self.described(), before)

    def test_kek_without_its_file_is_unusable_until_the_file_is_back(self):
        away = self.path("away.kek")
        os.rename(self.kek_path, away)
        self.restart()
        gone = self.described()
        self.assertEqual((gone["usable"], gone["kek_id"], gone["version"], gone["last_error"]), (False, "", 0, gone["error"]))
        self.assertIn(self.kek_path, gone["error"])
        self.assertEqual(self.described()["since"], gone["since"])
        os.rename(away, self.kek_path)
        back = self.described()
        self.assertEqual((back["usable"], back["error"], back["version"], back["last_error"]), (True, "", 1, gone["error"]))
        self.assertGreaterEqual(back["since"], gone["since"])
        self.assertLessEqual(gone["since"], back["last_error_at"])
        self.made(self.user)

    def test_call_that_fails_is_remembered_and_one_that_works_ends_it(self):
        made = self.made(self.user)
        self.assertEqual(self.unwrap(self.user, made[2], b"\1" + struct.pack(">I", 7) + made[3][5:]).error, NOT_FOUND)
        failed = self.described()
        self.assertEqual((failed["usable"], failed["last_error"]), (False, failed["error"]))
        self.assertIn("version 7", failed["error"])
        self.assertEqual(self.unwrap(self.user, made[2], made[3]).fields[1], made[1])
        works = self.described()
        self.assertEqual((works["usable"], works["error"], works["last_error"]), (True, "", failed["error"]))
        self.assertEqual(works["last_error_at"], failed["last_error_at"])

    def test_a_bad_record_says_nothing_about_the_kek(self):
        made, before = self.made(self.user), self.described()
        self.assertEqual(self.unwrap(self.user, made[2], made[3][:-1] + bytes([made[3][-1] ^ 1])).error, CORRUPT)
        self.assertEqual(self.unwrap(self.user, made[2] + b"x", made[3]).error, NOT_MINE)
        self.assertEqual(self.described(), before)


class LkmdCase(DaemonCase):
    timeout = "30s"

    def configure(self, **changes):
        super().configure(**changes)
        self.write("lkmd.conf", self.read(self.config).replace("kms_timeout = 30s", f"kms_timeout = {self.timeout}"))

    def setUp(self):
        super().setUp()
        self.user = self.client()


class ThroughLkmd(LkmdCase):
    def audit_lines(self, event):
        return [line for line in map(json.loads, self.read(self.path("audit.jsonl")).splitlines()) if line["event"] == event]

    def test_reports_of_lkm_kms_come_through(self):
        keks = self.user.ask(KEK_DESCRIBE).json["keks"]
        self.assertEqual([(kek["name"], kek["usable"]) for kek in keks], [("local", True), ("other", True)])
        self.assertEqual(self.user.ask(KEK_DESCRIBE, [(1, b"other")]).json["keks"], keks[1:])
        report = self.user.ask(KEK_CHECK, [(1, b"local")]).json
        self.assertEqual(([step["step"] for step in report["steps"]], report["usable"], report["kek_id"]), (STEPS, True, keks[0]["kek_id"]))
        self.assertIn("kek", self.user.welcome.fields[2].decode().split())

    def test_errors_of_lkm_kms_become_those_of_clients(self):
        for number in (KEK_DESCRIBE, KEK_CHECK, KEK_POLICY):
            reply = self.user.ask(number, [(1, b"nowhere")])
            self.assertEqual(reply.error, KEK_MISCONFIGURED, reply.sentence)
        self.assertIn("[kek nowhere]", reply.sentence)
        reply = self.user.ask(KEK_POLICY, [(1, b"local")])
        self.assertEqual(reply.error, KEK_MISCONFIGURED)
        self.assertIn("permissions of its file", reply.sentence)
        self.finish(self.kms)
        for number in (KEK_DESCRIBE, KEK_CHECK, KEK_POLICY):
            self.assertEqual(self.user.ask(number, [(1, b"local")]).error, KEK_UNAVAILABLE)

    @unittest.skipIf(os.getuid() != 0, "becoming another user needs root")
    def test_other_uid_is_refused(self):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(nobody().pw_gid)
            os.setuid(nobody().pw_uid)
            client = Client(self.socket)
            os.write(write, bytes(client.ask(number, [(1, b"local")]).error for number in (KEK_DESCRIBE, KEK_CHECK, KEK_POLICY)))
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(os.read(read, 16), bytes([DENIED] * 3))
        os.close(read)
        os.close(write)
        self.assertEqual([line["reason"] for line in self.audit_lines("deny")], ["admin"] * 3)
        self.assertEqual(self.audit_lines("kek-check"), [])

    def test_check_is_in_the_audit_log_and_also_one_that_fails(self):
        self.user.ask(KEK_CHECK, [(1, b"other")])
        self.user.ask(KEK_CHECK, [(1, b"nowhere")])
        self.user.ask(KEK_DESCRIBE)
        lines = self.audit_lines("kek-check")
        self.assertEqual([(line["kek"], line["uid"], line["decision"], line["reason"]) for line in lines],
                         [(name, os.getuid(), "allow", f"uid:{os.getuid()}") for name in ("other", "nowhere")])

    def test_audit_failure_refuses_a_check(self):
        limits = resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        self.assertEqual(self.user.ask(KEK_CHECK, [(1, b"local")]).error, AUDIT_UNAVAILABLE)
        self.assertEqual(self.user.ask(KEK_DESCRIBE).number, REPORT)
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, limits)
        self.assertEqual(self.user.ask(KEK_CHECK, [(1, b"local")]).number, REPORT)

    def test_request_outlives_its_connection(self):
        self.kms.send_signal(signal.SIGSTOP)
        for number in (KEK_CHECK, KEK_DESCRIBE):
            with Client(self.socket) as leaving:
                leaving.send(number, [(1, b"local")])
                self.assertEqual(leaving.ask(PING).request_id, leaving.next_id)
        self.user.ask(PING)
        self.kms.send_signal(signal.SIGCONT)
        self.assertTrue(self.user.ask(KEK_CHECK, [(1, b"local")]).json["usable"])

    def test_what_is_under_way_is_answered_before_the_end(self):
        self.kms.send_signal(signal.SIGSTOP)
        request_id = self.user.send(KEK_DESCRIBE)
        self.user.ask(PING)
        self.lkmd.send_signal(signal.SIGTERM)
        self.kms.send_signal(signal.SIGCONT)
        reply = self.user.receive()
        self.assertEqual((reply.request_id, reply.number), (request_id, REPORT))
        self.assertEqual(self.lkmd.wait(60), 0)


class Deadline(LkmdCase):
    timeout = "50ms"

    def test_nobody_waits_longer_than_kms_timeout(self):
        self.kms.send_signal(signal.SIGSTOP)
        self.addCleanup(self.kms.send_signal, signal.SIGCONT)
        for number in (KEK_DESCRIBE, KEK_CHECK, KEK_POLICY):
            reply = self.user.ask(number, [(1, b"local")])
            self.assertEqual(reply.error, KEK_UNAVAILABLE)
            self.assertIn("did not answer in time", reply.sentence)


if __name__ == "__main__":
    unittest.main(verbosity=2)
