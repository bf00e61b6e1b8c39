# SPDX-License-Identifier: Apache-2.0
"""What one client or one uid may do to the others: nothing. Each phase is counted and none waits for a clock; the same with thousands of
connections for a minute, and how long the others wait meanwhile, is `meson test --suite bench hostile`."""
import array
import contextlib
import json
import os
import resource
import signal
import socket
import unittest

from daemons import DaemonCase, MovedClock, nobody
from support import DONE, ERROR, GET, HELLO, PING, WELCOME, Client, frame, u16, u32
from test_lkmd import Provider

QUOTA = 4
FEW_DESCRIPTORS = 36
N = 100  # more than lkmd has slots of locked memory for frames


class Hostile(DaemonCase):
    def raw(self, data=b""):
        """A connection that has sent @data."""
        client = Client(self.socket, greet=False)
        self.addCleanup(client.socket.close)
        with contextlib.suppress(BrokenPipeError):  # refused already, and told so
            client.socket.sendall(data)
        return client

    def wait_for_log(self, phrase):
        while True:
            line = self.lkmd.stderr.readline().decode()
            self.assertTrue(line, "lkmd has ended")
            if phrase in line:
                return line

    def reload(self, options):
        self.configure(lkmd=options)
        self.lkmd.send_signal(signal.SIGHUP)
        self.wait_for_log("read ")

    def fill_descriptors(self):
        """Connect until lkmd has no descriptor for one. Return: the connections that it had descriptors for."""
        taken = []
        while True:
            client = Client(self.socket, greet=False)
            try:
                client.socket.sendall(frame(HELLO, 1, [(1, u16(1)), (2, u16(1))]))
                self.assertEqual(client.receive().number, WELCOME)
                taken.append(client)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                client.socket.close()
                return taken

    def leave(self, connections):
        """End them, and wait until lkmd has done so."""
        for connection in connections:
            connection.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(connection.is_closed())
            connection.socket.close()
        return len(connections)

    def limits_told(self):
        return [line["reason"] for line in map(json.loads, self.read(self.path("audit.jsonl")).splitlines()) if line["event"] == "limit"]


