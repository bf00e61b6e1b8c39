# SPDX-License-Identifier: Apache-2.0
"""lkm-kms alone, spoken to as lkmd does."""
import os
import signal
import socket
import struct
import subprocess
import sys
import unittest

from support import (DONE, GET, HELLO, KMS_DESCRIBE, KMS_GENERATE, KMS_GENERATED, KMS_RELOAD, KMS_REWRAP, KMS_UNWRAP,
                     KMS_UNWRAPPED, KMS_WRAP, KMS_WRAPPED, PING, TIMEOUT, WELCOME, Case, Client, Notify, command, frame, pairs, u16)

PROTOCOL, VERSION, UNSUPPORTED, DENIED = 1, 2, 3, 10
NOT_MINE, CORRUPT, NOT_FOUND, MISCONFIGURED = 60, 65, 67, 68
CONTEXT = {"lkm:database": "1", "purpose": "test"}


class KmsCase(Case):
    def setUp(self):
        super().setUp()
        self.socket_path = self.path("kms.sock")
        self.config_path = self.path("lkmd.conf")
        self.kek_path = self.generate("one.kek")
        self.configure(one=self.kek_path)

    def generate(self, name):
        done = self.run_program("lkm-kms", "--generate-kek", self.path(name))
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.path(name)

    def configure(self, idle_exit="0", **keks):
        text = f"[lkmd]\nkms_socket = {self.socket_path}\n[kms]\nidle_exit = {idle_exit}\n"
        for name, path in keks.items():
            text += f"[kek {name}]\nkms_type = local\nkek_file = {path}\n"
        text += f"[scope s]\nkeks = {', '.join(keks)}\n"
        self.write("lkmd.conf", text)

    def listen(self, mode=0o600):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.socket_path)
        os.chmod(self.socket_path, mode)
        listener.listen()
        self.addCleanup(listener.close)
        return listener

    def serve(self, listener=None, **options):
        """Start lkm-kms with a socket handed over."""
        return self.start(command("lkm-kms", "--config", self.config_path), listener or self.listen(), **options)

    def serve_by_own_bind(self, **options):
        """Start lkm-kms so that it binds by itself; return when it is ready."""
        notify = Notify(self.directory)
        self.addCleanup(notify.close)
        process = self.start(command("lkm-kms", "--config", self.config_path), env=dict(os.environ, NOTIFY_SOCKET=notify.path), **options)
        notify.wait("READY=1")
        process.notify = notify
        return process

    def client(self, greet=True):
        client = Client(self.socket_path, greet)
        self.addCleanup(client.socket.close)
        return client

    def made(self, client, kek="one", context=None):
        reply = client.ask(KMS_GENERATE, [(1, kek.encode()), (2, pairs(context or CONTEXT))])
        self.assertEqual(reply.number, KMS_GENERATED, reply.sentence)
        return reply.fields

    @staticmethod
    def unwrap(client, kek_id, wrapped, kek="one", context=None):
        return client.ask(KMS_UNWRAP, [(1, kek.encode()), (2, kek_id), (3, wrapped), (4, pairs(context or CONTEXT))])


