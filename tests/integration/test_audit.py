# SPDX-License-Identifier: Apache-2.0
"""The audit log of a running lkmd: what a line says, restarts, torn lines, rotation, checkpoints."""
import glob
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import unittest

from audit_chain import Chain, whole_chain
from daemons import DaemonCase
from support import BUILD, CREATE, TIMEOUT


class AuditCase(DaemonCase):
    def setUp(self):
        super().setUp()
        self.log = self.path("audit.jsonl")

    def reload(self):
        """Send SIGHUP and wait until it was handled."""
        self.lkmd.send_signal(signal.SIGHUP)
        self.wait_for(b" again, scopes")

    def wait_for(self, said):
        while True:
            line = self.lkmd.stderr.readline()
            self.assertTrue(line, "lkmd has ended")
            if said in line:
                return line

    def kill(self):
        self.lkmd.send_signal(signal.SIGKILL)
        self.lkmd.wait(TIMEOUT)

    def restart(self):
        self.lkmd = self.start_ready("lkmd")

    def release(self, record=None):
        """A key, on a connection of its own. Return: its record."""
        with self.client() as client:
            record = record or self.create(client)
            self.assertEqual(len(self.get(client, record)), 32)
        return record


    @staticmethod
    def deny(client, n):
        """@n denials, which are a record each."""
        for _ in range(n // 10):
            for _ in range(10):
                client.send(CREATE, [(1, b"closed")])
            for _ in range(10):
                client.receive()


class Lines(AuditCase):
    def test_a_release_names_who_what_and_which_kek(self):
        client = self.client()
        record = self.create(client)
        self.evict(client, record)  # so that the key comes from the KMS and not from its making
        self.get(client, record)
        created, released = (Chain(self.log).of(event)[0] for event in ("create", "release"))
        self.assertEqual([released[member] for member in ("uid", "gid", "pid", "scope", "version", "decision", "reason", "kek", "connection")],
                         [os.getuid(), os.getgid(), os.getpid(), "medical", 1, "allow", f"uid:{os.getuid()}", "local", 1])
        with open("/proc/sys/kernel/random/boot_id") as boot_id:
            self.assertEqual(released["boot_id"], boot_id.read().strip().replace("-", ""))
        self.assertRegex(released["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertTrue(released["kek_id"].startswith("local:"), released["kek_id"])
        self.assertEqual([created[member] for member in ("database_id", "kek", "kek_id")],
                         [released[member] for member in ("database_id", "kek", "kek_id")])

    def test_a_key_out_of_the_cache_names_the_kek_that_unwrapped_it(self):
        record = self.release()
        for _ in range(3):
            self.release(record)
        released = Chain(self.log).of("release")
        self.assertEqual(len(released), 4)
        self.assertEqual({(line["kek"], line["kek_id"]) for line in released}, {("local", released[0]["kek_id"])})
        self.assertEqual(len({line["connection"] for line in released}), 4)

    def test_status_tells_the_head_of_the_chain(self):
        self.release()
        client = self.client()
        chain = Chain(self.log)
        state = self.status(client)["audit"]
        self.assertEqual([state[member] for member in ("file", "sync", "sequence", "hash", "last_error")], [self.log, "always", chain.number, chain.hash, ""])
        self.assertGreaterEqual(state["durable"], chain.of("release")[0]["seq"])
        self.assertGreater(state["reserve_bytes"], 0)

    def test_verify_finds_nothing_wrong(self):
        self.release()
        told = subprocess.run([os.path.join(BUILD, "client/lkmctl"), "audit", "verify", "--file", self.log, "--journal", "no"],
                              env={**os.environ, "LKM_SOCKET": self.socket}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT,
                              check=False)
        self.assertEqual(told.returncode, 0, told.stdout)

    def test_a_second_lkmd_cannot_write_the_same_log(self):
        other = self.write("other.conf", f"[lkmd]\nsocket = {self.path('other.sock')}\nkms_socket = {self.path('k.sock')}\naudit_file = {self.log}\n")
        refused = self.run_program("lkmd", "--config", other)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("another lkmd writes it", refused.stderr)
        self.release()
        self.assertEqual(Chain(self.log).of("start")[1:], [])


class Restarts(AuditCase):
    def test_a_torn_last_record_is_cut_off_and_told(self):
        self.release()
        self.kill()
        whole = Chain(self.log)
        torn = b'{"seq":%d,"time":"2026-' % (whole.number + 1)
        with open(self.log, "ab") as log:
            log.write(torn)
        self.restart()
        self.release()
        chain = Chain(self.log)
        line = chain.records[whole.number]
        self.assertEqual([line[member] for member in ("event", "count", "reason")], ["torn", len(torn), hashlib.sha256(torn).hexdigest()])
        self.assertEqual(chain.events()[whole.number + 1], "start")

    def test_a_log_of_an_earlier_version_is_refused_with_what_to_do(self):
        self.finish(self.lkmd)
        self.write("audit.jsonl", '{"seq":1,"time":"2026-01-02T03:04:05Z","event":"start","prev":"' + "0" * 64 + '"}\n')
        refused = self.run_program("lkmd", "--config", self.config)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("move it away", refused.stderr)
        self.assertEqual(self.read(self.log).count("\n"), 1)

    def test_a_changed_last_record_is_refused(self):
        self.release()
        self.finish(self.lkmd)
        text = self.read(self.log)
        self.write("audit.jsonl", text.replace('"event":"checkpoint"', '"event":"checkpoimt"'))
        refused = self.run_program("lkmd", "--config", self.config)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("was changed", refused.stderr)


class Rotation(AuditCase):
    def test_the_chain_goes_on_after_logrotate(self):
        record = self.release()
        os.rename(self.log, self.log + ".1")
        self.release(record)  # still into the file of before
        self.reload()
        self.release(record)
        chain = Chain(self.log + ".1")
        self.assertEqual(chain.events()[-1], "checkpoint")
        n = chain.number
        chain.take(self.log)
        self.assertEqual((chain.records[n]["event"], chain.records[n]["reason"]), ("open", "audit.jsonl"))
        self.assertEqual(len(chain.of("release")), 3)

    def test_the_chain_goes_on_when_the_log_was_moved_away_while_nobody_served(self):
        self.release()
        self.finish(self.lkmd)
        os.rename(self.log, self.log + ".1")
        self.restart()
        chain = Chain(self.log + ".1", self.log)
        opened = chain.of("open")
        self.assertEqual([line["reason"] for line in opened], ["audit.jsonl.1"])

    def test_lkmd_begins_another_file_when_the_log_is_full(self):
        self.finish(self.lkmd)
        self.configure(lkmd="audit_max_size = 4K")
        self.restart()
        record = self.release()
        for _ in range(40):
            self.release(record)
        away = sorted(glob.glob(self.log + ".0*"))
        self.assertGreater(len(away), 2)
        chain = whole_chain(self.log)
        self.assertEqual(len(chain.of("release")), 41)
        first = Chain(away[0])
        self.assertEqual(away[0], f"{self.log}.{1:016}-{first.number:016}")
        self.assertEqual(first.events()[-1], "checkpoint")
        for line in chain.of("open"):
            self.assertIn(self.path(line["reason"]), away)

    def test_what_is_in_the_way_is_left_alone_and_the_log_goes_on(self):
        record = self.release()
        os.rename(self.log, self.log + ".1")
        self.write("audit.jsonl", "somebody else's\n")
        self.lkmd.send_signal(signal.SIGHUP)
        self.assertIn(b"not empty", self.wait_for(b"cannot begin another file"))
        self.release(record)
        self.assertEqual(self.read(self.log), "somebody else's\n")
        self.assertEqual(len(Chain(self.log + ".1").of("release")), 2)

    def test_a_log_that_somebody_changes_while_lkmd_serves_stops_releases_until_a_reload(self):
        record = self.release()
        os.truncate(self.log, os.path.getsize(self.log) - 10)
        refused = self.get(self.client(), record)
        self.assertIn("somebody else has changed", refused.sentence)
        self.reload()
        self.release(record)
        self.assertTrue(glob.glob(self.log + ".0*"))


class Checkpoints(AuditCase):
    def told(self, text):
        return [line.split()[-2:] for line in text.splitlines() if "audit checkpoint" in line]

    def test_without_a_journal_they_go_to_standard_error(self):
        self.release()
        self.lkmd.send_signal(signal.SIGTERM)
        told = self.told(self.lkmd.communicate(timeout=TIMEOUT)[1].decode())
        chain = Chain(self.log)
        self.assertEqual(chain.events()[-2:], ["stop", "checkpoint"])
        self.assertEqual(told[-1], [str(chain.number), chain.hash])

    def test_one_follows_a_thousand_records(self):
        client = self.client()
        self.deny(client, 1010)
        chain = Chain(self.log)
        line = chain.of("checkpoint")[0]
        self.assertEqual(line["seq"], 1001)
        self.assertIn(line["hash"].encode(), self.wait_for(b"audit checkpoint"))


@unittest.skipIf(os.getuid() != 0, "a journal of its own needs root")
class Journal(AuditCase):
    IN_OWN_RUN = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind "$1" /run/systemd/journal && shift && exec "$@"'

    def start_ready(self, name, prefix=()):
        if name == "lkmd":
            os.makedirs(self.path("journal"), exist_ok=True)
            self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.journal.settimeout(TIMEOUT)
            self.journal.bind(self.path("journal/socket"))
            self.addCleanup(self.journal.close)
            prefix = ("unshare", "--mount", "sh", "-c", self.IN_OWN_RUN, "sh", self.path("journal"))
        return super().start_ready(name, prefix)

    def entry(self):
        return dict(line.split("=", 1) for line in self.journal.recv(65536).decode().splitlines())

    @unittest.skipUnless(shutil.which("unshare") and subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0,
                         "no mount namespace can be made here")
    def test_the_journal_is_told_a_checkpoint_of_a_durable_line(self):
        self.release()
        self.reload()
        entry = self.entry()
        line = Chain(self.log).of("checkpoint")[0]
        self.assertEqual(entry, {"MESSAGE": f"audit checkpoint {line['seq']} {line['hash']}", "PRIORITY": "5", "SYSLOG_IDENTIFIER": "lkmd",
                                 "LKM_AUDIT_SEQ": str(line["seq"]), "LKM_AUDIT_HASH": line["hash"], "LKM_AUDIT_FILE": self.log})
        # The journal is started again.
        self.journal.close()
        os.unlink(self.path("journal/socket"))
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.settimeout(TIMEOUT)
        self.journal.bind(self.path("journal/socket"))
        self.addCleanup(self.journal.close)
        self.release()
        self.finish(self.lkmd)
        self.assertEqual(self.entry()["LKM_AUDIT_HASH"], Chain(self.log).of("checkpoint")[1]["hash"])


if __name__ == "__main__":
    unittest.main()