class Memory(Hostile):
    def test_begun_frames_take_no_locked_memory_from_others(self):
        client = self.client()
        record = self.create(client)
        hello = frame(HELLO, 1, [(1, u16(1)), (2, u16(1))])
        for begin in (b"\0", hello[:13], hello + frame(GET, 2, [(1, bytes(20000))])[:40]):
            held = [self.raw(begin) for _ in range(N)]
            self.assertEqual(len(self.get(client, record)), 32)
            self.assertEqual(len(self.get(self.client(), record)), 32)
            for connection in held:
                connection.socket.close()
        self.assertEqual(self.status(client)["arena"]["large_used"], 1)  # the answer

    def test_frames_of_greatest_length_are_counted_before_they_are_there(self):
        client = self.client()
        self.reload("user_bytes = 1M")
        hello = frame(HELLO, 1, [(1, u16(1)), (2, u16(1))])
        held = [self.raw(hello + u32(73728 - 4) + b"\0\x11\0\0\0\0\0\x02") for _ in range(N)]
        answers = []
        for connection in held:
            self.assertEqual(connection.receive().number, WELCOME)
        for connection in held[15:]:  # 14 fit into 1 MiB
            answers.append(connection.receive())
            self.assertTrue(connection.is_closed())
        self.assertEqual({(a.error, a.request_id) for a in answers}, {(QUOTA, 0)})
        self.assertIn("user_bytes = 1048576", answers[0].sentence)
        self.assertEqual(answers[0].fields[3], u32(1000))
        user = self.status(client)["users"]["top"][0]
        self.assertLessEqual(user["bytes"], 1 << 20)
        self.assertGreater(user["bytes"], 900000)
        self.assertIn("user_bytes", self.limits_told()[0])

    def test_answers_that_nobody_reads_are_bounded_and_cost_the_others_nothing(self):
        client = self.client()
        record = self.create(client)
        question = frame(GET, 7, [(1, record)])
        lazy = [self.client() for _ in range(N)]
        for connection in lazy:
            connection.socket.setblocking(False)
        # Until lkmd takes no more of any of them, which an answer to somebody else shows.
        sent = True
        while sent:
            sent = False
            for connection in lazy:
                try:
                    sent = connection.socket.send(question) == len(question)
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass
            try:
                self.assertEqual(len(self.get(client, record)), 32)
            except ConnectionError:  # of the same uid, whose share is taken at that moment: it may be sent away, too, and comes again
                client = self.client()
        self.assertEqual(len(self.get(client, record)), 32)
        status = self.status(client)
        self.assertLessEqual(status["arena"]["large_used"], status["arena"]["large"] // 2 + 1)


class Connections(Hostile):
    lkmd_options = "max_connections = 40"

    def fill(self):
        """Connect until one is refused. Return: those that were taken, the refusal."""
        taken = []
        while True:
            client = self.raw(frame(HELLO, 1, [(1, u16(1)), (2, u16(1))]))
            reply = client.receive()
            if reply.number == ERROR:
                self.assertTrue(client.is_closed())
                return taken, reply
            self.assertEqual(reply.number, WELCOME)
            taken.append(client)

    def nobody_is_admin(self):
        os.mkdir(self.path("lkmd.conf.d"))
        self.write("lkmd.conf.d/admin.conf", "[lkmd]\nadmin = uid:4242\n")
        self.lkmd.send_signal(signal.SIGHUP)
        self.wait_for_log("read ")

    def test_one_uid_gets_half_and_is_told_why_not_more(self):
        self.nobody_is_admin()
        taken, reply = self.fill()
        self.assertEqual(len(taken), 20)
        self.assertEqual((reply.error, reply.request_id, reply.fields[3]), (QUOTA, 0, u32(1000)))
        self.assertIn(f"uid {os.getuid()} has as many connections as max_connections = 40", reply.sentence)
        self.assertEqual(self.limits_told(), [reply.sentence])
        taken.pop().socket.close()
        # Its place is free as soon as lkmd has seen the end, which an answer to another one that came later shows.
        self.assertEqual(taken[0].ask(PING).number, DONE)
        self.assertEqual(len(self.fill()[0]), 1)

    def test_administrators_have_a_reserve(self):
        taken, reply = self.fill()
        self.assertEqual(len(taken), 40 + 16)
        self.assertEqual(reply.error, QUOTA)
        users = self.status(taken[0])["users"]
        self.assertEqual(users["top"], [{"uid": os.getuid(), "connections": 56, "requests": 0, "bytes": 0, "refused": 1}])
        self.assertEqual((users["count"], users["refused"], users["accept_failures"]), (1, 1, 0))

    def test_a_limit_of_its_own_is_taken_at_reload(self):
        self.nobody_is_admin()
        kept = self.client()
        self.reload("user_connections = 3")
        self.assertEqual(len(self.fill()[0]), 2)
        self.assertIn("user_connections = 3", self.fill()[1].sentence)
        self.reload("user_connections = 5")
        self.assertEqual(len(self.fill()[0]), 2)
        self.assertEqual(kept.ask(PING).number, DONE)

    def test_another_uid_takes_all_it_gets_and_this_one_is_served(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        client = self.client()
        record = self.create(client)
        read, write = os.pipe()
        stop_read, stop_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(stop_write)
            os.setgroups([])
            os.setgid(nobody().pw_gid)
            os.setuid(nobody().pw_uid)
            os.write(write, bytes([len(self.fill()[0])]))
            os.read(stop_read, 1)
            os._exit(0)
        self.assertEqual(os.read(read, 1), bytes([20]))  # 39 were left, and it leaves as many as it has
        for _ in range(5):
            self.assertEqual(len(self.get(self.client(), record)), 32)
        top = self.status(client)["users"]["top"]
        self.assertEqual([(u["uid"], u["connections"], u["refused"]) for u in top], [(nobody().pw_uid, 20, 1), (0, 6, 0)])
        for fd in (stop_write, stop_read, read, write):
            os.close(fd)
        os.waitpid(child, 0)


class Rate(Hostile):
    lkmd_options = "user_rate = 200\nuser_requests = 4"

    def test_too_many_requests_wait_and_none_is_refused(self):
        client = self.client()
        for _ in range(300):
            client.send(PING)
        self.assertEqual({client.receive().number for _ in range(300)}, {DONE})
        self.wait_for_log("asks more than user_rate = 200 requests a second; they wait")
        self.assertEqual(len(self.limits_told()), 1)

    def test_more_requests_than_may_wait_are_taken_when_others_are_answered(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        self.evict(client, record)
        self.finish(self.kms)
        provider = Provider(self.path("kms.sock"), key)
        askers = [self.client() for _ in range(10)]
        for asker in askers:
            asker.send(GET, [(1, record)])
        self.wait_for_log("has user_requests = 4 requests without an answer; its next ones wait")
        provider.may_answer.set()
        for asker in askers:
            self.assertEqual(asker.receive().fields[1], key)


class Descriptors(Hostile):
    def test_without_descriptors_each_connection_is_closed_once_and_none_spins(self):
        client = self.client()
        record = self.create(client)
        limits = resource.prlimit(self.lkmd.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_NOFILE, (FEW_DESCRIPTORS, limits[1]))
        taken = self.fill_descriptors()
        for _ in range(N):
            self.assertTrue(self.raw().is_closed())
        self.assertEqual(self.status(client)["users"]["accept_failures"], N + 1)
        self.assertEqual(len(self.get(client, record)), 32)
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_NOFILE, limits)
        self.assertEqual(len(self.get(self.client(), record)), 32)
        self.assertGreater(self.leave(taken), 2)

    def test_descriptors_that_are_sent_along_do_not_stay(self):
        client, partial = self.client(), self.client()
        resource.prlimit(self.lkmd.pid, resource.RLIMIT_NOFILE, (FEW_DESCRIPTORS, resource.prlimit(self.lkmd.pid, resource.RLIMIT_NOFILE)[1]))
        free = self.leave(self.fill_descriptors())
        self.assertGreater(free, 10)
        with open("/dev/null") as null:
            leak = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()] * 200))]
            ping = frame(PING, 3)
            for _ in range(N):
                client.socket.sendmsg([ping], leak)
                self.assertEqual(client.receive().number, DONE)
            partial.socket.sendmsg([ping[:5]], leak)
        self.assertEqual(client.ask(PING).number, DONE)
        # lkmd may have one open for a moment, of the audit log or of /proc; 20,200 were sent.
        self.assertGreaterEqual(self.leave(self.fill_descriptors()), free - 2)


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be loaded first")
class Slow(Hostile):
    def setUp(self):
        super().setUp()
        self.finish(self.lkmd)
        self.clock = MovedClock(self.path("clock"))
        self.lkmd = self.start_ready("lkmd", self.clock.prefix())

    def test_what_is_begun_has_to_end_in_time_and_who_is_idle_stays(self):
        idle, sender = self.client(), self.client()
        silent, slow = self.raw(), self.raw(frame(HELLO, 1, [(1, u16(1)), (2, u16(1))]) + frame(PING, 2)[:5])
        self.assertEqual(slow.receive().number, WELCOME)
        self.assertEqual(idle.ask(PING).number, DONE)
        self.clock.move(6)
        slow.socket.sendall(frame(PING, 2)[5:6])  # progress, but no end
        sender.socket.sendall(frame(PING, 2)[:5])
        # They wait for their turn, at most the first PING before them and the second one behind.
        self.assertEqual(idle.ask(PING).number, DONE)
        self.assertEqual(idle.ask(PING).number, DONE)
        self.clock.move(6)
        self.assertEqual(idle.ask(PING).number, DONE)
        self.assertTrue(silent.is_closed())
        self.assertTrue(slow.is_closed())
        sender.socket.sendall(frame(PING, 2)[5:])
        self.assertEqual(sender.receive().number, DONE)
        self.clock.move(3600)
        self.assertEqual(idle.ask(PING).number, DONE)
        self.assertEqual(sender.ask(PING).number, DONE)


if __name__ == "__main__":
    unittest.main()
