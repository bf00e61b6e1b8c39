# SPDX-License-Identifier: Apache-2.0
"""The audit log on a disk that is slow, full or broken: what cannot be written down is not released."""
import os
import resource
import select
import shutil
import struct
import subprocess
import unittest

from audit_chain import Chain, whole_chain
from support import BUILD, CREATE, DONE, GET, KEY, LOCK, PING, TIMEOUT
from test_audit import AuditCase

AUDIT_UNAVAILABLE = 12


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that holds the disk must be the first one, and so must a sanitizer's")
class HeldDisk(AuditCase):
    """Each fdatasync(2) of lkmd waits for the test once the gate is closed."""

    def setUp(self):
        super().setUp()
        self.record = self.release()
        self.records = [self.release() for _ in range(8)]

    def start_ready(self, name, prefix=()):
        if name == "lkmd" and not os.path.exists(self.path("gate")):
            self.close_gate(False)
            for fifo in ("asked", "answers"):
                os.mkfifo(self.path(fifo))
            self.asked, self.answers = (os.open(self.path(fifo), os.O_RDWR) for fifo in ("asked", "answers"))
            self.addCleanup(os.close, self.asked)
            self.addCleanup(os.close, self.answers)
        if name == "lkmd":
            prefix = ("env", f"LD_PRELOAD={BUILD}/tests/integration/libheld-disk.so", f"HELD_DISK={self.directory}")
        process = super().start_ready(name, prefix)
        if name == "lkmd":
            self.addCleanup(self.open_gate)  # before it has to end
        return process

    def close_gate(self, closed=True):
        with open(self.path("gate"), "r+b" if os.path.exists(self.path("gate")) else "wb") as gate:
            gate.write(struct.pack("=i", closed))

    def open_gate(self):
        self.close_gate(False)
        os.write(self.answers, b"y" * 16)

    def wait_until_asked(self):
        self.assertTrue(select.select([self.asked], [], [], TIMEOUT)[0], "lkmd does not sync")
        self.assertEqual(os.read(self.asked, 1), b"?")

    def answer(self, what=b"y"):
        os.write(self.answers, what)

    def held_get(self, client, record):
        """Ask, and wait until the disk has been asked. Return: the request's id."""
        request_id = client.send(GET, [(1, record)])
        self.wait_until_asked()
        ping = client.send(PING)
        self.assertEqual(client.receive().request_id, ping)
        return request_id


class Always(HeldDisk):
    def test_audit_sync_always_waits_for_the_disk(self):
        client = self.client()
        self.close_gate()
        request_id = self.held_get(client, self.record)
        self.assertEqual(Chain(self.log).records[-1]["event"], "release")  # written, and not durable
        self.answer()
        reply = client.receive()
        self.assertEqual((reply.number, reply.request_id), (KEY, request_id))

    def test_a_repeat_does_not_overtake_the_record_of_the_first(self):
        client = self.client()
        self.close_gate()
        first = self.held_get(client, self.record)
        again = client.send(GET, [(1, self.record)])
        ping = client.send(PING)
        self.assertEqual(client.receive().request_id, ping)
        self.answer()
        self.assertEqual([client.receive().request_id for _ in range(2)], [first, again])

    def test_what_comes_while_the_disk_works_shares_its_next_turn(self):
        clients = [self.client() for _ in range(8)]
        self.close_gate()
        first = self.client()
        self.held_get(first, self.record)
        for client, record in zip(clients, self.records):
            client.send(GET, [(1, record)])
            ping = client.send(PING)
            self.assertEqual(client.receive().request_id, ping)
        self.answer()
        self.assertEqual(first.receive().number, KEY)
        self.wait_until_asked()
        self.answer()
        for client in clients:
            self.assertEqual(client.receive().number, KEY)
        self.assertEqual(select.select([self.asked], [], [], 0)[0], [])

    def test_a_client_that_goes_away_meanwhile_is_no_matter(self):
        gone, other = self.client(), self.client()
        self.close_gate()
        self.held_get(gone, self.record)
        gone.socket.close()
        self.answer()
        self.open_gate()
        self.assertEqual(len(self.get(other, self.record)), 32)

    def test_a_key_that_was_locked_meanwhile_stays(self):
        client, admin = self.client(), self.client()
        self.close_gate()
        request_id = self.held_get(client, self.record)
        self.assertEqual(admin.ask(LOCK).number, DONE)
        self.open_gate()
        reply = client.receive()
        self.assertEqual(reply.request_id, request_id)
        self.assertIn("locked", reply.sentence)

    def test_an_error_of_the_disk_is_final_until_a_new_file(self):
        client = self.client()
        self.close_gate()
        self.held_get(client, self.record)
        self.answer(b"e")
        self.close_gate(False)  # from now on it would say that all is well
        self.assertEqual(client.receive().error, AUDIT_UNAVAILABLE)
        for asked in (client, self.client()):
            self.assertEqual(self.get(asked, self.record).error, AUDIT_UNAVAILABLE)
        self.assertIn("error", self.status(client)["audit"]["last_error"])
        self.assertEqual(self.client().ask(CREATE, [(1, b"medical")]).error, AUDIT_UNAVAILABLE)
        self.reload()
        # Its record may be lost with the old file: it is written again, though the connection had it before.
        self.assertEqual(len(self.get(client, self.record)), 32)
        events = whole_chain(self.log).events()
        self.assertEqual(events[events.index("open"):], ["open", "audit-again", "reload", "release"])

    def test_the_end_waits_for_the_disk(self):
        self.close_gate()
        self.lkmd.terminate()
        self.wait_until_asked()
        self.assertIsNone(self.lkmd.poll())
        self.open_gate()
        self.assertEqual(self.lkmd.wait(TIMEOUT), 0)


