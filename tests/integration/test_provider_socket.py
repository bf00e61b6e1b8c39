# SPDX-License-Identifier: Apache-2.0
"""kms_type = socket: a provider of somebody else's, written from PROTOCOL.md, and one that breaks every rule of it."""

import example_provider
import fcntl
import json
import memscan
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import unittest
from support import (DONE, ERROR, GET, KMS_CHECK, KMS_DESCRIBE, KMS_GENERATE, KMS_GENERATED, KMS_RELOAD, KMS_REWRAP, KMS_UNWRAP, KMS_UNWRAPPED, KMS_WRAP,
                     KMS_WRAPPED, PING, REPORT, WELCOME, Client, pairs, u32)
from test_kms import KmsCase
from test_sqlcipher import WORD, ClientCase

UNSUPPORTED, QUOTA, INTERNAL, DENIED, SHUTTING_DOWN, RECORD_DAMAGED, KEK_UNAVAILABLE = 3, 4, 5, 10, 13, 20, 30
NOT_MINE, KMS_DENIED, THROTTLED, UNREACHABLE, CREDENTIALS, CORRUPT, STATE, NOT_FOUND, MISCONFIGURED = range(60, 69)
CONTEXT = {"lkm:database": "1", "purpose": "test"}


class EndToEnd(ClientCase):
    """A real database, through lkmd, lkm-kms and the example."""

    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config)
        ours = text.replace(f"kms_type = local\nkek_file = {self.directory}/kek\n",
                            f"kms_type = socket\nprovider_socket = {self.path('provider.sock')}\n")
        self.assertNotEqual(ours, text)
        self.write("lkmd.conf", ours)
        self.serve()

    def serve(self):
        self.provider = self.start([sys.executable, example_provider.__file__, self.path("provider.sock"), self.path("master")],
                                   stdout=subprocess.PIPE, text=True)
        self.assertEqual(self.provider.stdout.readline(), "ready\n")

    def test_database_opens_again_after_all_were_restarted(self):
        self.make_database("a.db")
        for process in (self.lkmd, self.kms, self.provider):
            self.finish(process)
        self.serve()
        self.kms, self.lkmd = self.start_ready("lkm-kms"), self.start_ready("lkmd")
        self.assertIn(WORD, self.open("a.db"))
        with open(self.path("a.db.key")) as file:
            record = json.load(file)
        self.assertTrue(record["kek_id"].startswith("example:local:"), record["kek_id"])

    def test_provider_killed_in_the_middle_is_an_outage_and_then_serves_again(self):
        user = self.client()
        record = self.create(user)
        key = self.get(user, record)
        self.evict(user, record)
        self.provider.send_signal(signal.SIGSTOP)
        user.send(GET, [(1, record)])
        self.assertEqual(self.client().ask(PING).number, DONE)
        self.provider.kill()
        reply = user.receive()
        self.assertEqual(reply.error, KEK_UNAVAILABLE, reply.sentence)
        self.assertIn("provider.sock", reply.sentence)
        self.provider.wait()
        self.serve()
        self.assertEqual(self.get(user, record), key)

    def test_another_context_is_refused(self):
        user = self.client()
        record, other = self.create(user), self.create(user)
        changed = json.loads(record)
        changed["encryption_context"]["purpose"] = "tost"
        self.assertEqual(self.get(user, json.dumps(changed).encode()).error, RECORD_DAMAGED)
        ours, theirs = (json.loads(text) for text in (record, other))
        ours["versions"][0]["wraps"], ours["encrypted_dek"] = theirs["versions"][0]["wraps"], theirs["encrypted_dek"]
        self.assertEqual(self.get(user, json.dumps(ours).encode()).error, RECORD_DAMAGED)
        self.assertEqual(len(self.get(user, record)), 32)


    @unittest.skipIf(os.getuid() != 0, "reading the memory of a process that allows no tracing needs root")
    @unittest.skipIf("valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""), "valgrind keeps copies of its own")
    def test_memory_has_no_key_after_it_has_passed(self):
        user = self.client()
        record = self.create(user)
        key = self.get(user, record)
        for _ in range(50):
            self.evict(user, record)
            self.assertEqual(self.get(user, record), key)
        self.evict(user, record)
        for path in (self.socket, self.path("kms.sock")):
            with Client(path) as client:
                client.ask(PING)  # both have ended what they did before
        self.assertEqual(memscan.scan(self.kms.pid, key), [])
        self.assertEqual(memscan.scan(self.lkmd.pid, key), [])


class Scripted(example_provider.Session):
    """Answers by the example unless the test has said what to answer next."""

    def setup(self):
        self.server.sessions.append(self.request)
        super().setup()
        self.wfile = Cutting(self)

    def answer(self, number, fields):
        script = self.server.script
        return script(self, number, fields) if script and number not in (example_provider.HELLO, KMS_DESCRIBE) else super().answer(number, fields)


class Cutting:
    """Sends each answer in two pieces, the second one when the first has been read."""

    def __init__(self, session):
        self.socket, self.server = session.request, session.server

    def write(self, data):
        cut = self.server.cut or len(data)
        self.socket.sendall(data[:cut])
        while cut < len(data) and struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"1234"))[0] > 0:
            select.select([], [], [], 0.001)
        self.socket.sendall(data[cut:])

    def flush(self):
        pass

    def close(self):
        pass

    closed = False


