# SPDX-License-Identifier: Apache-2.0
"""What lkmd asks of the kernel once it is in its sandbox: all of it is on the list of the sandbox, and no more than is used."""
import os
import re
import shutil
import signal
import struct
import subprocess
import unittest

from daemons import DaemonCase
from support import BUILD, CHECK, CREATE, EVICT, EXPLAIN, GET, LIST, LOCK, PING, STATUS, UNCONFINED, UNLOCK, Client, frame

# "123 openat(AT_FDCWD, ..." or "<... read resumed>" of strace -f; lines on signals and ends begin otherwise.
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed>)(.*)")
# What a reload opens: the configuration, the audit log, and the names of users and groups. What a new connection opens: the unit of its peer. At the end of the
# start: what is in force. No request opens anything.
READS = re.compile(r"(^/proc/self/fdinfo/[0-9]+|^/proc/[0-9]+/cgroup|/lkmd\.conf(\.d(/.*)?)?|/audit\.jsonl|^/etc/(passwd|group)|^/proc/self/status)$")


def can_trace():
    return shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL,
                                                     check=False).returncode == 0


@unittest.skipIf(os.getuid() != 0, "reading what a process that allows no tracing hands to the kernel needs root")
@unittest.skipUnless(can_trace(), "strace is not there, or may not trace")
@unittest.skipIf(UNCONFINED, "only the program as shipped is looked at")
class Syscalls(DaemonCase):
    def start_ready(self, name, prefix=()):
        traced = ("strace", "-f", "-qq", "-s", "256", "-o", self.path("trace"))
        return super().start_ready(name, traced if name == "lkmd" else prefix)

    def configure(self, **changes):
        super().configure(**changes)
        os.mkdir(self.config + ".d")
        self.write("lkmd.conf.d/log.conf", "[lkmd]\nlog_level = info\nadmin = user:root uid:" + str(os.getuid()) + "\n")

    def lkmd_pid(self):
        return int(self.status(self.client())["pid"])

    def full_job(self):
        """Everything that lkmd does, good and bad."""
        client = self.client()
        path_like = b"/etc/shadow"
        client.ask(CREATE, [(1, b"medical"), (2, path_like)])
        record = self.create(client)
        for _ in range(2):
            self.get(client, record)
        self.get(client, record[:-20] + b"x" * 20)
        for number, fields in ((PING, ()), (STATUS, ()), (LIST, ()), (CHECK, [(1, record)]), (EXPLAIN, [(2, b"medical")]), (LOCK, ()),
                               (UNLOCK, ()), (GET, [(1, record)]), (EVICT, [(1, record)]), (CREATE, [(1, path_like)])):
            client.ask(number, fields)
        many = [self.create(client) for _ in range(40)]
        for each in many:
            client.send(GET, [(1, each)])
        for _ in many:
            client.receive()
        gone = Client(self.socket)
        gone.send(GET, [(1, record)])
        gone.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: goes away with its answer unread
        gone.socket.close()
        hostile = Client(self.socket)
        hostile.socket.sendall(frame(0x7777, 1) + b"\0\0\0\1\xff")
        self.assertTrue(self.ended(hostile))
        hostile.socket.close()
        large = Client(self.socket)
        large.socket.sendall(frame(GET, 1, [(1, b"{" + b" " * 60000)]))
        large.receive()
        large.socket.close()

    @staticmethod
    def ended(client):
        try:
            while client.socket.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True

    def signals(self, pid):
        log = self.lkmd.stderr
        for number, said in ((signal.SIGHUP, b" again, "), (signal.SIGUSR1, b"SIGUSR1")):
            os.kill(pid, number)
            line = b""
            while said not in line:
                line = log.readline()
                self.assertTrue(line, f"lkmd has ended: {self.lkmd.poll()}")
        client = self.client()
        self.finish(self.kms)  # the KMS goes away, and comes back
        client.send(GET, [(1, self.record)])
        self.kms = self.start_ready("lkm-kms")
        client.receive()

    def trace(self):
        self.record = self.create(self.client())
        pid = self.lkmd_pid()
        self.full_job()
        self.signals(pid)
        os.kill(pid, signal.SIGTERM)
        self.lkmd.wait()
        with open(self.path("trace")) as trace:
            lines = trace.read().split("\n")
        # A call of two threads at once is told in two lines.
        inside = max(i for i, line in enumerate(lines) if "SECCOMP_SET_MODE_FILTER" in line or "<... seccomp resumed>" in line)
        return [match.groups() for match in map(CALL.match, lines[inside + 1:]) if match]

    def test_every_call_in_the_sandbox_is_on_the_list(self):
        calls = self.trace()
        seen = {name for name, _ in calls}
        allowed, rare = set(), set()
        for line in subprocess.check_output([os.path.join(BUILD, "tests/integration/sandbox-helper"), "list"], text=True).splitlines():
            _, name, when = line.split()
            (rare if when == "rare" else allowed).add(name)
        self.assertEqual(seen - allowed - rare, set(), "not on the list")
        self.assertEqual(allowed - seen, set(), "on the list, but not used")
        print(f"{len(calls)} calls, {len(seen)} different ones")
        for name, arguments in calls:
            if arguments.lstrip().startswith((")", ",")):
                continue  # the end of a call that another thread's came between; its begin was seen
            if name in ("socket", "socketpair"):
                self.assertTrue(arguments.startswith("AF_UNIX"), arguments)
            if name == "openat":
                path = re.search(r'"([^"]*)"', arguments).group(1)
                self.assertTrue(READS.search(path), path)
        self.assertFalse({"execve", "execveat", "fork", "vfork", "clone", "clone3"} & seen)
        # What a client names reaches the kernel in reads and writes only.
        self.assertEqual({name for name, arguments in calls if "/etc/shadow" in arguments} - {"recvfrom", "sendto", "sendmsg", "write"}, set())


if __name__ == "__main__":
    unittest.main()