class Operations(KmsCase):
    def test_key_unwraps_wraps_and_rewraps(self):
        self.serve()
        client = self.client()
        made = self.made(client)
        self.assertEqual(len(made[1]), 32)
        self.assertTrue(made[2].startswith(b"local:"))
        unwrapped = self.unwrap(client, made[2], made[3])
        self.assertEqual((unwrapped.number, unwrapped.fields[1]), (KMS_UNWRAPPED, made[1]))
        wrapped = client.ask(KMS_WRAP, [(1, made[1]), (2, b"one"), (3, pairs(CONTEXT))])
        self.assertEqual((wrapped.number, wrapped.fields[1]), (KMS_WRAPPED, made[2]))
        self.assertEqual(self.unwrap(client, made[2], wrapped.fields[2]).fields[1], made[1])
        rewrapped = client.ask(KMS_REWRAP, [(1, b"one"), (2, made[2]), (3, made[3]), (4, pairs(CONTEXT))])
        self.assertEqual(rewrapped.number, KMS_WRAPPED)
        self.assertEqual(self.unwrap(client, made[2], rewrapped.fields[2]).fields[1], made[1])

    def test_each_refusal_has_its_own_error(self):
        self.configure(one=self.kek_path, two=self.generate("two.kek"))
        self.serve()
        client = self.client()
        made = self.made(client)
        self.assertEqual(self.unwrap(client, made[2], made[3], context={"lkm:database": "2", "purpose": "test"}).error, CORRUPT)
        self.assertEqual(self.unwrap(client, made[2], made[3][:-1] + bytes([made[3][-1] ^ 1])).error, CORRUPT)
        self.assertEqual(self.unwrap(client, made[2], made[3], kek="two").error, NOT_MINE)
        self.assertEqual(self.unwrap(client, made[2], made[3], kek="three").error, NOT_FOUND)
        self.assertEqual(client.ask(PING).number, DONE)

    def test_pipelined_requests_are_all_answered(self):
        self.serve()
        client = self.client(greet=False)
        client.socket.sendall(b"".join([frame(HELLO, 1, [(1, u16(1)), (2, u16(1))])] +
                                       [frame(KMS_GENERATE, i, [(1, b"one")]) for i in range(2, 102)]))
        replies = [client.receive() for _ in range(101)]
        self.assertEqual(sorted(r.request_id for r in replies), list(range(1, 102)))
        self.assertEqual({r.number for r in replies}, {WELCOME, KMS_GENERATED})
        self.assertEqual(len({r.fields[1] for r in replies if r.number == KMS_GENERATED}), 100)

    def test_peer_that_does_not_read_loses_nothing(self):
        self.serve()
        client = self.client()
        requests = [frame(KMS_GENERATE, i, [(1, b"one")]) for i in range(5000)]
        sender = os.fork()
        if sender == 0:
            client.socket.sendall(b"".join(requests))
            os._exit(0)
        other = self.client() # while the first one's answers fill its socket
        self.assertEqual(other.ask(PING).number, DONE)
        self.assertEqual({client.receive().number for _ in requests}, {KMS_GENERATED})
        os.waitpid(sender, 0)

    def test_describe_tells_each_kek(self):
        self.configure(one=self.kek_path, two=self.path("missing.kek"))
        self.serve(stderr=subprocess.DEVNULL)
        client = self.client()
        keks = client.ask(KMS_DESCRIBE).json["keks"]
        self.assertEqual([(k["name"], k["type"], k["usable"], k["version"]) for k in keks],
                         [("one", "local", True, 1), ("two", "local", False, 0)])
        self.assertEqual(self.made(client)[2].decode(), keks[0]["kek_id"])
        self.assertIn("--generate-kek", keks[1]["error"])
        self.assertRegex(keks[0]["since"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual([k["name"] for k in client.ask(KMS_DESCRIBE, [(1, b"two")]).json["keks"]], ["two"])
        self.assertEqual(client.ask(KMS_DESCRIBE, [(1, b"three")]).error, NOT_FOUND)


class Protocol(KmsCase):
    def setUp(self):
        super().setUp()
        self.serve()

    def test_hello_must_come_first(self):
        client = self.client(greet=False)
        self.assertEqual(client.ask(PING).error, PROTOCOL)
        self.assertTrue(client.is_closed())

    def test_versions_without_overlap_are_refused(self):
        client = self.client(greet=False)
        self.assertEqual(client.ask(HELLO, [(1, u16(2)), (2, u16(9))]).error, VERSION)
        self.assertTrue(client.is_closed())

    def test_requests_of_the_other_protocol_and_unknown_ones_are_unsupported(self):
        client = self.client()
        self.assertEqual(client.ask(GET, [(1, b"{}")]).error, UNSUPPORTED)
        self.assertEqual(client.ask(0x0777).error, UNSUPPORTED)
        self.assertEqual(client.ask(PING).number, DONE)

    def test_broken_frames_end_the_connection(self):
        good = frame(PING, 2)
        cases = [struct.pack(">I", 0), struct.pack(">I", 0xffffffff), good[:6] + b"\0\1" + good[8:],
                 frame(KMS_UNWRAP, 3, [(1, b"one")]), frame(KMS_GENERATE, 3, [(1, b"x" * 65)]),
                 frame(KMS_GENERATE, 3, [(1, b"one"), (2, b"\0\2\0")]), frame(KMS_WRAP, 3, [(1, b"x" * 31), (2, b"one")])]
        for case in cases:
            client = self.client()
            client.socket.sendall(case)
            self.assertEqual(client.receive().error, PROTOCOL, case)
            self.assertTrue(client.is_closed())
        self.assertEqual(self.client().ask(PING).number, DONE)


class Access(KmsCase):
    @unittest.skipIf(os.geteuid() != 0, "needs root to become another user")
    def test_other_uid_is_refused(self):
        self.serve(self.listen(0o666), stderr=subprocess.DEVNULL)
        code = ("import os, sys; sys.path.insert(0, sys.argv[2]); import support; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
                "c = support.Client(sys.argv[1], False); print(c.receive().error, c.is_closed())")
        done = subprocess.run([sys.executable, "-c", code, self.socket_path, os.path.dirname(os.path.abspath(__file__))],
                              stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"))
        self.assertEqual(done.stdout.split(), [str(DENIED), "True"])
        self.assertEqual(self.client().ask(PING).number, DONE)

    def serve_client(self, user):
        """Serve one user alone, on a socket that everybody can reach."""
        return self.start(command("lkm-kms", "--config", self.config_path, "--client", user), self.listen(0o666), stderr=subprocess.PIPE, text=True)

    def asked_by_nobody(self):
        """What uid 65534 is told: the error of HELLO, 0 for none."""
        code = ("import os, sys; sys.path.insert(0, sys.argv[2]); import support; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
                "c = support.Client(sys.argv[1], False); print(c.ask(support.HELLO, [(1, support.u16(1)), (2, support.u16(1))]).error)")
        done = subprocess.run([sys.executable, "-c", code, self.socket_path, os.path.dirname(os.path.abspath(__file__))],
                              stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"))
        return int(done.stdout)

    def test_client_is_served_alone_whoever_else_asks(self):
        process = self.serve_client(str(os.getuid() + 1)) # not even root, nor the user that lkm-kms runs as
        client = self.client(greet=False)
        self.assertEqual(client.receive().error, DENIED)
        self.assertTrue(client.is_closed())
        process.terminate()
        self.assertIn(f"refused a connection of uid {os.getuid()}: --client says that only uid {os.getuid() + 1} is served", process.communicate(timeout=TIMEOUT)[1])

    @unittest.skipIf(os.geteuid() != 0, "needs root to become another user")
    def test_client_by_name_is_served_and_root_is_not(self):
        self.serve_client("nobody")
        self.assertEqual(self.asked_by_nobody(), 0)
        self.assertEqual(self.client(greet=False).receive().error, DENIED)

    def test_client_of_own_uid_is_served(self):
        self.serve_client(str(os.getuid()))
        self.assertEqual(self.client().ask(PING).number, DONE)

    def test_client_that_is_no_user_is_an_error(self):
        for user in ("no-such-user", "", "-1", "4294967295", "12x"):
            done = self.run_program("lkm-kms", "--config", self.config_path, "--client=" + user)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"there is no user {user}: let --client name the user that lkmd runs as", done.stderr)

    def test_own_socket_is_for_its_owner_only(self):
        self.serve_by_own_bind()
        self.assertEqual(os.stat(self.socket_path).st_mode & 0o777, 0o600)

    def test_loose_kek_file_is_unusable_and_the_others_work(self):
        loose = self.generate("two.kek")
        os.chmod(loose, 0o640)
        self.configure(one=self.kek_path, two=loose)
        checked = self.run_program("lkm-kms", "--config", self.config_path, "--check-config")
        self.assertEqual(checked.returncode, 1)
        self.assertIn(f"chmod 600 {loose}", checked.stderr)
        self.serve(stderr=subprocess.DEVNULL)
        client = self.client()
        refused = client.ask(KMS_GENERATE, [(1, b"two")])
        self.assertEqual(refused.error, MISCONFIGURED)
        self.assertIn(f"chmod 600 {loose}", refused.sentence)
        self.made(client, "one")
        os.chmod(loose, 0o600) # and that is all that has to be done
        self.made(client, "two")


class Life(KmsCase):
    def test_watchdog_of_the_service_manager_is_answered(self):
        notify = Notify(self.directory)
        self.addCleanup(notify.close)
        self.start(command("lkm-kms", "--config", self.config_path), self.listen(), env=dict(os.environ, NOTIFY_SOCKET=notify.path, WATCHDOG_USEC="20000"))
        notify.wait("READY=1")
        for _ in range(3):
            notify.wait("WATCHDOG=1")

    def test_credential_is_found_under_each_name_that_the_service_manager_gives(self):
        folder = self.path("credentials")
        os.mkdir(folder, 0o700)
        for name in ("one", "lkm.one", "lkm_one", "lkm_encrypted_one"):
            os.rename(self.generate(name), os.path.join(folder, name))
            self.write("lkmd.conf", "[kek one]\nkms_type = local\nkek_credential = one\n[scope s]\nkeks = one\n")
            done = self.run_program("lkm-kms", "--config", self.config_path, "--check-config", env=dict(os.environ, CREDENTIALS_DIRECTORY=folder))
            self.assertEqual(done.returncode, 0, done.stderr)
            os.unlink(os.path.join(folder, name))
        done = self.run_program("lkm-kms", "--config", self.config_path, "--check-config", env=dict(os.environ, CREDENTIALS_DIRECTORY=folder))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{folder}/one", done.stderr)

    def test_ends_when_idle_though_lkmd_stays_connected(self):
        self.configure(idle_exit="50ms", one=self.kek_path)
        listener = self.listen()
        process = self.serve(listener, stderr=subprocess.DEVNULL)
        client = self.client()
        self.assertEqual(client.ask(PING).number, DONE)
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertTrue(client.is_closed())
        self.serve(listener, stderr=subprocess.DEVNULL)
        self.assertEqual(self.client().ask(PING).number, DONE)

    def test_sigterm_ends_with_status_0_and_removes_the_own_socket(self):
        process = self.serve_by_own_bind()
        client = self.client()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertTrue(client.is_closed())
        self.assertFalse(os.path.exists(self.socket_path))

    def test_socket_handed_over_stays(self):
        process = self.serve()
        self.client()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertTrue(os.path.exists(self.socket_path))

    def test_stale_socket_is_replaced_and_a_living_one_is_not(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
            stale.bind(self.socket_path)
        self.serve_by_own_bind()
        second = self.run_program("lkm-kms", "--config", self.config_path)
        self.assertEqual(second.returncode, 1)
        self.assertIn("another lkm-kms serves it", second.stderr)
        self.assertEqual(self.client().ask(PING).number, DONE)

    def test_new_kek_version_wraps_after_reload(self):
        process = self.serve_by_own_bind(stderr=subprocess.DEVNULL)
        client = self.client()
        made = self.made(client)
        self.assertEqual(made[3][1:5], struct.pack(">I", 1))
        for version, reload in ((2, "request"), (3, "signal")):
            self.assertEqual(self.run_program("lkm-kms", "--add-kek-version", self.kek_path).returncode, 0)
            if reload == "request":
                self.assertEqual(client.ask(KMS_RELOAD).number, DONE)
            else:
                process.send_signal(signal.SIGHUP)
                process.notify.wait("READY=1")
            self.assertEqual(self.made(client)[3][1:5], struct.pack(">I", version))
            self.assertEqual(self.unwrap(client, made[2], made[3]).fields[1], made[1])

    def test_bad_reload_keeps_the_old(self):
        process = self.serve_by_own_bind(stderr=subprocess.DEVNULL)
        client = self.client()
        made = self.made(client)
        good = self.read(self.config_path)

        self.write("lkmd.conf", good + "[nonsense]\nx = 1\n")
        reply = client.ask(KMS_RELOAD)
        self.assertEqual(reply.error, MISCONFIGURED)
        self.assertIn("lkmd.conf:", reply.sentence)
        process.send_signal(signal.SIGHUP)
        self.assertIn("Reload failed", process.notify.wait("READY=1"))

        self.write("lkmd.conf", good)
        os.chmod(self.kek_path, 0o644)
        self.assertIn("chmod 600", client.ask(KMS_RELOAD).sentence)
        self.assertEqual(self.unwrap(client, made[2], made[3]).fields[1], made[1])


class Commands(KmsCase):
    def test_generate_never_overwrites(self):
        before = self.read(self.kek_path)
        done = self.run_program("lkm-kms", "--generate-kek", self.kek_path)
        self.assertEqual(done.returncode, 1)
        self.assertIn("exists", done.stderr)
        self.assertEqual(self.read(self.kek_path), before)
        self.assertEqual(os.stat(self.kek_path).st_mode & 0o7777, 0o600)

    def test_check_config_of_a_good_configuration_says_so(self):
        done = self.run_program("lkm-kms", "--config", self.config_path, "--check-config")
        self.assertEqual((done.returncode, done.stdout), (0, f"{self.config_path}: 1 KEK, all usable\n"), done.stderr)

    def test_bad_options_are_refused(self):
        self.assertEqual(self.run_program("lkm-kms", "--nonsense").returncode, 2)
        self.assertEqual(self.run_program("lkm-kms", "argument").returncode, 2)
        self.assertEqual(self.run_program("lkm-kms", "--check-config", "--generate-kek", "x").returncode, 2)
        self.assertIn("lkm-kms ", self.run_program("lkm-kms", "--version").stdout)
        self.assertIn("--add-kek-version", self.run_program("lkm-kms", "--help").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
