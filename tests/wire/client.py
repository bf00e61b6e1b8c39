# SPDX-License-Identifier: Apache-2.0
"""A client of lkmd in the standard library of Python, written from PROTOCOL.md alone.

    client.py SOCKET ping | create DATABASE [SCOPE] | get DATABASE | check DATABASE
"""
import os
import socket
import struct
import sys

HELLO, PING, CREATE, GET, UPGRADE, CHECK = 0x0001, 0x0002, 0x0010, 0x0011, 0x0012, 0x0013
ERROR, WELCOME, DONE, RECORD, KEY, REPORT = 0x8000, 0x8001, 0x8002, 0x8010, 0x8011, 0x8020
RECORD_OUTDATED = 23


class Refused(Exception):
    def __init__(self, code, sentence):
        super().__init__(f"{sentence} (error {code})")
        self.code = code


class Lkm:
    """A session. Requests are answered one by one; a pipelining client would keep a table by request id."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.request_id = 0
        welcome = self.ask(HELLO, WELCOME, {1: struct.pack(">H", 1), 2: struct.pack(">H", 1), 3: b"client.py"})
        self.features = welcome[2].decode().split(" ")

    def close(self):
        self.socket.close()

    def send(self, number, fields):
        self.request_id += 1
        body = struct.pack(">HHI", number, 0, self.request_id)
        for tag, value in sorted(fields.items()):
            body += struct.pack(">HI", tag, len(value)) + value
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def read(self, n):
        data = bytearray()
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise ConnectionError("lkmd closed the connection")
            data += more
        return bytes(data)

    def receive(self):
        (length,) = struct.unpack(">I", self.read(4))
        body = self.read(length)
        number, _, request_id = struct.unpack_from(">HHI", body)
        fields, at = {}, 8
        while at < length:
            tag, n = struct.unpack_from(">HI", body, at)
            fields[tag] = body[at + 6:at + 6 + n]
            at += 6 + n
        return number, request_id, fields

    def ask(self, number, wanted, fields):
        self.send(number, fields)
        answer, request_id, fields = self.receive()
        if answer == ERROR:
            raise Refused(struct.unpack(">H", fields[1])[0], fields[2].decode())
        if answer != wanted or request_id != self.request_id:
            raise ConnectionError("an answer to another question")
        return fields

    def ping(self):
        self.ask(PING, DONE, {})

    def create(self, database, scope=None):
        """A record for a new database, stored before its key is asked for."""
        for path in (database, database + "-wal", database + "-journal", database + ".key"):
            if os.path.lexists(path):
                raise FileExistsError(f"{path} exists; its key is the one that it has")
        fields = self.ask(CREATE, RECORD, {1: scope.encode()} if scope else {})
        store(database + ".key", fields[1], os.link)
        return self.get(database)

    def get(self, database):
        with open(database + ".key", "rb") as file:
            record = file.read()
        try:
            return self.ask(GET, KEY, {1: record})[1]
        except Refused as refused:
            if refused.code != RECORD_OUTDATED:
                raise
        record = self.ask(UPGRADE, RECORD, {1: record})[1]
        store(database + ".key", record, os.rename)
        return self.ask(GET, KEY, {1: record})[1]

    def check(self, database):
        with open(database + ".key", "rb") as file:
            return self.ask(CHECK, REPORT, {1: file.read()})[1].decode()


def store(path, data, place):
    """Durably, and under the final name in one step: os.link refuses where something is, os.rename replaces."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, path)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        lkm = Lkm(sys.argv[1])
        answer = getattr(lkm, sys.argv[2])(*sys.argv[3:])
    except (Refused, OSError) as error:
        sys.exit(f"client.py: {error}")
    if isinstance(answer, bytes):
        print(answer.hex())
    elif answer:
        print(answer)


if __name__ == "__main__":
    main()
