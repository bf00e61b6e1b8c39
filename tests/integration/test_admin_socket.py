# SPDX-License-Identifier: Apache-2.0
"""The socket for administrators: what is answered there only, how it comes to lkmd, and how lkmctl finds it."""
import json
import os
import signal
import socket
import stat
import subprocess
import unittest

import support
from cgroups import in_child
from daemons import DaemonCase, nobody
from support import (CREATE, DONE, EVICT, EXPLAIN, GET, HELLO, KEK_CHECK, KEK_DESCRIBE, KEK_POLICY, KEY, LIST, LOCK, PING, REPORT, STATUS, TIMEOUT, UNLOCK,
                     WELCOME, Client, Notify, command, u16)

LKMCTL = os.path.join(support.BUILD, "client/lkmctl")
DENIED = 10
FOR_ADMINISTRATORS = [(STATUS, ()), (LIST, ()), (LOCK, ()), (UNLOCK, ()), (KEK_DESCRIBE, ()), (KEK_CHECK, [(1, b"local")]), (KEK_POLICY, [(1, b"local")]),
                      (EVICT, [(2, b"\0" * 16)])]
# Become lkmd with descriptors handed over as systemd does it: NAMES FD... -- PROGRAM
HAND_OVER = ("import os, sys; names, end = sys.argv[1], sys.argv.index('--'); fds = [os.dup(int(fd)) for fd in sys.argv[2:end]]\n"
             "fds = [os.dup2(os.dup2(fd, 100 + i), 3 + i) for i, fd in enumerate(fds)]\n"
             "os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()), **({'LISTEN_FDNAMES': names} if names else {}))\n"
             "os.execvp(sys.argv[end + 1], sys.argv[end + 1:])")


class AdminCase(DaemonCase):
    admin_line = "admin_socket = {directory}/admin.sock"

    def configure(self, **changes):
        super().configure(**{"lkmd": self.admin_line.format(directory=self.directory), **changes})
        self.admin_socket = self.path("admin.sock")

    def admin(self):
        client = Client(self.admin_socket)
        self.addCleanup(client.socket.close)
        return client

    def listener(self, name):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path(name))
        listener.listen()
        return listener

    def handed_over(self, names, *listeners):
        """lkmd's arguments with @listeners at descriptors 3 and on."""
        return ("python3", "-c", HAND_OVER, names, *(str(each.fileno()) for each in listeners), "--", *command("lkmd", "--config", self.config))

    def start_handed_over(self, names, *listeners):
        self.finish(self.lkmd)
        notify = Notify(self.directory)
        self.lkmd = self.start(self.handed_over(names, *listeners), env={**os.environ, "NOTIFY_SOCKET": notify.path}, stderr=subprocess.PIPE,
                               pass_fds=[each.fileno() for each in listeners])
        notify.wait("READY=1")
        notify.close()
        os.unlink(notify.path)