class Provider(example_provider.Server):
    def __init__(self, path):
        self.script, self.sessions, self.cut = None, [], None
        super().__init__(path, b"m" * 32, session=Scripted)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def end(self):
        self.shutdown()
        self.thread.join()
        self.server_close()
        for session in self.sessions:
            try:
                session.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already


class SocketCase(KmsCase):
    def setUp(self):
        super().setUp()
        self.provider_path = self.path("provider.sock")
        self.write("lkmd.conf", f"[lkmd]\nkms_socket = {self.socket_path}\n[kms]\nidle_exit = 0\n"
                                f"[kek one]\nkms_type = socket\nprovider_socket = {self.provider_path}\n[scope s]\nkeks = one\n")
        self.provider = Provider(self.provider_path)
        self.addCleanup(lambda: self.provider.end())  # pylint: disable=unnecessary-lambda  # the one of then
        self.process = self.serve(stderr=subprocess.DEVNULL)
        self.user = self.client()

    def tearDown(self):
        self.finish(self.process)
        self.assertEqual(self.process.returncode, 0)  # also what sanitizers and valgrind say at the end

    def script(self, answer):
        self.provider.script = answer

    def ask_unwrap(self, made, msec=20000):
        return self.user.ask(KMS_UNWRAP, [(1, b"one"), (2, made[2]), (3, made[3]), (4, pairs(CONTEXT)), (5, u32(msec))])


