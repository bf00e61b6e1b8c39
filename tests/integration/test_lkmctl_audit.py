# SPDX-License-Identifier: Apache-2.0
"""lkmctl audit: logs made here from the man page lkm-audit(5), tampered with, and what the commands say of them."""
import csv
import hashlib
import io
import json
import os
import pwd
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import unittest

from daemons import DaemonCase
from support import BUILD, TIMEOUT, WRAPPER, Case

LKMCTL = os.path.join(BUILD, "client/lkmctl")
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
MAN = os.path.join(ROOT, "packaging/man/lkm-audit.5.scd")
REMOTE = "/lib/systemd/systemd-journal-remote"
GOOD, TAMPERED, USAGE, UNREADABLE = 0, 1, 2, 5
DATABASES = ("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "123e4567-e89b-42d3-a456-426614174000")
MEMBERS = ("seq", "time", "boottime_usec", "boot_id", "event", "uid", "gid", "pid", "unit", "connection", "scope", "database_id", "label", "version", "decision",
           "reason", "kek", "kek_id", "kms_request_id", "count", "stale", "prev", "hash")


def hash_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def text_of(value):
    if not isinstance(value, str):
        return json.dumps(value)
    units = struct.unpack(f"<{len(value.encode('utf-16-le')) // 2}H", value.encode("utf-16-le"))
    return '"' + "".join("\\" + chr(n) if n in (0x22, 0x5c) else chr(n) if 0x20 <= n < 0x7f else f"\\u{n:04x}" for n in units) + '"'


def line_of(record):
    """The line of a record, with a hash that fits; its members in the order of the page."""
    ordered = {name: record[name] for name in MEMBERS if name in record and name != "hash"}
    text = "{" + ",".join(f'"{name}":{text_of(value)}' for name, value in ordered.items())
    return f'{text},"hash":"{hash_of(text)}"}}\n'


def chain(records, prev="0" * 64):
    """Their lines, each naming the one before."""
    lines = []
    for record in records:
        lines.append(line_of({**record, "prev": prev}))
        prev = json.loads(lines[-1])["hash"]
    return lines


def made(n=30):
    """@n records, such as lkmd writes."""
    records = [{"seq": 1, "event": "start"}]
    for seq in range(2, n + 1):
        records.append({"seq": seq, "event": "release" if seq % 5 else "deny", "uid": (0, 65534)[seq % 2], "gid": 0, "pid": 1000 + seq, "connection": seq,
                        "unit": "clinic.service", "scope": ("medical", "billing")[seq % 3 == 0], "database_id": DATABASES[seq % 4 == 0], "version": 1,
                        "decision": "allow" if seq % 5 else "deny", "reason": "allow = uid:0", "kek": "aws", "kms_request_id": f"id-{seq}"})
    for record in records:
        record.update({"time": f"2026-01-02T03:{record['seq']:02}:05.678901Z", "boottime_usec": record["seq"], "boot_id": "0123456789abcdef" * 2})
    return records


class AuditCase(Case):
    def setUp(self):
        super().setUp()
        self.records = made()
        self.lines = chain(self.records)
        self.log = self.path("audit.jsonl")
        self.put(self.lines)

    def put(self, lines, name="audit.jsonl"):
        return self.write(name, "".join(lines))

    def rotated(self, first, last):
        return f"audit.jsonl.{first:016}-{last:016}"

    def hash(self, seq):
        return json.loads(self.lines[seq - 1])["hash"]

    def checkpoints(self, *numbers):
        return self.write("checkpoints", "".join(f"{seq} {self.hash(seq)}\n" for seq in numbers))

    def lkmctl(self, *arguments, prefix=(), **environment):
        return subprocess.run([*prefix, *WRAPPER, LKMCTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False,
                              env={**os.environ, "LKM_SOCKET": self.path("no.sock"), "TZ": "UTC", **environment})

    def audit(self, *arguments, code=GOOD, **options):
        """What it wrote to standard output."""
        done = self.lkmctl("audit", *arguments, "--file", self.log, **options)
        self.assertEqual(done.returncode, code, done)
        return done.stdout.decode()

    def verify(self, *arguments, code=GOOD):
        told = json.loads(self.audit("verify", "--json", "--journal", "no", *arguments, code=code))
        self.assertEqual(told["good"], code == GOOD, told)
        return told


class Verify(AuditCase):
    def assert_fault(self, kind, sequence, *arguments):
        fault = self.verify(*arguments, code=TAMPERED)["fault"]
        self.assertEqual((fault["kind"], fault["sequence"]), (kind, sequence), fault)
        people = self.audit("verify", "--journal", "no", *arguments, code=TAMPERED)
        self.assertIn(f"TAMPERED WITH: {fault['sentence']}.", people)
        self.assertRegex(fault["sentence"], rf"\b{sequence}\b")
        return fault

    def test_a_good_log_is_good_over_its_files(self):
        told = self.verify()
        self.assertEqual((told["first"], told["last"], told["hash"], told["files"], told["fault"]), (1, 30, self.hash(30), 1, None))
        self.put(self.lines[:10], self.rotated(1, 10))
        self.put(self.lines[10:22], self.rotated(11, 22))
        self.put(self.lines[22:])
        told = self.verify()
        self.assertEqual((told["first"], told["last"], told["hash"], told["files"], told["fault"]), (1, 30, self.hash(30), 3, None))
        text = self.audit("verify", "--journal", "no")
        self.assertIn("Records 1 to 30 are good: 2026-01-02T03:01:05Z to 2026-01-02T03:30:05Z, in 3 files.", text)

    def test_names_that_logrotate_gives_are_understood_and_copies_are_not_read(self):
        self.put(self.lines[:10], "audit.jsonl.10")
        self.put(self.lines[10:15], self.rotated(11, 15))
        self.put(self.lines[15:22], "audit.jsonl.2")
        self.put(self.lines[22:])
        for name in ("audit.jsonl.bak", "audit.jsonl.1.gz", "audit.jsonl.", "audit.jsonl~", "audit.json"):
            self.put(self.lines[:10], name)
        self.write("audit.jsonl.3", "something else\n")
        told = self.verify()
        self.assertEqual((told["first"], told["last"], told["files"]), (1, 30, 4))
        self.put(self.lines[3:10], "audit.jsonl.10")
        self.assert_fault("missing", 1)

    def test_each_tampering_is_named(self):
        for kind, sequence, change in (("changed", 12, lambda lines: lines[:11] + [lines[11].replace("medical", "medicbl").replace("billing", "billinh")] + lines[12:]),
                                       ("missing", 12, lambda lines: lines[:11] + lines[12:]),
                                       ("swapped", 12, lambda lines: lines[:11] + [lines[12], lines[11]] + lines[13:]),
                                       ("doubled", 12, lambda lines: lines[:11] + lines[10:]),
                                       ("inserted", 12, lambda lines: lines[:11] + ["{}\n"] + lines[11:]),
                                       ("missing", 1, lambda lines: lines[5:])):
            self.put(change(self.lines))
            self.assert_fault(kind, sequence)
        self.put(self.lines[:11] + [line_of({**json.loads(self.lines[11]), "uid": 4711})] + self.lines[12:])
        fault = self.assert_fault("changed", 12)
        self.assertEqual((fault["line"], fault["file"]), (12, self.log))

    def test_a_fault_in_a_rotated_file_is_found_there(self):
        self.put(self.lines[:10], self.rotated(1, 10))
        self.put(self.lines[10:20] + self.lines[21:22], self.rotated(11, 22))
        self.put(self.lines[22:])
        fault = self.assert_fault("missing", 21)
        self.assertEqual((os.path.basename(fault["file"]), fault["line"]), (self.rotated(11, 22), 11))
        os.unlink(self.path(self.rotated(11, 22)))
        self.assert_fault("missing", 11)

    def test_a_log_that_was_chained_anew_is_found_by_checkpoints_alone(self):
        self.records[14]["uid"] = 4711
        self.put(chain(self.records))
        told = self.verify()
        self.assertIn("No checkpoint", told["limit"])
        fault = self.assert_fault("rechained", 20, "--checkpoints", self.checkpoints(10, 20, 30))
        self.assertEqual(fault["since"], 11)
        fault = self.assert_fault("rechained", 15, "--checkpoints", self.checkpoints(*range(1, 31)))
        self.assertEqual(fault["since"], 15)

    def test_an_end_that_was_cut_off_is_found_by_checkpoints(self):
        self.put(self.lines[:24])
        self.verify()
        told = self.verify("--checkpoints", self.checkpoints(10, 20))
        self.assertEqual(told["proved"], 20)
        self.assertIn("Records after 20 are proved by the chain only", told["limit"])
        self.assert_fault("cut", 25, "--checkpoints", self.checkpoints(10, 20, 30))
        self.put([])
        self.assert_fault("cut", 1, "--checkpoints", self.checkpoints(30))

    def test_a_torn_last_record_is_told_and_no_alarm(self):
        self.put(self.lines[:29] + [self.lines[29][:100]])
        told = self.verify("--checkpoints", self.checkpoints(20))
        self.assertEqual((told["last"], told["torn_bytes"], told["fault"]), (29, 100, None))
        self.assertIn("unfinished record of 100 bytes", self.audit("verify", "--journal", "no"))
        self.assert_fault("cut", 30, "--checkpoints", self.checkpoints(30))
        self.put(self.lines[:29] + ["nothing like it"])
        self.assert_fault("inserted", 30)

    def test_older_files_that_are_gone_are_told(self):
        self.records[20] = {"seq": 21, "time": self.records[20]["time"], "event": "open", "reason": self.rotated(11, 20)}
        self.lines = chain(self.records)
        self.put(self.lines[20:])
        told = self.verify("--checkpoints", self.checkpoints(10, 25))
        self.assertEqual((told["first"], told["last"]), (21, 30))
        self.assertIn("Records before 21 are in none of these files.", self.audit("verify", "--journal", "no"))
        self.put(self.lines[10:20], self.rotated(11, 20))
        self.assertEqual(self.verify()["first"], 11)

    def test_checkpoints_are_taken_as_lkmd_tells_them(self):
        path = self.write("checkpoints", f"# kept\n\n<5>audit checkpoint 10 {self.hash(10)}\r\n 20\t{self.hash(20)}\n")
        self.assertEqual(self.verify("--checkpoints", path)["anchors"]["checkpoints"]["count"], 2)
        for bad in ("10\n", f"x {self.hash(10)}\n", f"10 {self.hash(10)[:-1]}\n", f"0 {self.hash(10)}\n", f"10 {self.hash(10)} 5\n", f"10 {self.hash(10).upper()}\n"):
            path = self.write("checkpoints", f"5 {self.hash(5)}\n" + bad)
            done = self.lkmctl("audit", "verify", "--file", self.log, "--checkpoints", path)
            self.assertEqual(done.returncode, USAGE, done)
            self.assertIn(b"line 2", done.stderr)

    def test_what_cannot_be_read_is_no_tampering(self):
        for arguments in (("--file", self.path("nothing")), ("--file", self.directory), ("--file", self.log, "--checkpoints", self.path("nothing")),
                          ("--file", self.log, "--journal", self.path("nothing"))):
            done = self.lkmctl("audit", "verify", *arguments)
            self.assertEqual(done.returncode, UNREADABLE, done)
            self.assertIn(b"lkmctl: cannot read ", done.stderr)
        with open("/dev/full", "w") as full:
            done = subprocess.run([*WRAPPER, LKMCTL, "audit", "verify", "--file", self.log], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, UNREADABLE, done)

    @unittest.skipIf(os.getuid() != 0, "needs root, to be somebody else")
    def test_who_may_read_the_log_may_verify_it(self):
        nobody = pwd.getpwnam("nobody")
        program = shutil.copy(LKMCTL, self.path("lkmctl"))  # the build may lie where nobody gets to
        os.chmod(program, 0o755)
        become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        os.chmod(self.log, 0o644)
        done = subprocess.run([*become, program, "audit", "verify", "--file", self.log], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, GOOD, done)
        os.chmod(self.log, 0o600)
        done = subprocess.run([*become, program, "audit", "verify", "--file", self.log], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, UNREADABLE, done)
        self.assertIn("Ask as root or as a user who may read it", done.stderr)

class Journal(AuditCase):
    def setUp(self):
        super().setUp()
        if not os.path.exists(REMOTE):
            self.skipTest("needs systemd-journal-remote, to make a journal")

    def journal(self, *checkpoints):
        """A folder with a journal of (number, hash, path of the log, uid of who sent it)."""
        entries = "".join(f"__REALTIME_TIMESTAMP={(int(time.time()) - 100 + i) * 1000000}\n__MONOTONIC_TIMESTAMP={i + 1}\n_BOOT_ID={'0123456789abcdef' * 2}\n"
                          f"_UID={uid}\nMESSAGE=audit checkpoint {seq} {told}\nLKM_AUDIT_SEQ={seq}\nLKM_AUDIT_HASH={told}\nLKM_AUDIT_FILE={path}\n\n"
                          for i, (seq, told, path, uid) in enumerate(checkpoints))
        os.makedirs(self.path("journal"))
        subprocess.run([REMOTE, "-o", self.path("journal/system.journal"), "-"], input=entries.encode(), check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=TIMEOUT)
        return self.path("journal")

    def verify_by(self, journal, *arguments, code=GOOD):
        return json.loads(self.audit("verify", "--json", "--journal", journal, *arguments, code=code))

    def test_that_of_another_machine_is_compared(self):
        journal = self.journal(*((seq, self.hash(seq), "/var/log/lkm/audit.jsonl", 990) for seq in (10, 20, 30)), (25, "0" * 64, "/var/log/lkm/other.jsonl", 990))
        told = self.verify_by(journal)
        self.assertEqual((told["anchors"]["journal"]["count"], told["proved"], told["limit"]), (3, 30, ""))
        self.records[14]["uid"] = 4711
        self.put(chain(self.records))
        told = self.verify_by(journal, code=TAMPERED)
        self.assertEqual((told["fault"]["kind"], told["fault"]["sequence"], told["fault"]["since"]), ("rechained", 20, 11))
        # Begun anew on purpose: who knows when says so.
        self.assertEqual(self.verify_by(journal, "--since", "-10s")["anchors"]["journal"]["count"], 0)

    def test_of_this_machines_own_only_what_the_owner_of_the_log_sent_counts(self):
        journal = self.journal((10, self.hash(10), self.log, 0), (20, "0" * 64, self.log, 1000), (20, self.hash(20), self.log, 0), (30, "0" * 64, "/var/log/audit.jsonl", 0))
        place = """mount -t tmpfs tmpfs /var/log && mkdir -p "/var/log/journal/$(cat /etc/machine-id)" &&
                   cp "$0/system.journal" "/var/log/journal/$(cat /etc/machine-id)" && exec "$@\""""
        inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", place, journal]
        if subprocess.run([*inside, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs a mount namespace, and /etc/machine-id, to have a journal of its own")
        done = self.lkmctl("audit", "verify", "--json", "--file", self.log, prefix=inside)
        told = json.loads(done.stdout)
        self.assertEqual((done.returncode, told["anchors"]["journal"]["count"], told["proved"]), (GOOD, 2, 20))
        self.put(self.lines[:15])
        done = self.lkmctl("audit", "verify", "--json", "--file", self.log, prefix=inside)
        self.assertEqual((done.returncode, json.loads(done.stdout)["fault"]["kind"]), (TAMPERED, "cut"))


class Show(AuditCase):
    def shown(self, *arguments):
        """The numbers of the records that show and export give, which are the same."""
        table = self.audit("show", "--lines", "0", *arguments).splitlines()
        told = [record["seq"] for record in json.loads(self.audit("show", "--json", "--lines", "0", *arguments))["records"]]
        exported = self.audit("export", *arguments).splitlines(keepends=True)
        self.assertTrue(set(exported) <= set(self.lines))
        self.assertEqual([json.loads(line)["seq"] for line in exported], told)
        self.assertEqual([int(row.split()[0]) for row in table[1:]], told)
        rows = list(csv.DictReader(io.StringIO(self.audit("export", "--format", "csv", *arguments), newline="")))
        self.assertEqual([int(row["seq"]) for row in rows], told)
        return told

    def where(self, **members):
        return [record["seq"] for record in self.records if all(record.get(name) == value for name, value in members.items())]

    def test_filters_choose(self):
        self.assertEqual(self.shown(), list(range(1, 31)))
        self.assertEqual(self.shown("--user", "root"), self.where(uid=0))
        self.assertEqual(self.shown("--user", "65534"), self.where(uid=65534))
        self.assertEqual(self.shown("--scope", "billing"), self.where(scope="billing"))
        self.assertEqual(self.shown("--database", DATABASES[1]), self.where(database_id=DATABASES[1]))
        self.assertEqual(self.shown("--event", "deny"), self.where(event="deny"))
        self.assertEqual(self.shown("--decision", "allow"), self.where(decision="allow"))
        self.assertEqual(self.shown("--unit", "clinic.service"), self.where(unit="clinic.service"))
        self.assertEqual(self.shown("--unit", "clinic"), [])
        self.assertEqual(self.shown("--since", "2026-01-02T03:10:00Z", "--until", "2026-01-02 03:12:05.678901"), [10, 11, 12])
        self.assertEqual(self.shown("--since", "2026-01-03"), [])
        self.assertEqual(self.shown("--since", "2026-01-02", "--until", "2026-01-02 03:02"), [1])
        self.assertEqual(self.shown("--until", "-1h"), list(range(1, 31)))
        self.assertEqual(self.shown("--since", "today"), [])
        self.assertEqual(self.shown("--scope", "medical", "--user", "root", "--decision", "deny"), self.where(scope="medical", uid=0, decision="deny"))

    def test_times_are_those_of_the_reader(self):
        text = self.audit("show", "--lines", "1", TZ="Asia/Kathmandu")
        self.assertIn("2026-01-02 09:15:05", text)
        told = self.audit("export", "--since", "2026-01-02 09:15", TZ="Asia/Kathmandu").splitlines()
        self.assertEqual([json.loads(line)["seq"] for line in told], [30])

    def test_the_last_ones_are_shown(self):
        self.lines = chain(made(30) + [{**self.records[-1], "seq": seq} for seq in range(31, 131)])
        self.put(self.lines[:40], self.rotated(1, 40))
        self.put(self.lines[40:])
        for arguments, first in ((("--lines", "3"), 128), ((), 31), (("--lines", "0"), 1), (("--lines", "500"), 1)):
            rows = self.audit("show", *arguments).splitlines()[1:]
            self.assertEqual([int(row.split()[0]) for row in rows], list(range(first, 131)))

    def test_a_table_says_who_and_what(self):
        self.records[4].update({"label": "Zürich\x1b[31m", "unit": "clinic.service"})
        del self.records[5]["unit"]
        self.put(chain(self.records))
        rows = self.audit("show").splitlines()
        self.assertEqual(rows[0].split(), ["SEQ", "TIME", "EVENT", "USER", "PROCESS", "SCOPE", "DATABASE", "VERSION", "DECISION", "REASON"])
        self.assertEqual(rows[5].split(), ["5", "2026-01-02", "03:05:05", "deny", "nobody", "clinic.service", "medical", "Zürich?[31m", "1", "deny", "allow", "=", "uid:0"])
        self.assertEqual(rows[6].split()[4:6], ["root", "1006"])
        self.assertEqual(rows[1].split(), ["1", "2026-01-02", "03:01:05", "start", "-", "-", "-", "-", "-", "-", "-"])

    def test_what_is_no_record_is_left_out_and_told(self):
        self.put(self.lines[:11] + [self.lines[11].replace("v", "w")] + self.lines[12:] + ["{\"seq\":31"])
        for arguments in (("show", "--lines", "0"), ("export",), ("export", "--format", "csv")):
            done = self.lkmctl("audit", *arguments, "--file", self.log)
            self.assertEqual(done.returncode, UNREADABLE)
            self.assertIn(b"1 line was left out", done.stderr)
            self.assertIn(b"lkmctl audit verify", done.stderr)
            self.assertEqual(done.stdout.count(b"2026-01-02"), 29)

    def test_mistakes_are_told(self):
        for arguments, said in ((("show", "--since", "tomorrow"), b"is no time"), (("show", "--user", "nobody-of-that-name"), b"there is no user"),
                                (("show", "--decision", "maybe"), b"allow or deny"), (("export", "--format", "xml"), b"json or csv"),
                                (("show", "--lines", "x"), b"--lines takes a number"), (("verify", "--user", "root"), b"does not take --user"),
                                (("show", "--since", "2026-02-31x"), b"is no time"), (("tell",), b"audit verify|show|export")):
            done = self.lkmctl("audit", *arguments, "--file", self.log)
            self.assertEqual(done.returncode, USAGE, done)
            self.assertIn(said, done.stderr)


class Csv(AuditCase):
    def test_what_comes_back_is_what_was_written(self):
        texts = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "plain", "a,b", 'say "x"', "two\nlines", "cr\r\nlf", "Zürich 🔑", "'quoted'", "=a,\"b\"")
        for record, text in zip(self.records[1:], texts):
            record["label"] = text
        self.put(chain(self.records))
        raw = self.lkmctl("audit", "export", "--format", "csv", "--file", self.log).stdout
        self.assertTrue(raw.startswith(",".join(MEMBERS).encode() + b"\r\n"))
        rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
        self.assertEqual(len(rows), len(self.records))
        for row, text in zip(rows[1:], texts):
            self.assertEqual(row["label"], "'" + text if text[0] in "=+-@\t\r" else text)
        for row, record, line in zip(rows, self.records, chain(self.records)):
            wanted = {**{name: "" for name in MEMBERS}, **{name: str(value) for name, value in json.loads(line).items()}}
            self.assertEqual({**row, "label": ""}, {**wanted, "label": ""}, record)

    def test_stale_and_counts(self):
        self.records[1].update({"stale": True, "count": 7})
        self.put(chain(self.records))
        rows = list(csv.DictReader(io.StringIO(self.audit("export", "--format", "csv"), newline="")))
        self.assertEqual([(row["stale"], row["count"]) for row in rows[:2]], [("", ""), ("true", "7")])


class OfARunningDaemon(DaemonCase):
    """Its own log, and what it knows of that."""
    lkmd_options = "audit_max_size = 65536"

    def setUp(self):
        super().setUp()
        self.log = self.path("audit.jsonl")
        with self.client() as client:
            self.record = self.create(client)
        self.release(3)

    def release(self, n):
        for _ in range(n):
            with self.client() as client:
                self.assertEqual(len(self.get(client, self.record)), 32)

    def lkmctl(self, *arguments, code=GOOD):
        done = subprocess.run([*WRAPPER, LKMCTL, "--socket", self.socket, "--json", "audit", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=TIMEOUT, check=False, text=True)
        self.assertEqual(done.returncode, code, done)
        return json.loads(done.stdout)

    def lines(self):
        return self.read(self.log).splitlines(keepends=True)

    def test_the_log_is_found_and_its_end_is_proved(self):
        told = self.lkmctl("verify")
        self.assertEqual((told["file"], told["good"], told["first"], told["anchors"]["lkmd"]["count"], told["limit"]), (self.log, True, 1, 1, ""))
        self.assertEqual(told["proved"], json.loads(self.lines()[-1])["seq"])
        self.assertEqual([record["event"] for record in self.lkmctl("show", "--event", "release", "--user", str(os.getuid()))["records"]], ["release"] * 3)

    def test_the_chain_goes_on_over_rotated_files(self):
        self.release(400)
        told = self.lkmctl("verify")
        self.assertGreater(told["files"], 1)
        self.assertEqual((told["good"], told["first"], told["limit"]), (True, 1, ""))
        self.assertEqual(len(self.lkmctl("show", "--lines", "0", "--event", "release")["records"]), 403)

    def test_a_log_that_is_being_written_and_rotated_is_no_alarm(self):
        ended = threading.Event()

        def write():
            while not ended.is_set():
                self.release(20)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            files, n = set(), 0
            while len(files) < 4 or n < 20:
                told = self.lkmctl("verify")
                self.assertGreaterEqual(told["last"], told["proved"])
                self.assertTrue(writer.is_alive())
                files.add(told["files"])
                n += 1
        finally:
            ended.set()
            writer.join()

    def test_what_is_done_to_the_end_is_found_by_what_the_daemon_knows(self):
        lines, text = self.lines(), self.read(self.log)
        last = json.loads(lines[-1])
        anew = chain([json.loads(line) for line in lines[:2]] + [{**json.loads(line), "uid": 4711} for line in lines[2:]])
        more = chain([{**last, "seq": last["seq"] + 1}], last["hash"])
        for changed, kind, sequence in ((lines[:-1], "cut", last["seq"]), (anew, "rechained", last["seq"]), (lines + more, "inserted", last["seq"] + 1)):
            with open(self.log, "w") as log:
                log.write("".join(changed))
            fault = self.lkmctl("verify", code=TAMPERED)["fault"]
            self.assertEqual((fault["kind"], fault["sequence"]), (kind, sequence), fault)
        with open(self.log, "w") as log:
            log.write(text)
        self.assertTrue(self.lkmctl("verify")["good"])

    def test_checkpoints_that_it_told_prove_the_log_afterwards(self):
        self.lkmd.terminate()
        _, said = self.lkmd.communicate(timeout=TIMEOUT)
        told = [line + "\n" for line in said.decode().splitlines() if "audit checkpoint " in line]
        if not told:
            self.skipTest("there is a journal, which has the checkpoints")
        path = self.write("checkpoints", "".join(told))
        verdict = self.lkmctl("verify", "--file", self.log, "--checkpoints", path)
        self.assertEqual((verdict["anchors"]["checkpoints"]["count"], verdict["anchors"]["lkmd"]["count"], verdict["limit"]), (len(told), 0, ""))


class ManPage(AuditCase):
    def block(self, begin):
        with open(MAN) as file:
            blocks = re.findall(r"^```\n(.*?)^```", file.read(), re.M | re.S)
        return next(block for block in blocks if block.startswith(begin)).replace("\\\\", "\\")

    def test_the_program_of_the_page_verifies_a_log(self):
        program = self.write("verify.py", self.block("import hashlib"))

        def run(lines):
            return subprocess.run([sys.executable, program], input="".join(lines), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        done = run(self.lines)
        self.assertEqual((done.returncode, done.stdout), (0, f"30 {self.hash(30)}\n"), done.stderr)
        for bad in (self.lines[:11] + self.lines[12:], self.lines[:11] + [self.lines[11].replace("clinic", "clinik")] + self.lines[12:],
                    self.lines[:11] + [self.lines[11].replace("}", " }")] + self.lines[12:], self.lines[:11] + [self.lines[12], self.lines[11]] + self.lines[13:]):
            done = run(bad)
            self.assertEqual((done.returncode, done.stderr), (1, "record 12 is not what was written\n"))

    def test_the_shell_of_the_page_proves_a_line(self):
        done = subprocess.run(["sh", "-ec", self.block("head -n 1")], cwd=self.directory, stdout=subprocess.PIPE, text=True, check=True)
        computed, told = done.stdout.splitlines()
        self.assertEqual((computed.split()[0], told), (self.hash(1), self.hash(1)))

    def test_the_page_has_every_event_that_lkmd_writes(self):
        with open(MAN) as file:
            said = re.search(r"^\*event\*\n(.*?)^\*uid\*", file.read(), re.M | re.S).group(1)
        events = set()
        for folder in ("daemon", "proto"):
            for name in os.listdir(os.path.join(ROOT, folder)):
                if name.endswith((".c", ".h")):
                    text = self.read(os.path.join(ROOT, folder, name))
                    events |= set(re.findall(r'(?:\.event = |request_event\(\w+, |#define AUDIT_EVENT_\w+ |number == MESSAGE_\w+ +\? )"([a-z-]+)"', text))
        self.assertLess({"release", "open", "lock"}, events)
        self.assertEqual({event for event in events if not re.search(rf"\b{event}\b", said)}, set())

    def test_the_page_has_the_members_in_their_order(self):
        with open(MAN) as file:
            section = re.search(r"^# LINES\n(.*?)^# ", file.read(), re.M | re.S).group(1)
        self.assertEqual(tuple(re.findall(r"\*(\w+)\*", section)), MEMBERS)


if __name__ == "__main__":
    unittest.main()