class Requests(AdminCase):
    def test_what_is_for_administrators_is_answered_on_their_socket_only(self):
        ordinary, admin = self.client(), self.admin()
        for number, fields in FOR_ADMINISTRATORS:
            reply = ordinary.ask(number, fields)
            self.assertEqual(reply.error, DENIED, hex(number))
            self.assertIn(f"answered on {self.admin_socket} only", reply.sentence)
            self.assertNotEqual(admin.ask(number, fields).error, DENIED, hex(number))
        with open(self.path("audit.jsonl")) as log:
            reasons = [line["reason"] for line in map(json.loads, log) if line["event"] == "deny"]
        self.assertEqual(reasons, ["admin socket"] * len(FOR_ADMINISTRATORS))

    def test_every_other_request_is_answered_on_both(self):
        ordinary, admin = self.client(), self.admin()
        for client, other in ((ordinary, admin), (admin, ordinary)):
            record = client.ask(CREATE, [(1, b"medical")]).fields[1]
            self.assertEqual(other.ask(GET, [(1, record)]).number, KEY)
            self.assertEqual(other.ask(EVICT, [(1, record)]).number, REPORT)
            self.assertEqual(other.ask(PING).number, DONE)
            self.assertEqual(other.ask(EXPLAIN, [(1, record)]).number, REPORT)

    def test_the_policy_decides_there_too(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        os.chmod(self.admin_socket, 0o666)

        def ask():
            with Client(self.admin_socket) as client:
                return bytes(client.ask(number, fields).error for number, fields in FOR_ADMINISTRATORS)

        answer = in_child(ask, lambda: (os.setgroups([]), os.setgid(nobody().pw_gid), os.setuid(nobody().pw_uid)))
        self.assertEqual(answer, bytes([DENIED] * len(FOR_ADMINISTRATORS)))

    def test_an_administrator_gets_in_when_there_are_too_many_others(self):
        self.finish(self.lkmd)
        self.configure(lkmd=self.admin_line.format(directory=self.directory) + "\nmax_connections = 4")
        self.lkmd = self.start_ready("lkmd")
        for kept in range(5):
            client = Client(self.socket, greet=False)
            self.addCleanup(client.socket.close)
            try:
                client.send(HELLO, [(1, u16(1)), (2, u16(1))])
            except BrokenPipeError:
                pass  # refused already; the answer is there
            if client.receive().number != WELCOME:
                break
        self.assertLessEqual(kept, 4)
        self.assertEqual(self.admin().ask(STATUS).json["connections"], kept + 1)


class Sockets(AdminCase):
    def test_the_file_is_for_its_owner_alone_and_goes_with_lkmd(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.admin_socket).st_mode), 0o600)
        self.assertEqual(self.admin().ask(STATUS).json["sockets"], {"ordinary": self.socket, "admin": self.admin_socket})
        self.finish(self.lkmd)
        self.assertFalse(os.path.exists(self.admin_socket))

    def test_both_are_taken_over_by_name_in_either_order(self):
        ordinary, admin = self.listener("o"), self.listener("a")
        for names, listeners in (("lkm:lkm-admin", (ordinary, admin)), ("lkm-admin:lkm", (admin, ordinary))):
            self.start_handed_over(names, *listeners)
            with Client(self.path("a")) as client:
                self.assertEqual(client.ask(STATUS).json["sockets"], {"ordinary": self.path("o"), "admin": self.path("a")})
            with Client(self.path("o")) as client:
                self.assertIn(self.path("a"), client.ask(STATUS).sentence)
        self.assertFalse(os.path.exists(self.admin_socket))

    def test_a_single_one_of_any_other_name_is_the_ordinary_one(self):
        for names in ("lkmd.socket", "lkm", ""):
            self.start_handed_over(names, self.listener("o" + names))
            with Client(self.path("o" + names)) as client:
                self.assertEqual(client.ask(STATUS).error, DENIED)
            self.assertEqual(self.admin().ask(STATUS).number, REPORT)

    def test_one_that_is_handed_over_counts_without_a_line_in_the_configuration(self):
        self.configure(lkmd="")
        self.start_handed_over("lkm-admin", self.listener("a"))
        self.assertEqual(self.client().ask(STATUS).error, DENIED)
        with Client(self.path("a")) as client:
            self.assertEqual(client.ask(STATUS).number, REPORT)

    def test_sockets_that_cannot_be_told_apart_are_an_error(self):
        self.finish(self.lkmd)
        a, b = self.listener("a"), self.listener("b")
        for names, phrase in (("lkm:lkm", "same name"), ("", "not known here"), ("lkm:other", "not known here"), ("lkm-admin:lkmd.socket", "not known here")):
            done = subprocess.run(self.handed_over(names, a, b), stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False,
                                  pass_fds=[a.fileno(), b.fileno()])
            self.assertEqual(done.returncode, 1)
            self.assertIn(phrase, done.stderr)
            self.assertIn("FileDescriptorName=", done.stderr)
            self.assertFalse(os.path.exists(self.socket) or os.path.exists(self.admin_socket))

    def test_a_reload_opens_no_other_socket_and_says_so(self):
        self.configure(lkmd="")
        self.lkmd.send_signal(signal.SIGHUP)
        said = b""
        while b" again, " not in said:
            said += self.lkmd.stderr.readline()
        self.assertIn(b"`admin_socket` has changed", said)
        self.assertEqual(self.client().ask(STATUS).error, DENIED)
        self.assertEqual(self.admin().ask(STATUS).number, REPORT)