class Operations(SocketCase):
    def test_key_unwraps_wraps_and_rewraps(self):
        made = self.made(self.user)
        self.assertTrue(made[2].startswith(b"example:one:"))
        self.assertEqual(self.ask_unwrap(made).fields[1], made[1])
        wrapped = self.user.ask(KMS_WRAP, [(1, made[1]), (2, b"one"), (3, pairs(CONTEXT))])
        self.assertEqual((wrapped.number, wrapped.fields[1]), (KMS_WRAPPED, made[2]), wrapped.sentence)
        self.assertEqual(self.ask_unwrap({2: made[2], 3: wrapped.fields[2]}).fields[1], made[1])
        rewrapped = self.user.ask(KMS_REWRAP, [(1, b"one"), (2, made[2]), (3, made[3]), (4, pairs(CONTEXT))])
        self.assertNotEqual(rewrapped.fields[2], made[3])
        self.assertEqual(self.ask_unwrap({2: made[2], 3: rewrapped.fields[2]}).fields[1], made[1])

    def test_answers_cut_in_two_at_any_byte_are_the_same_answers(self):
        made = self.user.ask(KMS_GENERATE, [(1, b"one"), (2, pairs(CONTEXT))]).fields
        for damage, n_frame in ((b"", 12 + 6 + 32), (b"x", 12 + 6 + 2 + 6)):
            wrapped = {**made, 3: made[3] + damage}
            self.provider.cut = None
            expected = self.ask_unwrap(wrapped)
            for self.provider.cut in range(1, n_frame):
                reply = self.ask_unwrap(wrapped)
                self.assertEqual((reply.number, reply.fields), (expected.number, expected.fields), f"cut at {self.provider.cut}")
            self.assertEqual(len(self.provider.sessions), 1)

    def test_refusals_pass_through(self):
        made = self.made(self.user)
        self.assertEqual(self.ask_unwrap({2: made[2] + b"x", 3: made[3]}).error, NOT_MINE)
        self.assertEqual(self.ask_unwrap({2: made[2], 3: made[3][:-1] + bytes([made[3][-1] ^ 1])}).error, CORRUPT)
        self.assertEqual(self.unwrap(self.user, made[2], made[3], context={"purpose": "test"}).error, CORRUPT)

    def test_kek_is_described_once_it_was_used(self):
        before = self.user.ask(KMS_DESCRIBE).json["keks"][0]
        self.assertEqual((before["type"], before["kek_id"], before["version"], before["usable"]), ("socket", "", 0, True))
        self.script(lambda session, number, fields: (ERROR, example_provider.Refused(THROTTLED, "not so fast").fields))
        self.user.ask(KMS_GENERATE, [(1, b"one")])
        # The question went out behind the call, and a second call's answer comes behind its answer.
        self.user.ask(KMS_GENERATE, [(1, b"one")])
        after = self.user.ask(KMS_DESCRIBE).json["keks"][0]
        self.assertRegex(after["kek_id"], "^example:one:[0-9a-f]{16}$")
        self.assertEqual((after["version"], after["usable"], after["error"]), (1, False, "not so fast"))

    def test_check_passes_and_there_is_no_policy(self):
        report = self.user.ask(KMS_CHECK, [(1, b"one")]).json
        self.assertEqual([step["done"] for step in report["steps"]], [True] * 5, report)
        self.assertTrue(report["usable"])
        self.assertIn("socket", self.user.ask(0x0107, [(1, b"one")]).sentence)

    def test_kek_that_does_not_bind_is_found_by_the_check(self):
        def loose(session, number, fields):
            context = example_provider.CONTEXT.get(number)
            return example_provider.answer(session.server.master, number, {tag: value for tag, value in fields.items() if tag != context})
        self.script(loose)
        report = self.user.ask(KMS_CHECK, [(1, b"one")]).json
        context = report["steps"][2]
        self.assertEqual((report["usable"], context["step"], context["done"], context["error"]), (False, "context", False, "KMS_MISCONFIGURED"))
        self.assertIn("does not bind", context["sentence"])
        self.assertEqual([step["step"] for step in report["steps"] if not step["done"]], ["context"])
        described = self.user.ask(KMS_DESCRIBE).json["keks"][0]
        self.assertEqual((described["usable"], described["last_error"]), (False, context["sentence"]))

    def test_reload_while_a_call_is_under_way_harms_neither(self):
        made = self.made(self.user)
        reached, go_on = threading.Event(), threading.Event()

        def late(session, number, fields):
            reached.set()
            go_on.wait()
            return example_provider.answer(session.server.master, number, fields)
        self.script(late)
        request_id = self.user.send(KMS_UNWRAP, [(1, b"one"), (2, made[2]), (3, made[3]), (4, pairs(CONTEXT))])
        reached.wait()
        other = self.client()
        self.assertEqual(other.ask(KMS_RELOAD).number, DONE)
        go_on.set()
        reply = self.user.receive()
        self.assertEqual((reply.request_id, reply.fields[1]), (request_id, made[1]))
        self.assertEqual(self.ask_unwrap(made).fields[1], made[1])

    def test_asker_that_goes_away_in_a_check_stops_it(self):
        reached, go_on = threading.Event(), threading.Event()
        numbers = []

        def late(session, number, fields):
            numbers.append(number)
            reached.set()
            go_on.wait()
            return example_provider.answer(session.server.master, number, fields)
        self.script(late)
        self.user.send(KMS_CHECK, [(1, b"one")])
        reached.wait()
        self.user.socket.sendall(bytes(4))  # no frame: the session ends at once
        self.assertNotEqual(self.user.receive().error, 0)
        self.assertTrue(self.user.is_closed())
        self.user = self.client()
        go_on.set()
        self.assertEqual(len(self.made(self.user)[1]), 32)
        self.assertEqual(numbers, [KMS_GENERATE, KMS_GENERATE])


