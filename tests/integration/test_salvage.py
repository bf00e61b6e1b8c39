# SPDX-License-Identifier: Apache-2.0
"""lkmctl salvage: which key each page of a database fits, and one whole database out of pages of several keys."""
import json
import os
import subprocess
import unittest

import support
from daemons import DaemonCase, nobody
from databases import FORMATS, Library, fill, hot_journal, read
from support import BUILD, TIMEOUT

setUpModule = support.not_under_valgrind

LKMCTL = os.path.join(BUILD, "client/lkmctl")
LINKED = Library()
PAGE = FORMATS[min(LINKED.major, 4)][2]


class SalvageCase(DaemonCase):
    scope_options = f"allow_history = uid:{os.getuid()}"

    def ctl(self, *arguments, status=0, **options):
        done = subprocess.run([*support.WRAPPER, LKMCTL, "--socket", self.socket, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=TIMEOUT, **options)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 else done.stdout + done.stderr

    def salvage(self, *arguments, status=0, name="a.db", **options):
        """The report, and the sentence of a failure."""
        before = self.files(name)
        lines = [json.loads(line) for line in self.ctl("--json", "salvage", self.path(name), *arguments, status=status, **options).splitlines()]
        self.assertEqual(self.files(name), before)
        return lines[-1]

    def files(self, name):
        return {other: (read(self.path(other)), os.stat(self.path(other)).st_mtime_ns) for other in os.listdir(self.directory) if other.startswith(name)}

    def key(self, version=None, name="a.db"):
        return self.ctl("get", "--format", "pragma", *(("--version", str(version)) if version else ()), self.path(name)).strip()

    def setUp(self):
        """A database under version 2, and in `old` the same one under version 1."""
        super().setUp()
        self.ctl("create", "--scope", "medical", self.path("a.db"))
        with LINKED.open(self.path("a.db"), self.key()) as db:
            fill(db, LINKED.sqlite, 60)
            self.content = db.content()
        self.old = read(self.path("a.db"))
        self.ctl("rotate", self.path("a.db"))
        self.new = read(self.path("a.db"))
        self.assertEqual(len(self.old), len(self.new))
        self.pages = len(self.new) // PAGE

    def mix(self, old, name="a.db"):
        """Give @name the old pages of those numbers; the others are new."""
        pages = [(self.old if number in old else self.new)[(number - 1) * PAGE:number * PAGE] for number in range(1, self.pages + 1)]
        with open(self.path(name), "wb") as file:
            file.write(b"".join(pages))

    def assert_rebuilt(self, name="new"):
        key = self.key()
        self.assertEqual(self.key(name=name), key)
        with LINKED.open(self.path(name), key) as db:
            self.assertEqual(db.content(), self.content)
            self.assertEqual(db.value("PRAGMA integrity_check"), "ok")
        # An ordinary database again.
        self.ctl("rotate", self.path(name))
        with LINKED.open(self.path(name), self.key(name=name)) as db:
            self.assertEqual(db.content(), self.content)


class Telling(SalvageCase):
    def test_whole_database_needs_nothing(self):
        report = self.salvage()
        self.assertEqual((report["ranges"], report["pages"], report["unknown_pages"]), ([{"first": 1, "last": self.pages, "version": 2}], self.pages, 0))
        self.assertIn("Nothing has to be salvaged", self.ctl("salvage", self.path("a.db")))

    def test_each_run_of_pages_is_told(self):
        self.mix({1, 2, 3, 10, self.pages})
        self.assertEqual([(r["first"], r["last"], r["version"]) for r in self.salvage()["ranges"]],
                         [(1, 3, 1), (4, 9, 2), (10, 10, 1), (11, self.pages - 1, 2), (self.pages, self.pages, 1)])
        said = self.ctl("salvage", self.path("a.db"))
        self.assertRegex(said, r"(?m)^1-3 +1 +retired\n4-9 +2 +current\n10 +1 +retired$")
        self.assertIn("--to NEW", said)

    def test_copy_of_before_the_rotation(self):
        with open(self.path("a.db"), "wb") as file:
            file.write(self.old)
        self.assertEqual(self.salvage()["ranges"], [{"first": 1, "last": self.pages, "version": 1}])
        self.assertIn("a copy of before a rotation", self.ctl("salvage", self.path("a.db")))

    def damage(self, page):
        with open(self.path("a.db"), "r+b") as file:
            file.seek((page - 1) * PAGE + 50)
            file.write(b"\0damaged\0")

    def test_page_that_fits_no_key(self):
        self.mix({2})
        self.damage(7)
        report = self.salvage(status=5)
        self.assertEqual(report["error"], "MIXED")
        self.assertRegex(report["message"], r"1 of \d+ pages fit no key")
        told = json.loads(self.ctl("--json", "salvage", self.path("a.db"), status=5).splitlines()[0])
        self.assertIn({"first": 7, "last": 7, "version": 0}, told["ranges"])
        said = self.ctl("salvage", self.path("a.db"), status=5)
        self.assertRegex(said, r"(?m)^7 +- +fits no key that was tried$")
        self.assertRegex(said, "restore|Restore")
        self.salvage("--to", self.path("new"), status=5)
        self.assertEqual([name for name in os.listdir(self.directory) if "new" in name], [])

    def reconfigure(self, before, after):
        text = self.read(self.config)
        self.assertIn(before, text)
        self.write("lkmd.conf", text.replace(before, after))
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")

    def test_version_whose_key_cannot_be_had_is_named(self):
        self.mix({2, 3})
        # The new version is under both KEKs; then the KEK that alone has the old one leaves the scope.
        self.reconfigure("[scope medical]\nkeks = local\n", "[scope medical]\nkeks = local other\n")
        with open(self.path("a.db"), "wb") as file:
            file.write(self.new)
        self.ctl("rotate", self.path("a.db"))
        self.new = read(self.path("a.db"))
        self.mix({2, 3})
        self.reconfigure("keks = local other", "keks = other")
        said = self.ctl("salvage", self.path("a.db"), status=5)
        self.assertRegex(said, r"Version 1 was not tried: ")
        self.assertRegex(said, r"Version 2 was not tried: ")
        self.salvage("--to", self.path("new"), status=5)
        self.assertFalse(os.path.exists(self.path("new")))

    def audited(self, event):
        return [line for line in map(json.loads, self.read(self.path("audit.jsonl")).splitlines()) if line["event"] == event]

    def test_salvage_is_a_right_of_its_own(self):
        """Who may open backups may not salvage where allow_recover says otherwise; each key that is given to it is written down as such."""
        me = f"uid:{os.getuid()}"
        self.mix({2, 3})
        self.salvage()
        self.assertEqual([(line["version"], line["reason"]) for line in self.audited("recover")], [(2, me), (1, me)])
        self.reconfigure(f"allow_history = {me}", f"allow_history = {me}\nallow_recover = uid:4242")
        before = len(self.audited("release"))
        refused = self.salvage(status=3)
        self.assertEqual(refused["error"], "DENIED")
        self.assertIn("allow_recover", refused["message"])
        self.assertEqual((self.audited("deny")[-1]["reason"], len(self.audited("release"))), ("recover", before))
        self.key(version=1)

    def test_recovering_needs_no_other_right_and_gives_none(self):
        me = f"uid:{os.getuid()}"
        self.mix({2, 3})
        self.reconfigure(f"allow = {me}\nallow_history = {me}", f"allow = uid:4242\nallow_recover = {me}")
        self.assertEqual(self.salvage("--to", self.path("new"))["result"], "salvaged")
        for arguments in (["get", "--version", "1", self.path("a.db")], ["get", self.path("a.db")], ["purge", "--force", "--version", "1", self.path("a.db")],
                          ["rewrap", self.path("a.db")], ["create", "--scope", "medical", self.path("other.db")]):
            self.ctl(*arguments, status=3)
        self.assertEqual([v["state"] for v in json.loads(self.ctl("--json", "history", self.path("a.db")))["versions"]], ["retired", "current"])

    def test_journal_is_told_and_left_alone(self):
        with open(self.path("b.db.key"), "wb") as file:
            file.write(read(self.path("a.db.key")))
        os.chmod(self.path("b.db.key"), 0o600)
        with open(self.path("b.db"), "wb") as file:
            file.write(self.new)
        hot_journal(LINKED, self.path("b.db"), self.key())
        self.assertTrue(self.salvage(name="b.db")["journal"])
        self.assertIn("-journal", self.ctl("salvage", self.path("b.db")))
        said = self.salvage("--to", self.path("new"), name="b.db", status=5)
        self.assertIn("rolled back", said["message"])
        self.assertFalse(os.path.exists(self.path("new")))

    def test_what_cannot_be_salvaged(self):
        self.assertEqual(self.salvage(name="nowhere.db", status=5)["error"], "NOT_FOUND")
        os.truncate(self.path("a.db"), 0)
        self.assertEqual(self.salvage(status=5)["error"], "NOT_FOUND")


class Rebuilding(SalvageCase):
    def test_pages_of_two_keys(self):
        for old in ({1}, {2, 5, 6}, set(range(1, 20)), set(range(20, self.pages + 1))):
            with self.subTest(old=sorted(old)):
                self.mix(old)
                self.assertEqual(self.salvage("--to", self.path("new"))["result"], "salvaged")
                self.assert_rebuilt()
                os.unlink(self.path("new"))
                os.unlink(self.path("new.key"))

    def test_pages_of_three_keys(self):
        self.ctl("rotate", self.path("a.db"))
        third = read(self.path("a.db"))
        self.mix({4, 5})
        mixed = bytearray(read(self.path("a.db")))
        mixed[:2 * PAGE] = third[:2 * PAGE]
        with open(self.path("a.db"), "wb") as file:
            file.write(mixed)
        self.assertEqual([r["version"] for r in self.salvage()["ranges"]], [3, 2, 1, 2])
        self.salvage("--to", self.path("new"))
        self.assert_rebuilt()

    def test_copy_of_before_the_rotation(self):
        with open(self.path("a.db"), "wb") as file:
            file.write(self.old)
        self.salvage("--to", self.path("new"))
        self.assert_rebuilt()

    def test_nothing_is_overwritten(self):
        self.mix({3})
        for name in ("new", "new.key"):
            self.write(name, "mine")
            self.assertEqual(self.salvage("--to", self.path("new"), status=5)["error"], "EXISTS")
            self.assertEqual(self.read(self.path(name)), "mine")
            os.unlink(self.path(name))

    def test_call_that_was_interrupted_before_the_record_goes_on(self):
        self.mix({3})
        self.salvage("--to", self.path("new"))
        os.unlink(self.path("new.key"))
        self.salvage("--to", self.path("new"))
        self.assert_rebuilt()

    def test_interrupted_rotation_is_not_ended_by_looking(self):
        """A record with a pending version is copied as it is; the new database's next use undoes that."""
        from support import RECORD, ROTATE  # pylint: disable=import-outside-toplevel
        reply = self.client().ask(ROTATE, [(1, read(self.path("a.db.key")))])
        self.assertEqual(reply.number, RECORD)
        with open(self.path("a.db.key"), "wb") as file:
            file.write(reply.fields[1])
        self.mix({3, 4})
        self.assertEqual({r["version"] for r in self.salvage()["ranges"]}, {1, 2})
        self.salvage("--to", self.path("new"))
        self.assertIn("undone", self.ctl("recover", self.path("new")))
        with LINKED.open(self.path("new"), self.key(name="new")) as db:
            self.assertEqual(db.content(), self.content)

    @unittest.skipUnless(os.getuid() == 0, "only root can be several users")
    def test_root_becomes_the_owner(self):
        text = self.read(self.config)
        self.write("lkmd.conf", text.replace("uid:0", f"uid:0 uid:{nobody().pw_uid}"))
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        self.mix({3})
        os.mkdir(self.path("home"), 0o700)
        for name in ("home", "a.db", "a.db.key"):
            os.chown(self.path(name), nobody().pw_uid, nobody().pw_gid)
        self.salvage("--to", self.path("home/new"))
        for name in ("home/new", "home/new.key"):
            self.assertEqual(os.stat(self.path(name)).st_uid, nobody().pw_uid)


if __name__ == "__main__":
    unittest.main()