class Batch(HeldDisk):
    lkmd_options = "audit_sync = batch"

    def test_batch_does_not_wait_but_syncs_soon(self):
        client = self.client()
        self.close_gate()
        self.assertEqual(len(self.get(client, self.record)), 32)
        self.assertEqual(Chain(self.log).records[-1]["event"], "release")
        self.wait_until_asked()
        self.answer()
        self.open_gate()

    def test_a_thousand_records_do_not_wait_for_the_second(self):
        client = self.client()
        self.close_gate()
        self.deny(client, 1000)
        self.wait_until_asked()
        self.open_gate()


@unittest.skipIf(os.getuid() != 0, "a small disk needs root")
@unittest.skipUnless(subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0 if shutil.which("unshare") else False,
                     "nothing can be mounted here")
class FullDisk(AuditCase):
    def configure(self, **changes):
        os.makedirs(self.path("log"), exist_ok=True)
        if not os.path.ismount(self.path("log")):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.path("log")], check=True)
            self.addCleanup(subprocess.run, ["umount", "--lazy", self.path("log")], check=True)
        super().configure(**changes)
        text = self.read(self.config).replace("/audit.jsonl", "/log/audit.jsonl")
        self.write("lkmd.conf", text)

    def setUp(self):
        super().setUp()
        self.log = self.path("log/audit.jsonl")

    def fill(self):
        with open(self.path("log/filler"), "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass

    def exhaust(self, record):
        """Releases until what was allocated ahead is used up. Return: how many there were."""
        self.fill()
        for n in range(2000):
            with self.client() as client:
                key = self.get(client, record)
                if not isinstance(key, bytes):
                    self.assertEqual(key.error, AUDIT_UNAVAILABLE)
                    self.assertIn("No space", key.sentence)
                    return n
        self.fail("it never gets full")

    def test_release_is_refused_when_disk_is_full_and_again_given_when_there_is_room(self):
        record = self.release()
        given = self.exhaust(record) + 1
        for _ in range(5):
            self.assertEqual(self.get(self.client(), record).error, AUDIT_UNAVAILABLE)
        chain = Chain(self.log)
        self.assertEqual(len(chain.of("release")), given)
        self.assertEqual(chain.of("audit-failed")[0]["reason"], "No space left on device")
        self.assertIn("No space", self.status(self.client())["audit"]["last_error"])
        os.unlink(self.path("log/filler"))
        self.assertEqual(len(self.get(self.client(), record)), 32)
        self.assertEqual(self.status(self.client())["audit"]["last_error"], "")
        chain = Chain(self.log)
        self.assertEqual([(line["event"], line.get("count")) for line in chain.records[-2:]], [("audit-again", 6), ("release", None)])

    def test_the_reserve_has_room_for_denials_and_the_end(self):
        record = self.release()
        self.exhaust(record)
        client = self.client()
        for _ in range(200):  # more than the reserve: the last of it is not theirs
            client.ask(CREATE, [(1, b"closed")])
        self.assertEqual(client.ask(LOCK).number, DONE)
        self.finish(self.lkmd)
        events = Chain(self.log).events()
        self.assertGreater(events.count("deny"), 50)
        self.assertLess(events.count("deny"), 200)
        self.assertEqual(events[-2:], ["stop", "checkpoint"])
        self.assertIn("lock", events)

    def test_the_file_that_is_moved_away_leaves_no_hole_in_the_disk(self):
        self.release()
        os.rename(self.log, self.log + ".1")
        self.reload()
        state = os.stat(self.log + ".1")
        self.assertLessEqual(state.st_blocks * 512, state.st_size + 4096)


class FileLimit(AuditCase):
    """What any user can do to a disk."""

    def test_release_is_refused_while_the_log_cannot_grow(self):
        record = self.release()
        limits = resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, (os.path.getsize(self.log), resource.RLIM_INFINITY))
        for _ in range(3):
            self.assertEqual(self.get(self.client(), record).error, AUDIT_UNAVAILABLE)
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, limits)
        self.assertEqual(len(self.get(self.client(), record)), 32)
        chain = Chain(self.log)
        self.assertEqual(chain.of("audit-again")[0]["count"], 3)


if __name__ == "__main__":
    unittest.main()
