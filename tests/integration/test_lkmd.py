# SPDX-License-Identifier: Apache-2.0
"""lkmd as its clients see it: who gets a key, who does not, and why."""
import hashlib
import json
import os
import random
import resource
import signal
import socket
import threading
import unittest

from daemons import DaemonCase, nobody
from support import (CHECK, CREATE, DONE, ERROR, EXPLAIN, GET, HELLO, KEY, KMS_UNWRAP, KMS_UNWRAPPED, LIST, LOCK, PING, RECORD, STATUS,
                     TIMEOUT, UNLOCK, UPGRADE, WELCOME, Client, Reply, frame, u16, u32)

PROTOCOL, SCOPE_UNKNOWN, SCOPE_NEEDED, DENIED, LOCKED, AUDIT_UNAVAILABLE = 1, 14, 15, 10, 11, 12
RECORD_DAMAGED, RECORD_FOREIGN, RECORD_NEWER, RECORD_OUTDATED, VERSION_UNKNOWN = 20, 21, 22, 23, 24
UNSUPPORTED, KEK_UNAVAILABLE = 3, 30


class Records(DaemonCase):
    def test_a_key_is_the_same_after_both_daemons_restarted(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        self.assertEqual(len(key), 32)
        self.finish(self.lkmd)
        self.finish(self.kms)
        self.kms = self.start_ready("lkm-kms")
        self.lkmd = self.start_ready("lkmd")
        self.assertEqual(self.get(self.client(), record), key)

    def test_other_uid_is_refused(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        record = self.create(self.client())
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(nobody().pw_gid)
            os.setuid(nobody().pw_uid)
            client = Client(self.socket)
            os.write(write, bytes([client.ask(GET, [(1, record)]).error, client.ask(STATUS).error, client.ask(LOCK).error,
                                   client.ask(CREATE, [(1, b"medical")]).error, client.ask(CREATE).error]))
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(os.read(read, 16), bytes([DENIED] * 5))
        os.close(read)
        os.close(write)

    def test_a_record_of_another_scope_is_refused(self):
        client = self.client()
        medical, billing = self.create(client), self.create(client, b"billing")
        self.assertEqual(client.ask(GET, [(1, billing), (2, b"medical")]).error, RECORD_FOREIGN)
        # Claimed for the other scope: another KEK there, so nobody can unwrap it.
        self.assertEqual(self.get(client, medical.replace(b'"medical"', b'"billing"')).error, RECORD_FOREIGN)
        self.assertEqual(self.get(client, medical.replace(b'"medical"', b'"closed"')).error, DENIED)
        self.assertEqual(self.get(client, medical.replace(b'"medical"', b'"nowhere"')).error, RECORD_FOREIGN)

    def test_every_field_edited_in_turn_is_refused(self):
        client = self.client()
        record = json.loads(self.create(client))
        for member, value in record.items():
            edited = dict(record)
            if isinstance(value, int):
                edited[member] = value + 1
            elif value is None:
                edited[member] = "2024-01-15T10:30:00Z"
            elif isinstance(value, str):
                edited[member] = value[:3] + ("2" if value[3] != "2" else "3") + value[4:]
            else:
                edited[member] = type(value)()
            reply = self.get(client, json.dumps(edited).encode())
            self.assertIsInstance(reply, Reply, f"edited {member} got a key")
            self.assertIn(reply.error, (RECORD_DAMAGED, RECORD_FOREIGN, RECORD_NEWER), member)

    def test_a_thousand_random_mutations_are_refused(self):
        client = self.client()
        record = self.create(client)
        meaning = json.loads(record)
        key = self.get(client, record)
        chance = random.Random(7)
        for _ in range(1000):
            mutated = bytearray(record)
            for _ in range(chance.randint(1, 3)):
                mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            reply = self.get(client, bytes(mutated))
            if isinstance(reply, bytes):  # white space, or an escape for the same character
                self.assertEqual((json.loads(mutated), reply), (meaning, key))
            else:
                self.assertIn(reply.error, (RECORD_DAMAGED, RECORD_FOREIGN, RECORD_NEWER, RECORD_OUTDATED), reply.sentence)

    def test_errors_are_told_apart(self):
        client = self.client()
        record = self.create(client)
        self.assertEqual(client.ask(CREATE, [(1, b"nowhere")]).error, SCOPE_UNKNOWN)
        self.assertEqual(client.ask(CREATE).error, SCOPE_NEEDED)
        self.assertEqual(client.ask(CREATE, [(1, b"closed")]).error, DENIED)
        self.assertEqual(client.ask(GET, [(1, record), (3, u32(2))]).error, VERSION_UNKNOWN)
        self.assertEqual(client.ask(GET, [(1, b'{"format": 3}')]).error, RECORD_NEWER)
        self.assertEqual(client.ask(0x7fff).error, UNSUPPORTED)
        self.assertEqual(client.ask(PING).number, DONE)

    def test_the_seeds_format_is_upgraded_and_keeps_its_key(self):
        client = self.client()
        new = json.loads(self.create(client))
        # A wrap bound by the user's pairs alone, as the seed made it: asked of the provider directly.
        with Client(self.path("kms.sock")) as kms:
            made = kms.ask(0x0100, [(1, b"local"), (2, u16(1) + u16(7) + b"purpose" + u16(4) + b"test")])
        import base64
        old = {name: new[name] for name in ("version", "created_at", "rotated_at", "encryption_context", "dek_spec")}
        old |= {"encrypted_dek": base64.b64encode(made.fields[3]).decode(), "kek_id": made.fields[2].decode()}
        seed = json.dumps(old).encode()
        self.assertEqual(self.get(client, seed).error, RECORD_OUTDATED)
        reply = client.ask(UPGRADE, [(1, seed), (2, b"medical")])
        self.assertEqual(reply.number, RECORD, reply.sentence)
        self.assertEqual(json.loads(reply.fields[1])["format"], 2)
        self.assertEqual(self.get(client, reply.fields[1]), made.fields[1])
        # Of another context it is not ours.
        self.assertEqual(client.ask(UPGRADE, [(1, seed), (2, b"billing")]).error, RECORD_FOREIGN)

    def test_check_explain_and_list_tell_no_key(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        check = client.ask(CHECK, [(1, record)]).json
        self.assertTrue(check["verified"])
        self.assertEqual(check["versions"][0]["state"], "current")
        explain = client.ask(EXPLAIN, [(2, b"closed")]).json
        self.assertEqual(explain["rights"]["use"], {"allowed": False, "rule": "no rule"})
        listed = client.ask(LIST).json
        self.assertEqual([k["database_id"] for k in listed["keys"]], [check["database_id"]])
        for text in (json.dumps(check), json.dumps(listed), json.dumps(self.status(client)), self.read(self.path("audit.jsonl"))):
            self.assertNotIn(key.hex(), text)

    def test_lock_refuses_keys_until_unlock(self):
        client = self.client()
        record = self.create(client)
        self.assertEqual(client.ask(LOCK).number, DONE)
        self.assertEqual(self.get(client, record).error, LOCKED)
        self.assertEqual(client.ask(CREATE, [(1, b"medical")]).error, LOCKED)
        self.assertEqual(self.status(client)["cache"]["keys"], 0)
        self.assertEqual(client.ask(UNLOCK).number, DONE)
        self.assertEqual(len(self.get(client, record)), 32)


class Provider(threading.Thread):
    """A KMS provider that answers every unwrap with one key, but not before it is told to."""

    def __init__(self, path, key):
        super().__init__(daemon=True)
        self.key, self.n_unwraps, self.may_answer = key, 0, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen()
        self.connection = None
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        self.connection = connection
        stream = connection.makefile("rb")
        while head := stream.read(4):
            request = Reply(stream.read(int.from_bytes(head, "big")))
            if request.number == HELLO:
                connection.sendall(frame(WELCOME, request.request_id, [(1, u16(1)), (2, b""), (4, u32(73728)), (5, u32(128))]))
            elif request.number == KMS_UNWRAP:
                self.n_unwraps += 1
                self.may_answer.wait(TIMEOUT)
                connection.sendall(frame(KMS_UNWRAPPED, request.request_id, [(1, self.key)]))


class Gatherer(Provider):
    """A KMS provider that takes 200 requests at a time, and answers none before it has 150."""

    def run(self):
        connection, _ = self.listener.accept()
        stream, waiting = connection.makefile("rb"), []
        while head := stream.read(4):
            request = Reply(stream.read(int.from_bytes(head, "big")))
            if request.number == HELLO:
                connection.sendall(frame(WELCOME, request.request_id, [(1, u16(1)), (2, b""), (4, u32(73728)), (5, u32(200))]))
            elif request.number == KMS_UNWRAP:
                waiting.append(request.request_id)
                if len(waiting) == 150:
                    connection.sendall(b"".join(frame(KMS_UNWRAPPED, i, [(1, self.key)]) for i in waiting))


class Cache(DaemonCase):
    def test_as_many_unwraps_are_under_way_as_the_provider_allows(self):
        clients = [self.client(), self.client()]
        records = [self.create(clients[0]) for _ in range(150)]
        key = self.get(clients[0], records[0])
        for record in records:
            self.evict(clients[0], record)
        self.finish(self.kms)
        Gatherer(self.path("kms.sock"), key)
        for i, record in enumerate(records):
            clients[i % 2].send(GET, [(1, record)])
        answers = [clients[i % 2].receive() for i in range(150)]
        self.assertEqual([a.fields[1] for a in answers if a.number == KEY], [key])  # the one that it is the key of

    def test_one_unwrap_for_many_askers(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        self.assertEqual(self.evict(client, record).json, {"evicted": 1})
        self.finish(self.kms)
        provider = Provider(self.path("kms.sock"), key)
        askers = [self.client() for _ in range(1000)]
        before = self.status(client)["stages"]["unwrap"]
        for asker in askers:
            asker.send(GET, [(1, record)])
        while self.status(client)["stages"]["unwrap"] - before < 1000:
            pass  # each round is an answer of the daemon, which took what had come before
        provider.may_answer.set()
        for asker in askers:
            self.assertEqual(asker.receive().fields[1], key)
        self.assertEqual(provider.n_unwraps, 1)

    def test_a_dead_provider_is_told_as_such(self):
        client = self.client()
        record = self.create(client)
        self.evict(client, record)
        self.finish(self.kms)
        self.assertEqual(self.get(client, record).error, KEK_UNAVAILABLE)
        self.kms = self.start_ready("lkm-kms")
        self.assertEqual(len(self.get(client, record)), 32)


class Deaf(DaemonCase):
    lkmd_options = "kms_timeout = 100ms"
    scope_options = "encryption_context = " + " ".join(f"{name}={'x' * 380}" for name in "abcdefgh")

    def configure(self, **changes):
        super().configure(**changes)
        given = "kms_timeout = 30s\n", "encryption_context = purpose=test\n"
        self.write("lkmd.conf", self.read(self.config).replace(given[0], "").replace(given[1], ""))

    def test_a_worker_that_does_not_read_takes_no_memory_that_clients_need(self):
        self.finish(self.kms)
        deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(deaf.close)
        deaf.bind(self.path("kms.sock"))
        deaf.listen()
        client = self.client()
        for _ in range(8):  # as many questions as would fill the memory for frames twice over
            for _ in range(60):
                client.send(CREATE, [(1, b"medical")])
            self.assertEqual({client.receive().error for _ in range(60)}, {KEK_UNAVAILABLE})
        arena = self.status(self.client())["arena"]
        self.assertLess(arena["large_used"], arena["large"] // 2)


class Audit(DaemonCase):
    def lines(self):
        return self.read(self.path("audit.jsonl")).splitlines()

    def test_the_log_is_a_whole_chain_over_restarts(self):
        client = self.client()
        record = self.create(client)
        self.get(client, record)
        self.get(client, record)
        client.ask(CREATE, [(1, b"closed")])
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        previous = "0" * 64
        events = []
        for number, line in enumerate(self.lines(), 1):
            entry = json.loads(line)
            self.assertEqual((entry["seq"], entry["prev"]), (number, previous))
            previous = entry["hash"]
            self.assertEqual(previous, hashlib.sha256(line[:line.rindex(',"hash":"')].encode()).hexdigest())
            events.append(entry["event"])
        # One line for what a connection is given, and its repeats summed up.
        self.assertEqual(events, ["start", "create", "release", "deny", "repeat", "stop", "checkpoint", "start"])

    def test_audit_failure_refuses_release(self):
        client = self.client()
        record = self.create(client)
        limits = resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        self.assertEqual(self.get(client, record).error, AUDIT_UNAVAILABLE)
        self.assertNotEqual(self.status(client)["audit"]["last_error"], "")
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_FSIZE, limits)
        self.assertEqual(len(self.get(client, record)), 32)


class Signals(DaemonCase):
    def reload(self):
        """Send SIGHUP and wait until it was handled: the log line says so."""
        self.lkmd.send_signal(signal.SIGHUP)
        while True:
            line = self.lkmd.stderr.readline().decode()
            if "read " in line or "stays in force" in line:
                return line

    def test_a_good_configuration_is_taken_and_a_bad_one_is_not(self):
        client = self.client()
        record = self.create(client)
        self.configure(scope="allow = uid:4242", uid=os.getuid())
        self.assertIn("given twice", self.reload())
        self.assertEqual(len(self.get(client, record)), 32)
        self.assertTrue(self.status(client)["reload_failed"])
        with open(self.config) as file:
            text = file.read().replace("allow = uid:4242", "").replace("[scope medical]", "[scope medical-2]")
        self.write("lkmd.conf", text)
        self.assertIn("scopes: 3", self.reload())
        self.assertEqual(self.get(client, record).error, RECORD_FOREIGN)
        self.assertEqual(self.status(client)["cache"]["keys"], 0)

    def test_sigterm_ends_cleanly(self):
        self.client()
        self.lkmd.send_signal(signal.SIGTERM)
        self.assertEqual(self.lkmd.wait(TIMEOUT), 0)
        self.assertFalse(os.path.exists(self.socket))


class HostileFrames(DaemonCase):
    def test_what_breaks_the_protocol_is_told_and_closed(self):
        for data in (frame(GET, 1, [(1, b"x")]),  # before HELLO
                     frame(HELLO, 1, [(1, u16(1))]),  # a field missing
                     frame(HELLO, 1, [(2, u16(1)), (1, u16(1))]),  # tags out of order
                     frame(HELLO, 1, [(1, u16(9)), (2, u16(9))])):  # no common version
            with Client(self.socket, greet=False) as client:
                client.socket.sendall(data)
                self.assertEqual(client.receive().number, ERROR)
                self.assertTrue(client.is_closed())
        for data in (u32(0), u32(1 << 30), b"\0\0\0\x08\0\1\xff\xff\0\0\0\1"):
            with Client(self.socket, greet=False) as client:
                client.socket.sendall(data + b"\0" * 8)
                self.assertTrue(client.is_closed())
        self.assertEqual(self.client().ask(PING).number, DONE)


if __name__ == "__main__":
    unittest.main()