class Lkmctl(AdminCase):
    def ctl(self, *arguments, **environment):
        clean = {name: value for name, value in os.environ.items() if name not in ("LKM_SOCKET", "LKM_ADMIN_SOCKET", "XDG_RUNTIME_DIR")}
        return subprocess.run([*support.WRAPPER, LKMCTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False,
                              env={**clean, **environment})

    def test_commands_for_administrators_ask_at_their_socket(self):
        both = {"LKM_SOCKET": self.socket, "LKM_ADMIN_SOCKET": self.admin_socket}
        for arguments in (["status"], ["list"], ["lock"], ["unlock"], ["kek", "list"], ["kek", "check", "local"], ["evict", "--id", "0" * 8 + "-0000-4000-8000-" + "0" * 12]):
            self.assertEqual(self.ctl(*arguments, **both).returncode, 0, arguments)
            refused = self.ctl(*arguments, LKM_SOCKET=self.socket)
            self.assertEqual(refused.returncode, 3, arguments)
            self.assertIn(self.admin_socket, refused.stderr)
            self.assertEqual(self.ctl("--socket", self.socket, *arguments, **both).returncode, 3, arguments)
        # Everything else asks where it always did.
        self.assertEqual(self.ctl("ping", LKM_SOCKET=self.socket, LKM_ADMIN_SOCKET="/nowhere").returncode, 0)

    def test_admin_sock_beside_the_default_socket_is_found(self):
        os.mkdir(self.path("run"))
        os.symlink(self.directory, self.path("run/lkm"))
        self.assertEqual(self.ctl("status", XDG_RUNTIME_DIR=self.path("run")).returncode, 0)
        self.assertEqual(self.ctl("status", XDG_RUNTIME_DIR=self.path("run"), LKM_SOCKET=self.socket).returncode, 3)

    @unittest.skipIf(os.getuid() != 0, "becoming another user needs root")
    def test_who_may_not_connect_there_is_told_by_the_ordinary_socket(self):
        os.mkdir(self.path("run"))
        os.symlink(self.directory, self.path("run/lkm"))

        def status():
            return self.ctl("status", XDG_RUNTIME_DIR=self.path("run")).stderr.encode()

        answer = in_child(status, lambda: (os.setgroups([]), os.setgid(nobody().pw_gid), os.setuid(nobody().pw_uid)))
        self.assertIn(b"No rule of the policy allows this", answer)


class Run(AdminCase):
    def test_lkm_run_hands_both_over_and_tells_the_command(self):
        self.finish(self.lkmd)
        self.finish(self.kms)
        script = f'test "$LKM_SOCKET" = {self.socket} && {LKMCTL} status && ! {LKMCTL} --socket "$LKM_SOCKET" status && echo "$LKM_ADMIN_SOCKET"'
        done = self.run_program("lkm-run", "--config", self.config, "--", "sh", "-c", script)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], self.admin_socket)
        self.assertIn(f"{self.admin_socket} only", done.stderr)
        self.assertFalse(os.path.exists(self.admin_socket))

    def test_lkm_run_prints_a_line_for_each_socket(self):
        self.finish(self.lkmd)
        self.finish(self.kms)
        process = self.start(command("lkm-run", "--config", self.config), stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), f"LKM_SOCKET={self.socket}; export LKM_SOCKET\n")
        self.assertEqual(process.stdout.readline(), f"LKM_ADMIN_SOCKET={self.admin_socket}; export LKM_ADMIN_SOCKET\n")
        self.assertEqual(self.admin().ask(STATUS).number, REPORT)


if __name__ == "__main__":
    unittest.main()