class Checks(SocketCase):
    """What KMS_CHECK finds out about a KEK that does not do all."""

    def check(self, script, msec=20000):
        self.script(script)
        report = self.user.ask(KMS_CHECK, [(1, b"one"), (2, u32(msec))]).json
        self.assertEqual([step["step"] for step in report["steps"]], ["generate", "unwrap", "context", "wrap", "rewrap"])
        self.assertEqual(report["usable"], all(step["done"] for step in report["steps"]))
        for step in report["steps"]:
            self.assertEqual(step["sentence"] == "", step["done"], step)
        return report["steps"], {step["step"]: step["error"] for step in report["steps"] if not step["done"]}

    @staticmethod
    def refusing(number, error):
        def answer(session, asked, fields):
            if asked == number:
                raise example_provider.Refused(error, "it was refused")
            return example_provider.answer(session.server.master, asked, fields)
        return answer

    def test_each_step_that_is_denied_leaves_the_others_proven(self):
        denied = "KMS_DENIED"
        for number, failed in ((KMS_GENERATE, {"generate": denied}), (KMS_WRAP, {"wrap": denied}), (KMS_REWRAP, {"rewrap": denied}),
                               (KMS_UNWRAP, {"unwrap": denied, "context": ""})):
            steps, found = self.check(self.refusing(number, KMS_DENIED))
            self.assertEqual(found, failed)
            self.assertEqual([step["sentence"] for step in steps if step["error"]], ["it was refused"])
            self.assertFalse(self.user.ask(KMS_DESCRIBE).json["keks"][0]["usable"])
        self.assertEqual(self.check(None)[1], {})
        self.assertTrue(self.user.ask(KMS_DESCRIBE).json["keks"][0]["usable"])

    def test_outage_ends_the_check(self):
        for error, name in ((UNREACHABLE, "KMS_UNREACHABLE"), (THROTTLED, "KMS_THROTTLED"), (CREDENTIALS, "KMS_CREDENTIALS")):
            self.assertEqual(self.check(self.refusing(KMS_UNWRAP, error))[1], {"unwrap": name, "context": "", "wrap": "", "rewrap": ""})

    def test_deadline_ends_the_check_and_what_was_found_out_is_told(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def silent_unwrap(session, asked, fields):
            if asked == KMS_UNWRAP:
                go_on.wait()
                raise ConnectionError
            return example_provider.answer(session.server.master, asked, fields)
        steps, failed = self.check(silent_unwrap, 500)
        self.assertTrue(steps[0]["done"])
        self.assertEqual(failed, {"unwrap": "KMS_UNREACHABLE", "context": "", "wrap": "", "rewrap": ""})

    def test_another_key_than_was_wrapped_is_found(self):
        def other_key(session, asked, fields):
            number, answered = example_provider.answer(session.server.master, asked, fields)
            return number, {1: bytes(32)} if number == KMS_UNWRAPPED else answered
        steps, failed = self.check(other_key)
        self.assertEqual(failed["unwrap"], "KMS_MISCONFIGURED")
        self.assertIn("another key", steps[1]["sentence"])

    def test_rewrap_that_loses_the_key_is_found(self):
        def losing(session, asked, fields):
            if asked == KMS_REWRAP:
                return example_provider.answer(session.server.master, KMS_WRAP, {1: bytes(32), 2: fields[1], 3: fields[4]})
            return example_provider.answer(session.server.master, asked, fields)
        steps, failed = self.check(losing)
        self.assertEqual(failed, {"rewrap": "KMS_MISCONFIGURED"})
        self.assertIn("another key", steps[4]["sentence"])


class Hostile(SocketCase):
    """Each wrong answer ends in the class that it deserves, and the next good one is taken."""

    def setUp(self):
        super().setUp()
        self.key = self.made(self.user)

    def assert_class(self, error, answer, msec=20000, phrase=""):
        self.script(answer)
        reply = self.ask_unwrap(self.key, msec)
        self.assertEqual(reply.error, error, reply.sentence)
        self.assertIn(phrase, reply.sentence)
        self.script(None)
        self.assertEqual(self.ask_unwrap(self.key).fields.get(1), self.key[1])

    def test_answers_that_break_the_protocol_say_that_it_is_misconfigured(self):
        key, kek_id, wrapped = self.key[1], self.key[2], self.key[3]
        for number, fields in ((KMS_UNWRAPPED, {1: key[:31]}), (KMS_UNWRAPPED, {1: key + b"x"}), (KMS_UNWRAPPED, {}), (KMS_WRAPPED, {1: kek_id, 2: wrapped}),
                               (KMS_GENERATED, {1: key, 2: kek_id, 3: wrapped}), (DONE, {}), (REPORT, {1: b"{}"}), (0x7777, {}), (KMS_UNWRAP, {}),
                               (ERROR, {1: b"\0"}), (ERROR, {1: b"\0\0", 2: b"no error at all"})):
            self.assert_class(MISCONFIGURED, lambda session, *_, answer=(number, fields): answer)

    def test_wraps_that_break_the_protocol_say_so_too(self):
        key, kek_id, wrapped = self.key[1], self.key[2], self.key[3]
        for fields in ({1: key, 2: kek_id}, {1: key, 2: b"", 3: wrapped}, {1: key, 2: kek_id, 3: b""}, {1: key, 2: b"x" * 513, 3: wrapped},
                       {1: key, 2: b"\n", 3: wrapped}, {1: key, 2: kek_id, 3: b"x" * 6145}, {1: key[:31], 2: kek_id, 3: wrapped}):
            self.script(lambda session, *_, fields=fields: (KMS_GENERATED, fields))
            self.assertEqual(self.user.ask(KMS_GENERATE, [(1, b"one")]).error, MISCONFIGURED, fields)
        self.script(None)
        self.assertEqual(len(self.made(self.user)[1]), 32)

    def test_garbage_frame_says_that_it_is_misconfigured(self):
        def garbage(text):
            def answer(session, *_):
                session.wfile.write(text)
                raise ConnectionError
            return answer
        for text in (b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(4), b"\xff" * 64, struct.pack(">IHHI", 8, KMS_UNWRAPPED, 1, 1)):
            self.assert_class(MISCONFIGURED, garbage(text), phrase="breaks the protocol")

    def test_end_of_the_connection_is_an_outage(self):
        def cut(text):
            def answer(session, *_):
                session.wfile.write(text)
                raise ConnectionError
            return answer
        for text in (b"", struct.pack(">IHHI", 46, KMS_UNWRAPPED, 0, 1) + b"\0\1"):
            self.assert_class(UNREACHABLE, cut(text), phrase=self.provider_path)

    def test_silence_ends_by_the_deadline_and_is_an_outage(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def silence(session, *_):
            go_on.wait()
            raise ConnectionError
        self.script(silence)
        reply = self.ask_unwrap(self.key, msec=50)
        self.assertEqual((reply.error, reply.sentence), (UNREACHABLE, "the provider did not answer in time"))
        self.script(None)
        go_on.set()
        self.assertEqual(self.ask_unwrap(self.key).fields[1], self.key[1])

    def test_answers_to_nothing_are_passed_over(self):
        def noise(session, number, fields):
            session.wfile.write(example_provider.pack(KMS_UNWRAPPED, 0x7fffffff, {1: bytes(32)}))
            session.wfile.write(example_provider.pack(WELCOME, 1, {1: b"\0\1", 2: b"kms", 4: u32(8192), 5: u32(1)}))
            return example_provider.answer(session.server.master, number, fields)
        self.script(noise)
        self.assertEqual(self.ask_unwrap(self.key).fields[1], self.key[1])

    def test_each_error_has_its_class(self):
        classes = {number: number for number in range(NOT_MINE, MISCONFIGURED + 1)}
        classes |= {QUOTA: THROTTLED, SHUTTING_DOWN: UNREACHABLE, INTERNAL: MISCONFIGURED, DENIED: MISCONFIGURED, UNSUPPORTED: MISCONFIGURED,
                    RECORD_DAMAGED: MISCONFIGURED, 59: MISCONFIGURED, 69: MISCONFIGURED, 65535: MISCONFIGURED}
        for number, error in classes.items():
            refused = example_provider.Refused(number, "for a reason of its own")
            self.assert_class(error, lambda *_, refused=refused: (ERROR, refused.fields), phrase="for a reason of its own")

    def test_provider_that_does_not_serve_this_user_says_so(self):
        self.provider.end()
        self.provider = Provider(self.provider_path)
        self.provider.uids = set()
        reply = self.ask_unwrap(self.key)
        self.assertEqual((reply.error, reply.sentence), (MISCONFIGURED, f"uid {os.geteuid()} is not served"))
        self.provider.uids = {os.geteuid()}
        self.assertEqual(self.ask_unwrap(self.key).fields[1], self.key[1])

    def test_folder_that_others_may_write_to_is_refused(self):
        os.chmod(self.directory, 0o777)
        reply = self.ask_unwrap(self.key)
        self.assertEqual(reply.error, MISCONFIGURED)
        self.assertIn("chmod go-w", reply.sentence)
        os.chmod(self.directory, 0o755)
        self.assertEqual(self.ask_unwrap(self.key).fields[1], self.key[1])

    def test_no_provider_is_an_outage_with_its_path(self):
        self.provider.end()
        os.unlink(self.provider_path)
        with Client(self.socket_path) as fresh:
            self.assertEqual(fresh.ask(PING).number, DONE)
        reply = self.ask_unwrap(self.key)
        self.assertEqual(reply.error, UNREACHABLE)
        self.assertIn(self.provider_path, reply.sentence)
        self.provider = Provider(self.provider_path)
        self.assertEqual(self.ask_unwrap(self.key).fields[1], self.key[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
