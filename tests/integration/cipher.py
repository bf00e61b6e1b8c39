# SPDX-License-Identifier: Apache-2.0
"""The linked SQLCipher, for tests: connections by ctypes, and what lkm-rekey is told and answers."""
import ctypes
import ctypes.util
import os
import struct
import subprocess

import support

LIBRARY = ctypes.CDLL(ctypes.util.find_library("sqlcipher"))
OK, ERROR, BUSY, ROW, NOTADB = 0, 1, 5, 100, 26
READONLY, READWRITE, CREATE = 1, 2, 4
LIBRARY.sqlite3_errmsg.restype = ctypes.c_char_p
LIBRARY.sqlite3_column_text.restype = ctypes.c_char_p
for name in ("sqlite3_errmsg", "sqlite3_close", "sqlite3_finalize", "sqlite3_step", "sqlite3_column_count"):
    getattr(LIBRARY, name).argtypes = [ctypes.c_void_p]
LIBRARY.sqlite3_column_text.argtypes = [ctypes.c_void_p, ctypes.c_int]
LIBRARY.sqlite3_exec.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
LIBRARY.sqlite3_key_v2.argtypes = LIBRARY.sqlite3_rekey_v2.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]


class Error(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class Connection:
    """@key: 32 bytes, or None for plaintext. @pragmas: statements before the first read."""

    def __init__(self, path, key, pragmas="", flags=READWRITE | CREATE):
        self.db = ctypes.c_void_p()
        self.check(LIBRARY.sqlite3_open_v2(os.fsencode(path), ctypes.byref(self.db), flags, None))
        if key is not None:
            text = f"x'{key.hex()}'".encode()
            self.check(LIBRARY.sqlite3_key_v2(self.db, b"main", text, len(text)))
        self.do(pragmas)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def check(self, code):
        if code != OK:
            raise Error(code & 0xff, LIBRARY.sqlite3_errmsg(self.db).decode())

    def do(self, sql):
        self.check(LIBRARY.sqlite3_exec(self.db, sql.encode(), None, None, None))

    def rekey(self, key):
        """What sqlite3_rekey_v2() returns."""
        text = f"x'{key.hex()}'".encode()
        return LIBRARY.sqlite3_rekey_v2(self.db, b"main", text, len(text))

    def rows(self, sql):
        statement = ctypes.c_void_p()
        self.check(LIBRARY.sqlite3_prepare_v2(self.db, sql.encode(), -1, ctypes.byref(statement), None))
        found = []
        try:
            while (code := LIBRARY.sqlite3_step(statement)) == ROW:
                found.append(tuple((LIBRARY.sqlite3_column_text(statement, i) or b"").decode("utf-8", "replace")
                                   for i in range(LIBRARY.sqlite3_column_count(statement))))
            if code != 101:
                self.check(code)
        finally:
            LIBRARY.sqlite3_finalize(statement)
        return found

    def value(self, sql):
        return self.rows(sql)[0][0]

    def close(self):
        if self.db:
            LIBRARY.sqlite3_close(self.db)
            self.db = None


with Connection(":memory:", None) as connection:
    VERSION = connection.value("PRAGMA cipher_version")
MAJOR = int(VERSION.split(".", maxsplit=1)[0])
FORMATS = (3, 4) if MAJOR >= 4 else (3,)


def format_pragmas(compatibility, page_size=0):
    sql = f"PRAGMA cipher_compatibility = {compatibility};" if compatibility < MAJOR else ""
    return sql + (f"PRAGMA cipher_page_size = {page_size};" if page_size else "")


def opens(path, key, compatibility=0, page_size=0):
    """Whether SQLCipher reads all of it with that key."""
    try:
        with Connection(path, key, format_pragmas(compatibility or MAJOR, page_size), READWRITE) as db:
            return db.value("PRAGMA integrity_check") == "ok"
    except Error as error:
        assert error.code in (NOTADB, ERROR, 10, 11), error
        return False


# ---- lkm-rekey ----

RESTORE_WAL, IGNORE_OPEN = 1, 2
MAGIC = 0x6c6b6d31


def job(keys, compatibility=0, page_size=0, timeout=0, flags=0):
    """@keys: {version: 32 bytes}."""
    data = struct.pack("=6I", MAGIC, compatibility, page_size, timeout, flags, len(keys))
    return data + b"".join(struct.pack("=I", version) + key for version, key in keys.items())


class Answer:
    def __init__(self, out, status, stderr=b""):
        self.text, self.status, self.stderr = out, status, (stderr or b"").decode()
        self.lines = [line for line in out.splitlines() if not line.startswith("progress ")]
        self.progress = [tuple(map(int, line.split()[1:])) for line in out.splitlines() if line.startswith("progress ")]
        last = self.lines[-1].split(" ", 2) if self.lines else [""]
        self.done = last[0] == "done"
        self.error = int(last[1]) if last[0] == "error" else 0
        self.sentence = last[2] if self.error else ""

    def all(self, word):
        return [line.split(" ", 1)[1] for line in self.lines if line.split(" ")[0] == word]

    @property
    def opens(self):
        return [int(version) for version in self.all("opens")]

    @property
    def fits(self):
        return {int(version): int(pages) for version, pages in map(str.split, self.all("fits"))}

    @property
    def pages(self):
        return tuple(map(int, self.all("pages")[0].split()))


def command(*arguments):
    return support.WRAPPER + [os.path.join(support.BUILD, "client/lkm-rekey"), *map(str, arguments)]


def rekey(step, database, keys, *target, compatibility=0, page_size=0, timeout=0, flags=0, **options):
    done = subprocess.run(command(step, database, *target), input=job(keys, compatibility, page_size, timeout, flags), stdout=subprocess.PIPE,
                          timeout=support.TIMEOUT, check=False, **options)
    return Answer(done.stdout.decode(), done.returncode, done.stderr)
