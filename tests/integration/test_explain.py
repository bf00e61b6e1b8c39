# SPDX-License-Identifier: Apache-2.0
"""EXPLAIN and lkmctl explain: which rule decides about each right, for the caller and for somebody else, and that it is true."""
import grp
import json
import os
import pwd
import subprocess
import unittest

import support
from cgroups import in_child
from daemons import DaemonCase, nobody
from support import BUILD, ERROR, EXPLAIN, GET, KEY, STATUS, TIMEOUT, Client
from test_policy import kernel_tells_units

LKMCTL = os.path.join(BUILD, "client/lkmctl")
PROTOCOL, DENIED = 1, 10
NONE = {"allowed": False, "rule": "no rule"}
RIGHTS = ["use", "create", "rotate", "history", "recover", "admin"]


class ExplainCase(DaemonCase):
    def explain(self, credentials=b"", unit=b"", scope=b"medical", client=None):
        fields = [(2, scope), *([(3, credentials)] if credentials else []), *([(4, unit)] if unit else [])]
        reply = (client or self.client()).ask(EXPLAIN, fields)
        return reply if reply.number == ERROR else reply.json

    def ctl(self, *arguments, status=0):
        done = subprocess.run([*support.WRAPPER, LKMCTL, "--socket", self.socket, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr


class Requests(ExplainCase):
    unit_rule = " unit:clinic.service" if kernel_tells_units() else ""
    scope_options = f"allow_rotate = gid:7000{unit_rule}\nallow_history = uid:7001\nallow_recover ="

    def rights(self, *credentials):
        return {right: decision["rule"] for right, decision in self.explain(*credentials)["rights"].items() if decision["allowed"]}

    def test_each_right_of_somebody_else_is_told_with_its_rule(self):
        self.assertEqual(self.rights(b"5000 5000"), {})
        self.assertEqual(self.rights(b"5000 7000"), {"rotate": "gid:7000"})
        self.assertEqual(self.rights(b"5000 1 2 7000 3"), {"rotate": "gid:7000"})
        self.assertEqual(self.rights(b"7001 1"), {"history": "uid:7001"})
        answer = self.explain(b"5000 1 2 3")
        self.assertEqual({name: answer[name] for name in ("scope", "uid", "gid", "groups", "unit")},
                         {"scope": "medical", "uid": 5000, "gid": 1, "groups": [2, 3], "unit": None})
        self.assertEqual(sorted(answer["rights"]), sorted(RIGHTS))

    @unittest.skipUnless(unit_rule, "this kernel has no SO_PEERPIDFD")
    def test_a_unit_can_be_supposed(self):
        self.assertEqual(self.rights(b"5000 1", b"clinic.service"), {"rotate": "unit:clinic.service"})
        self.assertEqual(self.rights(b"5000 1", b"other.service"), {})
        me = self.explain(b"", b"clinic.service")
        self.assertEqual((me["uid"], me["unit"], me["rights"]["rotate"]["rule"]), (os.getuid(), "clinic.service", "unit:clinic.service"))

    def test_only_an_administrator_asks_about_others(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")

        def ask():
            with Client(self.socket) as client:
                mine = self.explain(f"{nobody().pw_uid} 7000".encode(), client=client)
                return json.dumps([self.explain(b"7001 1", client=client).error, mine["rights"]["rotate"]]).encode()

        answer = json.loads(in_child(ask, lambda: (os.setgroups([]), os.setgid(nobody().pw_gid), os.setuid(nobody().pw_uid))))
        self.assertEqual(answer, [DENIED, {"allowed": True, "rule": "gid:7000"}])

    def test_credentials_are_decimals_with_one_space_between(self):
        for wrong in (b"1", b"1 ", b" 1 2", b"1  2", b"1 2 ", b"1 2 x", b"-1 2", b"1,2", b"4294967295 1", b"1 4294967295", b"99999999999999999999 1",
                      b"0x1 2", b"1 2 3 4294967296", b"root root"):
            self.assertEqual(self.explain(wrong).error, PROTOCOL, wrong)
        self.assertEqual(len(self.explain(b"1 2" + b" 1" * 510)["groups"]), 510)
        self.assertEqual(self.explain(b"1 2" + b" 1" * 511).error, PROTOCOL)  # longer than the field
        for wrong in (b"clinic", b"system.slice", b"a/b.service"):
            self.assertEqual(self.explain(b"1 2", wrong).error, PROTOCOL, wrong)

    def test_what_is_explained_is_what_happens(self):
        """For real users: the answer about each, and what a process of his gets."""
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        record = self.create(self.client())
        daemon = pwd.getpwnam("daemon")
        self.write("lkmd.conf", self.read(self.config).replace("allow = uid:0", f"allow = uid:0 gid:{daemon.pw_gid}"))
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")

        def get():
            with Client(self.socket) as client:
                return bytes([client.ask(GET, [(1, record)]).number == KEY])

        for uid, gid, groups in ((daemon.pw_uid, daemon.pw_gid, []), (5000, 1, []), (5000, 5000, [5, daemon.pw_gid]), (5000, 5000, [5]), (0, 0, [])):
            told = self.explain(" ".join(map(str, (uid, gid, *groups))).encode())["rights"]["use"]["allowed"]
            got = in_child(get, lambda: (os.setgroups(groups), os.setgid(gid), os.setuid(uid)))  # pylint: disable=cell-var-from-loop
            self.assertEqual(bytes([told]), got, (uid, gid, groups))


class Lkmctl(ExplainCase):
    unit_rule = Requests.unit_rule

    def setUp(self):
        self.user = pwd.getpwnam("daemon")
        self.scope_options = f"allow_rotate = user:{self.user.pw_name}{self.unit_rule}"
        super().setUp()

    def rows(self, *arguments):
        """Of the table of rights: {right: [allowed, rule]}."""
        said = self.ctl("explain", *arguments, "--scope", "medical")
        table = said[said.index("RIGHT"):].splitlines()[1:]
        self.assertEqual([row.split()[0] for row in table], RIGHTS)
        return said, {right: row.split(maxsplit=1)[1].strip() for right, row in zip(RIGHTS, table)}

    def test_a_user_is_told_by_name_with_his_groups(self):
        group = grp.getgrgid(self.user.pw_gid)
        said, rights = self.rows("--as", self.user.pw_name)
        self.assertRegex(said, rf"(?m)^uid +{self.user.pw_uid} \({self.user.pw_name}\)$")
        self.assertRegex(said, rf"(?m)^gid +{group.gr_gid} \({group.gr_name}\)$")
        self.assertRegex(rights["rotate"], rf"^yes +user:{self.user.pw_name}$")
        for right in ("use", "create", "history", "recover", "admin"):
            self.assertRegex(rights[right], "^no +no rule$")
        by_number = json.loads(self.ctl("--json", "explain", "--as", str(self.user.pw_uid), "--scope", "medical"))
        self.assertEqual(by_number["rights"]["rotate"], {"allowed": True, "rule": f"user:{self.user.pw_name}"})
        self.assertEqual(by_number["groups"], sorted(set(os.getgrouplist(self.user.pw_name, self.user.pw_gid)), key=by_number["groups"].index))

    @unittest.skipUnless(unit_rule, "this kernel has no SO_PEERPIDFD")
    def test_a_unit_is_supposed(self):
        said, rights = self.rows("--as", "bin", "--unit", "clinic.service")
        self.assertRegex(said, r"(?m)^unit +clinic.service$")
        self.assertRegex(rights["rotate"], "^yes +unit:clinic.service$")

    def test_a_database_is_asked_about(self):
        self.ctl("create", "--scope", "medical", self.path("a.db"))
        self.assertIn(f"user:{self.user.pw_name}", self.ctl("explain", "--as", self.user.pw_name, self.path("a.db")))

    def test_mistakes_are_clear(self):
        self.assertIn("no user nobody-of-this-name", self.ctl("explain", "--as", "nobody-of-this-name", "--scope", "medical", status=2))
        self.assertIn("no user 4000000000", self.ctl("explain", "--as", "4000000000", "--scope", "medical", status=2))
        self.assertIn("full name", self.ctl("explain", "--unit", "clinic", "--scope", "medical", status=1))
        self.assertIn("does not take --as", self.ctl("check", "--as", "root", self.path("a.db"), status=2))


class AdminSocket(ExplainCase):
    def configure(self, **changes):
        super().configure(lkmd=f"admin_socket = {self.directory}/admin.sock", **changes)

    def test_the_right_that_is_refused_on_the_ordinary_socket_says_so(self):
        said = self.ctl("explain", "--scope", "medical")
        self.assertRegex(said, rf"(?m)^admin +yes, on {self.path('admin.sock')} only +uid:{os.getuid()}$")
        self.assertEqual(self.explain()["rights"]["admin"], {"allowed": True, "rule": f"uid:{os.getuid()}", "socket": self.path("admin.sock")})
        self.assertEqual(self.client().ask(STATUS).error, DENIED)

    def test_asking_about_others_is_for_the_socket_for_administrators(self):
        refused = self.explain(b"7001 1")
        self.assertEqual(refused.error, DENIED)
        self.assertIn(self.path("admin.sock"), refused.sentence)
        with Client(self.path("admin.sock")) as admin:
            answer = self.explain(b"7001 1", client=admin)
        self.assertEqual(answer["rights"]["admin"], {**NONE, "socket": self.path("admin.sock")})


if __name__ == "__main__":
    unittest.main()
