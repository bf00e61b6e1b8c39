# SPDX-License-Identifier: Apache-2.0
"""lkm-rekey, driven as liblkm drives it: keys and lines through pipes."""
import os
import resource
import signal
import struct
import subprocess
import unittest

import cipher
from cipher import FORMATS, IGNORE_OPEN, MAGIC, MAJOR, RESTORE_WAL, Connection, format_pragmas, job, opens
from support import BUILD, TIMEOUT, Case

OLD, NEW, OTHER = (bytes([0x10 * n + i for i in range(32)]) for n in (1, 2, 3))
IO, EXISTS, NOT_FOUND, PLAINTEXT, WRONG_KEY, CIPHER_VERSION, ARGUMENT, BUSY, MIXED, NO_SPACE = 100, 104, 105, 106, 107, 113, 110, 114, 115, 117
BOTH = {1: OLD, 2: NEW}
SERIES = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO t(x) SELECT randomblob(900) FROM n;"
USUAL = 4096 if MAJOR >= 4 else 1024


class RekeyCase(Case):
    def make(self, name="a.db", rows=300, key=OLD, compatibility=MAJOR, page_size=0, before="", after=""):
        with Connection(self.path(name), key, format_pragmas(compatibility, page_size) + before) as db:
            db.do("CREATE TABLE t(id INTEGER PRIMARY KEY, x);" + SERIES.format(rows) + after)
        return self.path(name)

    def rekey(self, step, path, keys, *target, **options):
        """No key is ever told, and standard error is the caller's."""
        answer = cipher.rekey(step, path, keys, *target, **{"stderr": subprocess.PIPE, **options})
        for key in keys.values():
            self.assertNotIn(key.hex(), answer.text.lower())
        if not os.environ.get("LKM_TEST_WRAPPER"):
            self.assertEqual(answer.stderr, "")
        self.assertTrue(answer.done or answer.error, answer.text)
        self.assertEqual(answer.status, 0 if answer.done else 1)
        for (done, total), (done_next, total_next) in zip(answer.progress, answer.progress[1:]):
            self.assertTrue(done <= done_next or total != total_next, answer.progress)  # a rollback comes before, with a total of its own
        if answer.error:
            self.assertGreater(len(answer.sentence), 40)
            self.assertRegex(answer.sentence, r"[.)]$")
        return answer

    def refused(self, step, path, keys, *target, **options):
        answer = self.rekey(step, path, keys, *target, **options)
        self.assertFalse(answer.done, answer.text)
        self.assertIn(os.path.basename(path), answer.sentence)
        return answer.error

    def bytes(self, path):
        with open(path, "rb") as file:
            return file.read()

    def put(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def files(self):
        return sorted(os.listdir(self.directory))

    def rows(self, path, key, compatibility=MAJOR, page_size=0):
        with Connection(path, key, format_pragmas(compatibility, page_size)) as db:
            return db.rows("SELECT id, hex(x) FROM t ORDER BY id")

    def rotate(self, path, flags=0, **options):
        """All steps; the probe finds the new key."""
        for step, keys in (("check", {1: OLD}), ("rekey", BOTH)):
            answer = self.rekey(step, path, keys, **options)
            self.assertTrue(answer.done, answer.text)
        answer = self.rekey("probe", path, BOTH, flags=flags, **options)
        self.assertEqual(answer.opens, [2], answer.text)
        self.assertTrue(answer.done, answer.text)
        pages, zero, unknown = answer.pages
        self.assertEqual((answer.fits, unknown), ({1: 0, 2: pages - zero}, 0))


class Rotation(RekeyCase):
    def test_every_format_page_size_and_journal_mode(self):
        for compatibility in FORMATS:
            for page_size in (0, 1024, 4096, 65536):
                for mode in ("delete", "wal", "persist", "truncate"):
                    with self.subTest(compatibility=compatibility, page_size=page_size, mode=mode):
                        path = self.make(compatibility=compatibility, page_size=page_size, after=f"PRAGMA journal_mode = {mode};" + SERIES.format(20))
                        form = {"compatibility": compatibility, "page_size": page_size}
                        before = self.rows(path, OLD, **form)
                        answer = self.rekey("check", path, {1: OLD}, **form)
                        self.assertEqual(answer.all("mode"), ["wal" if mode == "wal" else "delete"])
                        self.rotate(path, RESTORE_WAL if mode == "wal" else 0, **form)
                        self.assertTrue(opens(path, NEW, **form))
                        self.assertFalse(opens(path, OLD, **form))
                        self.assertEqual(self.rows(path, NEW, **form), before)
                        with Connection(path, NEW, format_pragmas(compatibility, page_size)) as db:
                            self.assertEqual(db.value("PRAGMA journal_mode"), "wal" if mode == "wal" else "delete")
                        self.assertEqual(self.files(), ["a.db"])
                        os.unlink(path)

    def test_settings_of_the_database_stay(self):
        for auto_vacuum in "012":
            path = self.make(before=f"PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA encoding = 'UTF-16be';",
                             after="PRAGMA user_version = 77; PRAGMA application_id = -5; CREATE INDEX i ON t(x); DELETE FROM t WHERE id % 2;")
            self.rotate(path)
            with Connection(path, NEW) as db:
                self.assertEqual([db.value(f"PRAGMA {name}") for name in ("auto_vacuum", "encoding", "user_version", "application_id", "page_size")],
                                 [auto_vacuum, "UTF-16be", "77", "-5", str(USUAL)])
                self.assertEqual(db.value("SELECT count(*) FROM t"), "150")
            os.unlink(path)

    def test_free_pages_change_their_key_too(self):
        path = self.make(rows=2000, after="DELETE FROM t WHERE id > 10;")
        with Connection(path, OLD) as db:
            self.assertGreater(int(db.value("PRAGMA freelist_count")), 100)
        self.rotate(path)

    def test_sizes_from_an_empty_schema_to_some_megabytes(self):
        with Connection(self.path("a.db"), OLD) as db:
            db.do("PRAGMA user_version = 1")
        self.rotate(self.path("a.db"))
        self.assertTrue(opens(self.path("a.db"), NEW))
        for rows in (1, 5000):
            path = self.make(f"{rows}.db", rows)
            before = self.rows(path, OLD)
            self.rotate(path)
            self.assertEqual(self.rows(path, NEW), before)

    def test_old_format_is_found_without_being_named(self):
        for compatibility in FORMATS:
            self.rotate(self.make(f"{compatibility}.db", compatibility=compatibility))
            self.assertTrue(opens(self.path(f"{compatibility}.db"), NEW, compatibility))

    def test_progress_goes_from_nothing_to_all(self):
        path = self.make(rows=20000)
        for step, keys, least in (("check", {1: OLD}, 1), ("rekey", BOTH, 2), ("probe", BOTH, 1)):
            answer = self.rekey(step, path, keys)
            done, total = answer.progress[-1]
            self.assertEqual(answer.progress[0], (0, total))
            self.assertEqual(done, total)
            self.assertGreaterEqual(total, least * os.path.getsize(path))

    def test_database_behind_a_symbolic_link(self):
        path = self.make()
        os.symlink("a.db", self.path("link.db"))
        self.rotate(self.path("link.db"))
        self.assertTrue(opens(path, NEW))
        self.assertEqual(self.files(), ["a.db", "link.db"])


class Check(RekeyCase):
    def test_nothing_is_changed(self):
        path = self.make()
        before, status = self.bytes(path), os.stat(path)
        self.assertTrue(self.rekey("check", path, {1: OLD}).done)
        self.assertEqual(self.refused("check", path, {1: OTHER}), WRONG_KEY)
        self.assertEqual((self.bytes(path), os.stat(path).st_mtime_ns, self.files()), (before, status.st_mtime_ns, ["a.db"]))
        path = self.make("b.db", after="PRAGMA journal_mode = WAL")
        self.assertEqual(self.rekey("check", path, {1: OLD}).all("mode"), ["wal"])
        self.assertEqual(self.files(), ["a.db", "b.db"])

    def test_what_is_no_database_of_ours_is_refused(self):
        self.assertEqual(self.refused("check", self.path("none.db"), {1: OLD}), NOT_FOUND)
        self.assertEqual(self.refused("check", self.path("none/none.db"), {1: OLD}), IO)
        self.assertEqual(self.refused("check", self.put("empty.db", b""), {1: OLD}), NOT_FOUND)
        self.assertEqual(self.refused("check", self.directory, {1: OLD}), IO)
        os.mkfifo(self.path("fifo.db"))
        self.assertEqual(self.refused("check", self.path("fifo.db"), {1: OLD}), IO)
        with Connection(self.path("plain.db"), None) as db:
            db.do("CREATE TABLE t(x)")
        self.assertEqual(self.refused("check", self.path("plain.db"), {1: OLD}), PLAINTEXT)
        for n in (1, 15, 16, 100, 4095, 4096, 100001):
            self.assertEqual(self.refused("check", self.put("garbage.db", os.urandom(n)), {1: OLD}), WRONG_KEY)

    def test_damage_is_found_before_a_key_is_made(self):
        """Else a rotation would begin that cannot end: no key would fit every page."""
        whole = self.bytes(self.make())
        for at in (len(whole) - 3000, len(whole) // 2):
            self.put("a.db", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            self.assertEqual(self.refused("check", self.path("a.db"), {1: OLD}), MIXED)
        self.put("a.db", whole[:-100])
        self.assertEqual(self.refused("check", self.path("a.db"), {1: OLD}), MIXED)

    def test_damage_is_not_looked_for_while_a_program_has_it_open(self):
        """That would keep it waiting; after it has closed the database, `check` runs again."""
        whole = self.bytes(self.make(rows=1000))
        path = self.put("a.db", whole[:len(whole) // 2] + b"damaged" + whole[len(whole) // 2 + 7:])
        with Connection(path, OLD) as db:
            db.value("SELECT count(*) FROM sqlite_master")
            self.assertTrue(self.rekey("check", path, {1: OLD}, flags=IGNORE_OPEN).done)
        self.assertEqual(self.refused("check", path, {1: OLD}, flags=IGNORE_OPEN), MIXED)

    def test_another_librarys_format(self):
        path = self.make()
        if MAJOR < 4:
            self.assertEqual(self.refused("check", path, {1: OLD}, compatibility=4), CIPHER_VERSION)
        else:
            self.assertEqual(self.refused("check", path, {1: OLD}, compatibility=3), WRONG_KEY)
        self.assertEqual(self.refused("check", path, {1: OLD}, page_size=8192), WRONG_KEY)

    def test_space_is_looked_at_first(self):
        path = self.make()
        free = os.statvfs(self.directory).f_bavail * os.statvfs(self.directory).f_frsize
        os.truncate(path, min(free, 1 << 42))
        answer = self.rekey("check", path, {1: OLD})
        self.assertEqual(answer.error, NO_SPACE)
        self.assertRegex(answer.sentence, r"needs \d+ MiB of free space beside it, and there are \d+ MiB")
        os.unlink(path)
        path = self.make(rows=1000)
        limit = os.path.getsize(path) + 1000
        answer = self.rekey("check", path, {1: OLD}, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(answer.error, NO_SPACE)
        self.assertIn("ulimit -f", answer.sentence)

    def test_what_may_not_be_written_is_refused(self):
        if os.getuid() == 0:
            self.skipTest("root may write everything")
        path = self.make()
        os.chmod(path, 0o400)
        self.assertEqual(self.refused("check", path, {1: OLD}), IO)
        os.chmod(path, 0o600)
        os.chmod(self.directory, 0o500)
        self.addCleanup(os.chmod, self.directory, 0o700)
        self.assertEqual(self.refused("check", path, {1: OLD}), IO)


class Holders(RekeyCase):
    """The holder is this process: lkm-rekey does not leave its parent out."""

    def holders(self, answer):
        return [line.split(" ")[:2] for line in answer.all("holder")]

    def test_a_lock_is_named(self):
        path = self.make()
        for sql in ("BEGIN; SELECT count(*) FROM t", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
            with Connection(path, OLD) as db:
                db.do(sql)
                for step, keys in (("check", {1: OLD}), ("rekey", BOTH)):
                    for flags in (0, IGNORE_OPEN):
                        answer = self.rekey(step, path, keys, flags=flags)
                        self.assertEqual((answer.error, self.holders(answer)), (BUSY, [[str(os.getpid()), "lock"]]))
                        self.assertIn(f"process {os.getpid()}", answer.sentence)
        self.assertTrue(opens(path, OLD))

    def test_an_opener_refuses_unless_it_is_ignored(self):
        for mode in ("delete", "wal"):
            path = self.make(f"{mode}.db", after=f"PRAGMA journal_mode = {mode}")
            with Connection(path, OLD) as db:
                db.value("SELECT count(*) FROM t")
                answer = self.rekey("check", path, {1: OLD})
                self.assertEqual((answer.error, self.holders(answer)), (BUSY, [[str(os.getpid()), "open"]]))
                answer = self.rekey("check", path, {1: OLD}, flags=IGNORE_OPEN)
                self.assertTrue(answer.done, answer.text)
                self.assertEqual(self.holders(answer), [[str(os.getpid()), "open"]])

    def test_rekey_never_runs_beside_a_wal_connection(self):
        path = self.make(after="PRAGMA journal_mode = WAL")
        with Connection(path, OLD) as db:
            db.value("SELECT count(*) FROM t")
            answer = self.rekey("rekey", path, BOTH, flags=IGNORE_OPEN)
            self.assertEqual((answer.error, self.holders(answer)), (BUSY, [[str(os.getpid()), "open"]]))
            db.do("UPDATE t SET x = 'still here' WHERE id = 1")
        with Connection(path, OLD) as db:
            self.assertEqual(db.value("PRAGMA journal_mode"), "wal")
            self.assertEqual(db.value("SELECT x FROM t WHERE id = 1"), "still here")

    def test_a_lock_that_ends_in_time_is_waited_for(self):
        path = self.make()
        with Connection(path, OLD) as db:
            db.do("BEGIN IMMEDIATE")
            process = self.start(cipher.command("check", path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            process.stdin.write(job({1: OLD}, timeout=TIMEOUT * 1000, flags=IGNORE_OPEN))
            process.stdin.close()
            self.assertEqual(process.stdout.readline(), b"progress 0 0\n")
            db.do("COMMIT")
            self.assertEqual(process.stdout.read().splitlines()[-1], b"done")
        self.assertEqual(process.wait(TIMEOUT), 0)


class Probe(RekeyCase):
    def test_absent_and_empty(self):
        for path in (self.path("a.db"), self.put("b.db", b"")):
            answer = self.rekey("probe", path, BOTH, flags=RESTORE_WAL)
            self.assertEqual(answer.lines, ["empty", f"library {cipher.MAJOR}", "done"])
        self.assertEqual(self.files(), ["b.db"])

    def test_no_key_and_nothing_is_written(self):
        path = self.make(after="PRAGMA journal_mode = WAL")
        kept = Connection(path, OLD)
        kept.do(SERIES.format(50))
        for suffix in ("", "-wal"):
            self.put("copy.db" + suffix, self.bytes(path + suffix))
        kept.close()
        before = self.bytes(self.path("copy.db")), self.bytes(self.path("copy.db-wal"))
        for keys in ({3: OTHER}, {3: OTHER, 2: NEW}):
            answer = self.rekey("probe", self.path("copy.db"), keys, flags=RESTORE_WAL)
            self.assertEqual((answer.opens, answer.pages[2]), ([], answer.pages[0]))
        self.assertEqual((self.bytes(self.path("copy.db")), self.bytes(self.path("copy.db-wal"))), before)
        answer = self.rekey("probe", self.path("copy.db"), {3: OTHER, 1: OLD})
        self.assertEqual(answer.opens, [1], answer.text)
        with Connection(self.path("copy.db"), OLD) as db:
            self.assertEqual(db.value("SELECT count(*) FROM t"), "350")

    def test_hostile_files(self):
        whole = self.bytes(self.make())
        salt = whole[:16]
        for data in (b"x", os.urandom(100000), salt + bytes(4080), bytes(4096), whole[:-100], whole[:USUAL - 100], whole + b"x", whole[USUAL:], whole + os.urandom(USUAL),
                     whole[:USUAL] + whole[2 * USUAL:3 * USUAL] + whole[USUAL:]):
            answer = self.rekey("probe", self.put("hostile.db", data), BOTH, flags=RESTORE_WAL)
            self.assertTrue(answer.done, answer.text)
            self.assertEqual(answer.opens, [])
            self.assertEqual(self.bytes(self.path("hostile.db")), data)
        self.put("hostile.db-journal", os.urandom(5000))
        self.put("hostile.db-wal", os.urandom(5000))
        answer = self.rekey("probe", self.put("hostile.db", whole), BOTH)
        self.assertEqual(answer.opens, [1], answer.text)

    def test_works_beside_a_program_that_writes_in_wal_mode(self):
        path = self.make(after="PRAGMA journal_mode = WAL")
        with Connection(path, OLD) as db:
            db.do("BEGIN IMMEDIATE;" + SERIES.format(10))
            answer = self.rekey("probe", path, BOTH)
            self.assertEqual(answer.opens, [1], answer.text)
            db.do("COMMIT")


class Interrupted(RekeyCase):
    def killed(self, step, path, keys, at, flags=0):
        done = subprocess.run(cipher.command(step, path), input=job(keys, flags=flags), stdout=subprocess.PIPE, timeout=TIMEOUT, check=False,
                              env={**os.environ, "LD_PRELOAD": os.path.join(BUILD, "tests/integration/libkill-at.so"), "KILL_AT": str(at)})
        return done.returncode == -signal.SIGKILL

    def probed(self, path):
        answer = self.rekey("probe", path, BOTH)
        self.assertEqual(len(answer.opens), 1, answer.text)
        key = BOTH[answer.opens[0]]
        self.assertTrue(opens(path, key))
        self.assertFalse(opens(path, NEW if key == OLD else OLD))
        return answer.opens[0]

    @unittest.skipIf(os.environ.get("LKM_SANITIZED") or os.environ.get("LKM_TEST_WRAPPER"), "needs LD_PRELOAD for itself")
    def test_rekey_and_probe_survive_a_kill_at_every_call(self):
        for mode in ("delete", "wal"):
            path = self.make("whole.db", rows=30, after=f"PRAGMA journal_mode = {mode}")
            whole, rows, found = self.bytes(path), self.rows(path, OLD), set()
            os.unlink(path)
            at = 0
            while True:
                path = self.put("a.db", whole)
                killed = self.killed("rekey", path, BOTH, at)
                # The probe that finds out may be killed as well, now here and now there.
                self.killed("probe", path, BOTH, at % 23, RESTORE_WAL)
                version = self.probed(path)
                self.assertEqual(self.rows(path, BOTH[version]), rows)
                if self.files() != ["a.db"]:
                    # Killed as it left WAL: a journal without header beside a database that is in WAL mode. It goes with the next attempt.
                    self.assertEqual((mode, version, self.files(), self.bytes(path + "-journal")[:8].strip(b"\0")), ("wal", 1, ["a.db", "a.db-journal"], b""))
                    self.rotate(path, RESTORE_WAL)
                    self.assertEqual(self.files(), ["a.db"])
                found.add(version)
                os.unlink(path)
                if not killed:
                    break
                at += 1
            self.assertEqual(found, {1, 2})
            self.assertGreater(at, 40)

    def test_disk_that_fills_up_meanwhile(self):
        path = self.make(rows=20000)
        process = self.start(cipher.command("rekey", path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(job(BOTH))
        process.stdin.close()
        self.assertTrue(process.stdout.readline().startswith(b"progress 0 "))
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        limit = os.path.getsize(path) // 2
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]))
        process.send_signal(signal.SIGCONT)
        out = process.stdout.read().decode().splitlines()
        self.assertEqual(process.wait(TIMEOUT), 1)
        self.assertTrue(out[-1].startswith(f"error {NO_SPACE} "), out[-1])
        self.assertEqual(self.probed(path), 1)
        self.rotate(path)


class Salvage(RekeyCase):
    def half(self):
        """The first half of its pages under the new key."""
        path = self.make()
        old = self.bytes(path)
        self.rotate(path)
        new = self.bytes(path)
        at = len(old) // USUAL // 2 * USUAL
        self.put("a.db", new[:at] + old[at:])
        return path, at // USUAL, len(old) // USUAL

    def test_pages_are_told_and_a_new_file_is_built(self):
        path, middle, n = self.half()
        before = self.bytes(path)
        self.assertEqual((opens(path, OLD), opens(path, NEW)), (False, False))
        answer = self.rekey("probe", path, BOTH)
        self.assertEqual((answer.opens, answer.fits), ([], {1: n - middle, 2: middle}))
        answer = self.rekey("salvage", path, BOTH)
        self.assertEqual(answer.all("range"), [f"1 {middle} 2", f"{middle + 1} {n} 1"])
        answer = self.rekey("salvage", path, {3: OTHER, **BOTH}, self.path("new.db"))
        self.assertTrue(answer.done, answer.text)
        self.assertTrue(opens(self.path("new.db"), OTHER))
        with Connection(self.path("new.db"), OTHER) as db:
            self.assertEqual(db.value("SELECT count(*) FROM t"), "300")
        answer = self.rekey("probe", self.path("new.db"), {3: OTHER, **BOTH})
        self.assertEqual(answer.opens, [3])
        self.assertEqual((self.bytes(path), self.files()), (before, ["a.db", "new.db"]))
        self.assertEqual(os.stat(self.path("new.db")).st_mode, os.stat(path).st_mode)

    def test_page_that_fits_no_key_refuses(self):
        path, middle, n = self.half()
        answer = self.rekey("salvage", path, {2: NEW}, self.path("new.db"))
        self.assertEqual((answer.error, answer.all("range")), (MIXED, [f"1 {middle} 2", f"{middle + 1} {n} 0"]))
        self.assertEqual(self.files(), ["a.db"])

    def test_database_that_a_handle_destroyed_is_told(self):
        """A connection used after its rekey had failed; see test_sqlcipher_facts.py."""
        path = self.make()
        with Connection(path, OLD) as writer, Connection(path, OLD) as db:
            db.value("SELECT count(*) FROM t")
            writer.do("BEGIN IMMEDIATE")
            db.rekey(NEW)
            writer.do("COMMIT")
            writer.close()
            db.do("UPDATE t SET x = randomblob(900) WHERE id % 3 = 0")
        answer = self.rekey("probe", path, BOTH)
        self.assertEqual((answer.opens, answer.pages[2]), ([], 0))
        self.assertTrue(all(answer.fits.values()), answer.text)
        answer = self.rekey("salvage", path, {3: OTHER, **BOTH}, self.path("new.db"))
        self.assertTrue(answer.done, answer.text)
        with Connection(self.path("new.db"), OTHER) as db:
            self.assertEqual(db.value("SELECT count(*) FROM t"), "300")

    def test_nothing_is_overwritten(self):
        path, _, _ = self.half()
        for suffix in ("", "-journal", "-wal"):
            self.put("new.db" + suffix, b"mine")
            self.assertEqual(self.rekey("salvage", path, BOTH, self.path("new.db")).error, EXISTS)
            self.assertEqual(self.bytes(self.path("new.db" + suffix)), b"mine")
            os.unlink(self.path("new.db" + suffix))
        self.assertEqual(self.files(), ["a.db"])

    def test_pages_of_the_wal_count(self):
        path = self.make(after="PRAGMA journal_mode = WAL")
        kept = Connection(path, OLD)
        kept.do("DELETE FROM t WHERE id % 2;")
        for suffix in ("", "-wal"):
            self.put("copy.db" + suffix, self.bytes(path + suffix))
        kept.close()
        answer = self.rekey("salvage", self.path("copy.db"), {3: OTHER, 1: OLD}, self.path("new.db"))
        self.assertTrue(answer.done, answer.text)
        with Connection(self.path("new.db"), OTHER) as db:
            self.assertEqual(db.value("SELECT count(*) FROM t"), "150")


class Export(RekeyCase):
    SCHEMA = """CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, x, y TEXT DEFAULT 'y'); CREATE INDEX i ON t(x);
        CREATE TABLE "we ird""na'me"(a PRIMARY KEY, b) WITHOUT ROWID; CREATE TABLE gaps(a, b); CREATE VIEW v AS SELECT x FROM t;
        INSERT INTO "we ird""na'me" VALUES('b', 2), ('a', 1.5), (x'00', NULL); CREATE VIRTUAL TABLE f USING fts4(body); INSERT INTO f VALUES('hello world');
        CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET y = 'z' WHERE id = new.id; END;""" + SERIES.format(500) + """
        INSERT INTO gaps SELECT id, x FROM t; DELETE FROM gaps WHERE a % 3 = 0; DELETE FROM t WHERE id > 400; ANALYZE; PRAGMA user_version = 77;
        PRAGMA application_id = -5;"""

    def plain(self, pragmas="", after=""):
        with Connection(self.path("plain.db"), None, pragmas) as db:
            db.do(self.SCHEMA + after)
        return self.path("plain.db")

    def test_everything_is_carried_over(self):
        for compatibility in FORMATS:
            for encoding, auto_vacuum, mode, page_size in (("UTF-8", "0", "delete", 0), ("UTF-16le", "1", "wal", 8192), ("UTF-16be", "2", "delete", 1024)):
                path = self.plain(f"PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA journal_mode = {mode};")
                before = self.bytes(path)
                answer = self.rekey("export", path, {1: OLD}, self.path("new.db"), compatibility=compatibility, page_size=page_size)
                self.assertTrue(answer.done, answer.text)
                tables = dict(line.rsplit(" ", 1) for line in answer.all("table"))
                self.assertEqual((tables["t"], tables["gaps"], tables["we ird\"na'me"], tables["f_content"]), ("400", "334", "3", "1"))
                with Connection(self.path("new.db"), OLD, format_pragmas(compatibility, page_size)) as db, Connection(path, None) as plain:
                    for name in ("encoding", "auto_vacuum", "user_version", "application_id", "journal_mode"):
                        self.assertEqual(db.value(f"PRAGMA {name}"), plain.value(f"PRAGMA {name}"), name)
                    for sql in ("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2", "SELECT id, hex(x), y FROM t ORDER BY id",
                                "SELECT a, hex(b) FROM gaps ORDER BY a", "SELECT * FROM sqlite_sequence"):
                        self.assertEqual(db.rows(sql), plain.rows(sql))
                    self.assertEqual(db.value("SELECT count(*) FROM f WHERE f MATCH 'hello'"), "1")
                self.assertEqual(self.rekey("probe", self.path("new.db"), BOTH, compatibility=compatibility, page_size=page_size).opens, [1])
                self.assertNotIn(b"hello world", self.bytes(self.path("new.db")))
                self.assertEqual((self.bytes(path), self.files()), (before, ["new.db", "plain.db"]))
                os.unlink(self.path("new.db"))
                os.unlink(path)

    def test_nothing_is_overwritten_and_nothing_half_done_is_left(self):
        path = self.plain()
        self.put("new.db", b"mine")
        self.assertEqual(self.rekey("export", path, {1: OLD}, self.path("new.db")).error, EXISTS)
        self.assertEqual(self.bytes(self.path("new.db")), b"mine")
        os.unlink(self.path("new.db"))
        whole = self.bytes(path)
        self.put("plain.db", whole[:len(whole) // 2] + bytes(len(whole) // 4))
        self.assertEqual(self.refused("export", path, {1: OLD}, self.path("new.db")), IO)
        self.assertEqual(self.files(), ["plain.db"])

    def test_encrypted_and_absent_databases_are_refused(self):
        self.assertEqual(self.refused("export", self.make(), {1: OLD}, self.path("new.db")), EXISTS)
        self.assertEqual(self.refused("export", self.path("none.db"), {1: OLD}, self.path("new.db")), NOT_FOUND)


class Input(RekeyCase):
    def run_with(self, data, *arguments):
        done = subprocess.run(cipher.command(*arguments), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        return done.returncode, done.stdout.decode()

    def test_jobs_that_are_not_sound_are_refused(self):
        path = self.make()
        before = self.bytes(path)
        whole = job({1: OLD})
        head = struct.pack("=6I", MAGIC, 0, 0, 0, 0, 1)
        for data in (b"", whole[:10], whole[:-1], whole + b"x", b"\0" * len(whole), head + struct.pack("=I", 0) + OLD, job({}), job({n: OLD for n in range(1, 66)}),
                     job({1: OLD}, compatibility=2), job({1: OLD}, page_size=1000), job({1: OLD}, flags=4), job(BOTH)):
            status, out = self.run_with(data, "check", path)
            self.assertEqual((status, out.split(" ")[:2]), (1, ["error", str(ARGUMENT)]), data[:24])
        status, out = self.run_with(job({1: OLD, 2: OLD}), "rekey", path)
        self.assertEqual((status, out.split(" ")[:2]), (1, ["error", str(ARGUMENT)]))
        self.assertEqual(self.bytes(path), before)

    def test_wrong_arguments_are_told_on_standard_error(self):
        for arguments in ((), ("check",), ("check", "a", "b"), ("export", "a"), ("probe", ""), ("nothing", "a"), ("check", "a", "b", "c")):
            self.assertEqual(self.run_with(b"", *arguments), (2, ""))

    def test_reader_that_goes_away_does_not_stop_a_rekey(self):
        path = self.make(rows=5000)
        process = self.start(cipher.command("rekey", path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(job(BOTH))
        process.stdin.close()
        process.stdout.close()
        self.assertEqual(process.wait(TIMEOUT), 0)
        process.stdout = None
        self.assertEqual(self.rekey("probe", path, BOTH).opens, [2])

    def test_names_that_sqlite_would_take_for_something_else(self):
        for name in (":memory:", "file:a.db?mode=ro", "-a.db", "a\nb.db"):
            self.make(name)
            for step, keys in (("check", {1: OLD}), ("rekey", BOTH)):
                answer = self.rekey(step, name, keys, cwd=self.directory)
                self.assertTrue(answer.done, answer.text)
            self.assertTrue(opens(self.path(name), NEW))
        answer = self.rekey("check", "a\nb.db", {1: OTHER}, cwd=self.directory)
        self.assertIn("a?b.db", answer.sentence)


if __name__ == "__main__":
    unittest.main()
