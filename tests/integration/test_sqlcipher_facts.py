# SPDX-License-Identifier: Apache-2.0
"""What SQLCipher does, measured on the library that is linked: the facts that decide how a key is changed. When one of these fails, SQLCipher has
changed, and what rests on the fact has to be looked at again."""
import os
import resource
import signal
import unittest

from cipher import BUSY, READONLY, RESTORE_WAL, Connection, Error, opens, rekey
from support import Case

OLD, NEW, OTHER = (bytes([n]) * 32 for n in (1, 2, 3))
ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO t SELECT randomblob(900) FROM n"


def fork(function):
    """The exit status of a child that runs @function: a file-size limit, and what a killed process leaves, are to be its own."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = function() or 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


class Facts(Case):
    def make(self, name="a.db", rows=2000, pragmas=""):
        with Connection(self.path(name), OLD, pragmas) as db:
            db.do("CREATE TABLE t(x);" + ROWS.format(rows))
        return self.path(name)

    def keys(self, path):
        return opens(path, OLD), opens(path, NEW)

    def limited(self, path, use_it_afterwards):
        """A rekey in a process whose files may not grow to the size of the journal. Status 0: rekey said 0, and all else did."""
        def child():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) // 2, hard))
            db = Connection(path, OLD)
            db.value("SELECT count(*) FROM t")
            code = db.rekey(NEW)
            if use_it_afterwards:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                db.do("UPDATE t SET x = randomblob(900) WHERE rowid % 3 = 0")
            db.close()
            return 1 if code else 0
        return fork(child)


class Rekey(Facts):
    def test_rekey_reports_success_when_it_failed_on_a_read_only_file(self):
        path = self.make()
        with Connection(path, OLD, flags=READONLY) as db:
            db.value("SELECT count(*) FROM t")
            self.assertEqual(db.rekey(NEW), 0)
        self.assertEqual(self.keys(path), (True, False))

    def test_rekey_reports_success_when_it_failed_beside_a_reader(self):
        path = self.make()
        with Connection(path, OLD) as reader, Connection(path, OLD) as db:
            reader.do("BEGIN; SELECT count(*) FROM t")
            db.value("SELECT count(*) FROM t")
            self.assertEqual(db.rekey(NEW), 0)
            db.close()
            reader.do("COMMIT")
        self.assertEqual(self.keys(path), (True, False))

    def test_rekey_reports_success_when_it_failed_at_a_file_size_limit(self):
        path = self.make()
        self.assertEqual(self.limited(path, use_it_afterwards=False), 0)
        self.assertEqual(self.keys(path), (True, False))

    def test_handle_used_after_failed_rekey_destroys_the_database_when_the_disk_was_full(self):
        path = self.make()
        self.assertEqual(self.limited(path, use_it_afterwards=True), 0)
        self.assertEqual(self.keys(path), (False, False))

    def test_handle_used_after_failed_rekey_destroys_the_database(self):
        path = self.make()
        with Connection(path, OLD) as writer, Connection(path, OLD) as db:
            db.value("SELECT count(*) FROM t")
            writer.do("BEGIN IMMEDIATE")
            self.assertEqual(db.rekey(NEW), 0)
            writer.do("COMMIT")
            writer.close()
            db.do("UPDATE t SET x = randomblob(900) WHERE rowid % 3 = 0")
        self.assertEqual(self.keys(path), (False, False))

    def test_exclusive_lock_up_front_yields_busy(self):
        path = self.make()
        for sql in ("BEGIN; SELECT count(*) FROM t", "BEGIN IMMEDIATE"):
            with Connection(path, OLD) as holder, Connection(path, OLD) as db:
                holder.do(sql)
                with self.assertRaises(Error) as raised:
                    db.do("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
                self.assertEqual(raised.exception.code, BUSY)
        with Connection(path, OLD) as db, Connection(path, OLD) as reader:
            db.do("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
            with self.assertRaises(Error) as raised:
                reader.value("SELECT count(*) FROM t")
            self.assertEqual(raised.exception.code, BUSY)

    def test_exclusive_mode_leaves_no_journal(self):
        path = self.make()
        with Connection(path, OLD) as db:
            db.do("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
            db.rekey(NEW)
        self.assertEqual(os.listdir(self.directory), ["a.db"])
        self.assertEqual(self.keys(path), (False, True))


class HotJournal(Facts):
    def killed_while_it_rekeys(self, path):
        """A rekey that dies in its last write: the file is half new, and the journal is whole."""
        def child():
            db = Connection(path, OLD, "PRAGMA cache_size = 10")
            db.value("SELECT count(*) FROM t")
            # Small enough for the database to be written to, too small for the journal's last pages.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) * 9 // 10, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            db.rekey(NEW)
        with open(path, "rb") as file:
            whole = file.read()
        status = fork(child)
        self.assertTrue(os.WIFSIGNALED(status), status)
        with open(path, "rb") as file:
            self.assertNotEqual(file.read(), whole)
        self.assertGreater(os.path.getsize(path + "-journal"), 0)

    def test_hot_journal_is_replayed_before_decryption(self):
        """Whatever key the first one who opens it has. The journal has the old pages under the old key, each with a new IV."""
        for first in (OLD, NEW, OTHER):
            path = self.make("hot.db")
            with Connection(path, OLD) as db:
                rows = db.rows("SELECT hex(x) FROM t ORDER BY rowid")
            self.killed_while_it_rekeys(path)
            self.assertEqual(opens(path, first), first == OLD)
            self.assertFalse(os.path.exists(path + "-journal"))
            self.assertEqual(self.keys(path), (True, False))
            with Connection(path, OLD) as db:
                self.assertEqual(db.rows("SELECT hex(x) FROM t ORDER BY rowid"), rows)
            os.unlink(path)

    def test_probe_rolls_back_and_finds_the_old_key(self):
        path = self.make()
        self.killed_while_it_rekeys(path)
        answer = rekey("probe", path, {2: NEW, 1: OLD})
        self.assertEqual(answer.opens, [1], answer.text)
        self.assertEqual(os.listdir(self.directory), ["a.db"])

    def test_probe_that_knows_no_key_does_no_more_than_the_rollback(self):
        path = self.make()
        self.killed_while_it_rekeys(path)
        answer = rekey("probe", path, {3: OTHER}, flags=RESTORE_WAL)
        self.assertEqual(answer.opens, [], answer.text)
        self.assertEqual(os.listdir(self.directory), ["a.db"])
        with open(path, "rb") as file:
            rolled_back = file.read()
        answer = rekey("probe", path, {3: OTHER}, flags=RESTORE_WAL)
        self.assertEqual(answer.opens, [], answer.text)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), rolled_back)
        self.assertEqual(self.keys(path), (True, False))


if __name__ == "__main__":
    unittest.main()
