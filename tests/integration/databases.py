# SPDX-License-Identifier: Apache-2.0
"""Databases as other programs left them: made by the SQLCipher that is linked here, called from this process."""
import ctypes
import ctypes.util
import os

ROW, DONE, NULL, BLOB = 100, 101, 5, 4
FORMATS = {3: ("sha1", 64000, 1024), 4: ("sha512", 256000, 4096)}


class SqlError(Exception):
    pass


class Library:
    """One libsqlcipher; @folder: of another than the linked one."""

    def __init__(self, folder=None):
        names = sorted(name for name in os.listdir(folder) if name.startswith("libsqlcipher.so")) if folder else ()
        self.lib = ctypes.CDLL(os.path.join(folder, names[0]) if folder else ctypes.util.find_library("sqlcipher"))
        for name, result in (("sqlite3_errmsg", ctypes.c_char_p), ("sqlite3_column_blob", ctypes.c_void_p), ("sqlite3_column_text", ctypes.c_void_p),
                             ("sqlite3_column_int64", ctypes.c_int64), ("sqlite3_column_double", ctypes.c_double)):
            getattr(self.lib, name).restype = result
        with self.open(":memory:") as db:
            self.version = db.value("PRAGMA cipher_version")
            self.sqlite = tuple(int(part) for part in db.value("SELECT sqlite_version()").split("."))
        self.major = int(self.version.split(".")[0])

    def open(self, path, key=None, pragmas=()):
        return Database(self.lib, path, key, pragmas)

    def opens(self, path, key=None, pragmas=()):
        """Whether every row of every page can be read."""
        try:
            with self.open(path, key, pragmas) as db:
                return db.value("PRAGMA integrity_check") == "ok"
        except SqlError:
            return False


class Database:
    """@key: as sqlite3_key() takes it, a passphrase or x'…'; None: plaintext."""

    def __init__(self, lib, path, key, pragmas):
        self.lib, self.db = lib, ctypes.c_void_p()
        self.check(lib.sqlite3_open(path.encode(), ctypes.byref(self.db)))
        if key is not None:
            self.check(lib.sqlite3_key(self.db, key.encode(), len(key.encode())))
        for pragma in pragmas:
            self.run(f"PRAGMA {pragma}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.db:
            self.lib.sqlite3_close(self.db)
            self.db = None

    def check(self, code):
        if code != 0:
            raise SqlError(f"{code}: {self.lib.sqlite3_errmsg(self.db).decode()}")

    def run(self, sql):
        """Every statement of @sql, separated by ";\\n"; the rows of the last one."""
        rows = []
        for one in sql.strip().rstrip(";").split(";\n"):
            rows = self.statement(one)
        return rows

    def value(self, sql):
        return self.run(sql)[0][0]

    def statement(self, sql):
        statement = ctypes.c_void_p()
        self.check(self.lib.sqlite3_prepare_v2(self.db, sql.encode(), -1, ctypes.byref(statement), None))
        rows = []
        try:
            while (code := self.lib.sqlite3_step(statement)) == ROW:
                rows.append(tuple(self.cell(statement, i) for i in range(self.lib.sqlite3_column_count(statement))))
        finally:
            self.lib.sqlite3_finalize(statement)
        self.check(0 if code == DONE else code)
        return rows

    def cell(self, statement, i):
        kind = self.lib.sqlite3_column_type(statement, i)
        if kind == 1:
            return self.lib.sqlite3_column_int64(statement, i)
        if kind == 2:
            return self.lib.sqlite3_column_double(statement, i)
        if kind == NULL:
            return None
        data = self.lib.sqlite3_column_blob(statement, i) if kind == BLOB else self.lib.sqlite3_column_text(statement, i)
        data = ctypes.string_at(data, self.lib.sqlite3_column_bytes(statement, i)) if data else b""
        return data if kind == BLOB else data.decode()

    def content(self):
        """All that a database says: schema, rows, and the settings that lie in its header."""
        schema = self.statement("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
        rows = {name: sorted(map(repr, self.statement(f'SELECT * FROM "{name}"'))) for kind, name, _, _ in schema if kind in ("table", "view")}
        settings = {name: self.value(f"PRAGMA {name}") for name in ("user_version", "application_id", "auto_vacuum", "encoding")}
        return schema, rows, settings


def fill(db, sqlite, rows=200):
    """One of everything that an export may lose."""
    db.run("""
        PRAGMA auto_vacuum = 2;
        PRAGMA user_version = 77;
        PRAGMA application_id = 1279544644;
        CREATE TABLE patient(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, born REAL, photo BLOB);
        CREATE UNIQUE INDEX by_name ON patient(name);
        CREATE INDEX partly ON patient(born) WHERE born > 1950;
        CREATE TABLE code(code TEXT PRIMARY KEY, meaning) WITHOUT ROWID;
        CREATE TABLE "odd name"(x, [y z] DEFAULT 5);
        CREATE TABLE log(at, what);
        CREATE VIEW old AS SELECT name FROM patient WHERE born < 1950;
        CREATE TRIGGER logged AFTER INSERT ON patient BEGIN INSERT INTO log VALUES(new.id, new.name); END;
        INSERT INTO "odd name" VALUES(NULL, x'00ff');
        INSERT INTO code VALUES('a', 'α'), ('b', NULL)
    """)
    if sqlite >= (3, 31):
        db.run("CREATE TABLE sums(a, b, c AS (a + b) STORED);\nINSERT INTO sums(a, b) VALUES(1, 2)")
    try:
        db.run("CREATE VIRTUAL TABLE words USING fts4(text);\nINSERT INTO words VALUES('swordfish in the waiting room')")
    except SqlError:
        pass  # built without
    db.run("BEGIN")
    for i in range(rows):
        db.run(f"INSERT INTO patient(name, born, photo) VALUES('patient {i:05}', {1930 + i % 80}.5, randomblob({i * 37 % 3000}))")
    db.run("COMMIT;\nDELETE FROM patient WHERE id % 7 = 3;\nANALYZE")


def hot_journal(library, path, key=None, pragmas=()):
    """Leave @path as a process leaves it that dies in a transaction: half written, with a journal that undoes it. Returns what it has to say."""
    with library.open(path, key, pragmas) as db:
        content = db.content()
        db.run("PRAGMA cache_size = 5;\nPRAGMA cache_spill = 1;\nBEGIN IMMEDIATE;\nUPDATE patient SET photo = randomblob(2000)")
        copies = {name: read(name) for name in (path, path + "-journal")}
        db.run("ROLLBACK")
    for name, data in copies.items():
        with open(name, "wb") as file:
            file.write(data)
    return content


def read(path):
    with open(path, "rb") as file:
        return file.read()
