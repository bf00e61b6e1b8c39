# SPDX-License-Identifier: Apache-2.0
"""The audit log: the journal has what proves its end, and verifying it finds what somebody with root's rights changed."""
import json
import unittest

import support

AUDIT_FILE = "/var/log/lkm/audit.jsonl"


class Audit(support.SystemCase):
    def lines(self):
        return [json.loads(line) for line in self.machine.read(AUDIT_FILE).splitlines()]

    def checkpoints(self):
        """(sequence, hash) of each, from the journal."""
        self.run_in("journalctl", "--sync")
        said = self.run_in("journalctl", "--boot", "--no-pager", "--output=json", "LKM_AUDIT_FILE=" + AUDIT_FILE, check=False).stdout
        entries = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return [(int(entry["LKM_AUDIT_SEQ"]), entry["LKM_AUDIT_HASH"]) for entry in entries]

    def test_a_release_names_who_got_the_key_and_in_which_unit(self):
        self.clinic("lkmctl create audit.db\nlkmctl get audit.db | cat >/dev/null")
        uid = int(self.run_in("id", "-u", "clinic").stdout)
        releases = [line for line in self.lines() if line["event"] == "release"]
        self.assertTrue(releases)
        self.assertEqual(releases[-1]["uid"], uid)
        self.assertEqual(releases[-1].get("unit", "clinic.service"), "clinic.service")

    def test_a_stop_leaves_a_checkpoint_in_the_journal_that_the_log_agrees_with(self):
        self.database("checkpoint.db")
        self.run_in("systemctl", "stop", "lkmd.service")
        hashes = {line["seq"]: line["hash"] for line in self.lines()}
        checkpoints = self.checkpoints()
        self.assertTrue(checkpoints)
        for sequence, digest in checkpoints:
            self.assertEqual(hashes[sequence], digest)
        self.run_in("lkmctl", "audit", "verify")

    def test_a_log_that_was_cut_short_is_found_through_the_journal(self):
        self.database("cut.db")
        self.run_in("systemctl", "stop", "lkmd.service")
        self.run_in("lkmctl", "audit", "verify")
        whole = self.machine.read(AUDIT_FILE)
        lines = whole.splitlines(keepends=True)
        self.machine.write(AUDIT_FILE, "".join(lines[:-2]), mode=0o600)
        self.assertNotEqual(self.run_in("lkmctl", "audit", "verify", check=False).returncode, 0)
        self.machine.write(AUDIT_FILE, whole, mode=0o600)
        self.run_in("lkmctl", "audit", "verify")


if __name__ == "__main__":
    unittest.main()
