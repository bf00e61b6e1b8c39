# SPDX-License-Identifier: Apache-2.0
"""A case with lkmd and lkm-kms running on a configuration of its own."""
import os
import pwd
import struct
import subprocess

from support import BUILD, CREATE, EVICT, GET, KEY, RECORD, STATUS, Case, Client, Notify, command, u16, u32

CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
cache_keys = 2048
kms_timeout = 30s
admin = uid:{uid}
{lkmd}
[kms]
idle_exit = 0
[kek local]
kms_type = local
kek_file = {directory}/kek
[kek other]
kms_type = local
kek_file = {directory}/other-kek
[scope medical]
keks = local
encryption_context = purpose=test
allow = uid:{uid}
{scope}
[scope billing]
keks = other
allow = uid:{uid}
[scope closed]
keks = local
"""


class DaemonCase(Case):
    lkmd_options = ""
    scope_options = ""

    def setUp(self):
        super().setUp()
        for kek in ("kek", "other-kek"):
            self.assertEqual(self.run_program("lkm-kms", "--generate-kek", self.path(kek)).returncode, 0)
        self.configure()
        self.kms = self.start_ready("lkm-kms")
        self.lkmd = self.start_ready("lkmd")
        self.socket = self.path("lkm.sock")

    def configure(self, **changes):
        values = {"directory": self.directory, "uid": os.getuid(), "lkmd": self.lkmd_options, "scope": self.scope_options, **changes}
        self.config = self.write("lkmd.conf", CONFIG.format(**values))

    def start_ready(self, name, prefix=()):
        notify = Notify(self.directory)
        process = self.start([*prefix, *command(name, "--config", self.config)],
                             env={**os.environ, "NOTIFY_SOCKET": notify.path}, stderr=subprocess.PIPE)
        notify.wait("READY=1")
        notify.close()
        os.unlink(notify.path)
        return process

    def client(self):
        client = Client(self.socket)
        self.addCleanup(client.socket.close)
        return client

    def create(self, client, scope=b"medical"):
        reply = client.ask(CREATE, [(1, scope), (2, b"sqlcipher"), (3, b"\4"), (4, u32(4096))])
        self.assertEqual(reply.number, RECORD, reply.sentence)
        return reply.fields[1]

    def get(self, client, record):
        """The key, or the ERROR."""
        reply = client.ask(GET, [(1, record)])
        return reply.fields[1] if reply.number == KEY else reply

    def evict(self, client, record):
        return client.ask(EVICT, [(1, record)])

    def status(self, client):
        return client.ask(STATUS).json


class MovedClock:
    """The clocks of a daemon, moved by the test: prefix() goes before its command. Not with sanitizers: fake-clock must be the first library."""

    def __init__(self, path):
        self.path = path
        self.boottime = self.wall = 0
        self.move()

    def move(self, boottime_seconds=0, wall_seconds=0):
        self.boottime += int(boottime_seconds * 1000000)
        self.wall += int(wall_seconds * 1000000)
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as clock:
            clock.write(struct.pack("=qq", self.boottime, self.wall))

    def prefix(self):
        return ("env", f"LD_PRELOAD={BUILD}/tests/integration/libfake-clock.so", f"FAKE_CLOCK={self.path}")


def nobody():
    return pwd.getpwnam("nobody")
