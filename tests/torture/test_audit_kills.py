# SPDX-License-Identifier: Apache-2.0
"""kill -9 of lkmd in the middle of its answers, thousands of times: whoever got a key has a record in the log. With audit_sync = always."""
import collections
import os
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import unittest
import uuid

from torture import LONG, SKIP, each_of
from audit_chain import whole_chain
from support import CREATE, GET, HELLO, KEY, TIMEOUT, Client, command, frame, u16

SEED = 20261126
KILLS = 10000 if LONG else 300
FOLDERS = 4
DATABASES = 6
CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
audit_sync = always
audit_max_size = 256K
cache_keys = 64
log_level = error
admin = uid:{uid}
[kms]
idle_exit = 0
[kek local]
kms_type = local
kek_file = {directory}/kek
[scope medical]
keks = local
allow = uid:{uid}
"""
HELLO_FRAME = frame(HELLO, 1, [(1, u16(1)), (2, u16(1))])
# A shell, because a program that is handed sockets has to know its own number.
HAND_OVER = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


Life = collections.namedtuple("Life", "began ended given")  # CLOCK_BOOTTIME, and the databases whose keys were received


def boottime_usec():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Folder:
    """An lkmd that is killed and started anew; its sockets stay, as systemd's do."""

    def __init__(self, case, number):
        self.directory = tempfile.mkdtemp(prefix="lkm-torture-", dir="/var/tmp")  # on a disk, where a record takes its time
        case.addCleanup(shutil.rmtree, self.directory)
        self.chance = random.Random(f"{SEED} {number}")
        self.config = os.path.join(self.directory, "lkmd.conf")
        with open(self.config, "w") as file:
            file.write(CONFIG.format(directory=self.directory, uid=os.getuid()))
        subprocess.run(command("lkm-kms", "--generate-kek", os.path.join(self.directory, "kek")), check=True, stdout=subprocess.DEVNULL)
        self.socket = os.path.join(self.directory, "lkm.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.socket)
        self.listener.listen(64)
        kms_listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        kms_listener.bind(os.path.join(self.directory, "kms.sock"))
        kms_listener.listen(64)
        self.kms = self.spawn("lkm-kms", kms_listener)
        kms_listener.close()
        case.addCleanup(self.end)
        self.lives = []
        lkmd = self.spawn("lkmd", self.listener)
        with Client(self.socket) as client:
            self.records = [client.ask(CREATE, [(1, b"medical")]).fields[1] for _ in range(DATABASES)]
        lkmd.terminate()
        case.assertEqual(lkmd.wait(TIMEOUT), 0)

    def end(self):
        self.kms.terminate()
        self.kms.wait(TIMEOUT)
        self.listener.close()

    def spawn(self, name, listener):
        return subprocess.Popen(["sh", "-c", HAND_OVER, "sh", *command(name, "--config", self.config)], stdin=listener.fileno())

    def connect(self, record):
        """Ask for a key at once, without waiting for the greeting."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(TIMEOUT)
        client.connect(self.socket)
        client.sendall(HELLO_FRAME + frame(GET, 2, [(1, record)]))
        return client

    @staticmethod
    def received(data):
        """The database ids of the KEYs in @data."""
        at, found = 0, []
        while at + 4 <= len(data):
            n = struct.unpack_from(">I", data, at)[0]
            body = data[at + 4:at + 4 + n]
            if len(body) == n and n >= 8 and struct.unpack_from(">H", body)[0] == KEY:
                fields, i = {}, 8
                while i < n:
                    tag, size = struct.unpack_from(">HI", body, i)
                    fields[tag] = body[i + 6:i + 6 + size]
                    i += 6 + size
                found.append(fields[2])
            at += 4 + n
        return found

    def life(self):
        """Start lkmd, ask for all keys at once, kill it when some have come, and see what came in all."""
        began = boottime_usec()
        lkmd = self.spawn("lkmd", self.listener)
        order = self.chance.sample(self.records, self.chance.randint(1, DATABASES))
        clients = [self.connect(record) for record in order]
        data = [b""] * len(clients)
        n_answered = self.chance.randint(0, len(clients))  # the other ones are under way, at some stage
        for i in range(n_answered):
            data[i] = self.answers(clients[i], 2)
        if n_answered < len(clients) and self.chance.random() < 0.5:
            data[n_answered] = self.answers(clients[n_answered], 1)  # the WELCOME: now lkmd is at work on the next
        lkmd.kill()
        lkmd.wait()
        self.forget_waiting()
        got = []
        for client, start in zip(clients, data):
            got += self.received(start + self.rest(client))
            client.close()
        self.lives.append(Life(began, boottime_usec(), got))

    @staticmethod
    def answers(client, n):
        """What comes until there are @n whole frames."""
        data = b""
        while True:
            at = found = 0
            while at + 4 <= len(data) and at + 4 + struct.unpack_from(">I", data, at)[0] <= len(data):
                at += 4 + struct.unpack_from(">I", data, at)[0]
                found += 1
            if found >= n:
                return data
            more = client.recv(65536)
            if not more:
                raise AssertionError("lkmd ended by itself")
            data += more

    @staticmethod
    def rest(client):
        data = b""
        try:
            while more := client.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data

    def forget_waiting(self):
        """Connections that lkmd did not come to accept are not for the next one."""
        self.listener.setblocking(False)
        try:
            while True:
                self.listener.accept()[0].close()
        except BlockingIOError:
            pass
        self.listener.setblocking(True)

    def judge(self):
        """Return: keys that were received, keys of the log, and those without a record."""
        chain = whole_chain(os.path.join(self.directory, "audit.jsonl"))
        released = chain.of("release")
        lost, n_given, at = [], 0, 0
        for life in self.lives:
            n_given += len(life.given)
            while at < len(released) and released[at]["boottime_usec"] < life.began:
                at += 1
            written = collections.Counter()
            while at < len(released) and released[at]["boottime_usec"] <= life.ended:
                written[released[at]["database_id"]] += 1
                at += 1
            received = collections.Counter(str(uuid.UUID(bytes=given)) for given in life.given)
            lost += [(life, database) for database, n in received.items() if n > written[database]]
        return n_given, len(released), lost


@unittest.skipIf(SKIP, SKIP)
class AuditKills(unittest.TestCase):
    def test_no_key_is_received_without_its_record(self):
        folders = [Folder(self, number) for number in range(FOLDERS)]

        def lives(folder):
            for i in range(KILLS // FOLDERS):
                folder.life()
                if LONG and i % 500 == 499:
                    print(f"{folder.directory}: {i + 1} kills", flush=True)
        each_of(lives, [(folder,) for folder in folders])
        verdicts = [folder.judge() for folder in folders]
        given, released = (sum(verdict[i] for verdict in verdicts) for i in range(2))
        print(f"{KILLS} kills, {given} keys received, {released} released in the log, seed {SEED}", flush=True)
        self.assertEqual([lost for verdict in verdicts for lost in verdict[2]], [])
        # It was killed at the right moments: often with keys on their way, and often between a record and its answer.
        self.assertGreater(given, KILLS)
        self.assertGreater(released, given)


if __name__ == "__main__":
    unittest.main()
