# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: the frame protocol, and starting the programs. Nothing here waits for a time: it
waits for bytes, for READY=1, or for the end of a process; TIMEOUT only ends a test that hangs."""
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ.get("LKM_BUILD_DIR", os.path.join(os.path.dirname(__file__), "../../build"))
WRAPPER = shlex.split(os.environ.get("LKM_TEST_WRAPPER", ""))
TIMEOUT = 120

# Message numbers, from proto/messages.def.
HELLO, PING, WELCOME, ERROR, DONE, REPORT = 0x0001, 0x0002, 0x8001, 0x8000, 0x8002, 0x8020
CREATE, RECORD, GET, KEY, STATUS, LOCK, UNLOCK = 0x0010, 0x8010, 0x0011, 0x8011, 0x0020, 0x0022, 0x0023
UPGRADE, CHECK, EVICT, EXPLAIN, LIST = 0x0012, 0x0013, 0x0014, 0x0015, 0x0021
KMS_GENERATE, KMS_UNWRAP, KMS_WRAP, KMS_REWRAP, KMS_DESCRIBE, KMS_RELOAD = 0x0100, 0x0101, 0x0102, 0x0103, 0x0104, 0x0105
KMS_GENERATED, KMS_UNWRAPPED, KMS_WRAPPED, KMS_CHECK, KMS_POLICY = 0x8100, 0x8101, 0x8102, 0x0106, 0x0107
ROTATE, COMMIT, ABORT, IMPORT, PURGE, REWRAP, REKEK = 0x0016, 0x0017, 0x0018, 0x0019, 0x001a, 0x001b, 0x001c
KEK_DESCRIBE, KEK_CHECK, KEK_POLICY = 0x0024, 0x0025, 0x0026


def not_under_valgrind():
    """For setUpModule(): what forks, or ends waits of other processes, and that many times."""
    if "valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""):
        raise unittest.SkipTest("too slow there for the deadlines of others; test_rekey, test_rotate_protocol and the unit tests look at the memory of rotation")


def can_unshare_mounts():
    """Not in a chroot, whose root is no mount point."""
    return subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


# The sandbox of lkmd leaves too little to these: they get the same lkmd without one, from tests/unconfined.
UNCONFINED = bool(os.environ.get("LKM_SANITIZED") or os.environ.get("LKM_COVERAGE") or "valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""))


def program(name):
    if UNCONFINED and name in ("lkmd", "lkm-run"):
        return os.path.join(BUILD, "tests/unconfined", name)
    return os.path.join(BUILD, {"lkmd": "daemon", "lkm-kms": "daemon/kms", "lkm-run": "daemon/run"}[name], name)


def command(name, *arguments):
    return WRAPPER + [program(name), *arguments]


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n)


def pairs(context):
    """The value of a PAIRS field."""
    out = u16(len(context))
    for key, value in sorted((k.encode(), v.encode()) for k, v in context.items()):
        out += u16(len(key)) + key + u16(len(value)) + value
    return out


def frame(number, request_id, fields=()):
    """@fields: (tag, bytes), tags ascending."""
    body = struct.pack(">HHI", number, 0, request_id)
    for tag, value in fields:
        body += struct.pack(">HI", tag, len(value)) + value
    return u32(len(body)) + body


class Reply:
    def __init__(self, data):
        self.number, _, self.request_id = struct.unpack_from(">HHI", data)
        self.fields = {}
        at = 8
        while at < len(data):
            tag, n = struct.unpack_from(">HI", data, at)
            self.fields[tag] = data[at + 6:at + 6 + n]
            at += 6 + n

    @property
    def error(self):
        return struct.unpack(">H", self.fields[1])[0] if self.number == ERROR else 0

    @property
    def sentence(self):
        return self.fields[2].decode() if self.number == ERROR else ""

    @property
    def json(self):
        return json.loads(self.fields[1])


class Client:
    """One connection. @greet: send HELLO and take the WELCOME."""

    def __init__(self, path, greet=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(path)
        self.next_id = 1
        if greet:
            self.welcome = self.ask(HELLO, [(1, u16(1)), (2, u16(1))])
            assert self.welcome.number == WELCOME, self.welcome.sentence

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, number, fields=()):
        self.next_id += 1
        self.socket.sendall(frame(number, self.next_id, fields))
        return self.next_id

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self):
        return Reply(self.read(struct.unpack(">I", self.read(4))[0]))

    def ask(self, number, fields=()):
        request_id = self.send(number, fields)
        reply = self.receive()
        assert reply.request_id in (request_id, 0)
        return reply

    def is_closed(self):
        """Whether the server ends the connection, waited for."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class Notify:
    """The receiving end of sd_notify(3)."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(TIMEOUT)
        self.socket.bind(self.path)

    def wait(self, line):
        while True:
            text = self.socket.recv(4096).decode()
            if line in text.split("\n"):
                return text

    def close(self):
        self.socket.close()


HAND_OVER = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
             "os.execvp(sys.argv[2], sys.argv[2:])")


def start(arguments, listener=None, **options):
    """Start a program; @listener is handed over as systemd does it."""
    if listener is not None:
        arguments = [sys.executable, "-c", HAND_OVER, str(listener.fileno()), *arguments]
        options["pass_fds"] = (listener.fileno(),)
    return subprocess.Popen(arguments, **options)


class Case(unittest.TestCase):
    """A test with its own directory, and processes that end with it."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lkm-test-")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    @staticmethod
    def read(path):
        with open(path) as file:
            return file.read()

    def start(self, *arguments, **options):
        process = start(*arguments, **options)
        self.addCleanup(self.finish, process)
        return process

    @staticmethod
    def finish(process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()

    def run_program(self, name, *arguments, **options):
        return subprocess.run(command(name, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                              **options)
