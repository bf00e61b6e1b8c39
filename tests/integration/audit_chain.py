# SPDX-License-Identifier: Apache-2.0
"""Reading the audit log the way lkm-audit(5) describes it, without anything of lkm."""
import glob
import hashlib
import json


class Chain:
    """The records of one or several files, in this order. Raises when a line is not what was written, or does not follow the one before."""

    def __init__(self, *paths):
        self.records = []
        self.number, self.hash = 0, "0" * 64
        for path in paths:
            self.take(path)

    def take(self, path):
        with open(path, "rb") as log:
            for line in log:
                text = line.split(b',"hash":"')[0]
                record = json.loads(line)
                right = hashlib.sha256(text).hexdigest()
                if line != text + b',"hash":"%s"}\n' % right.encode() or record["seq"] != self.number + 1 or record["prev"] != self.hash:
                    raise AssertionError(f"{path}: record {self.number + 1} is not what was written: {line}")
                self.number, self.hash = record["seq"], right
                self.records.append(record)

    def events(self):
        return [record["event"] for record in self.records]

    def of(self, event):
        return [record for record in self.records if record["event"] == event]


def whole_chain(path):
    """With the files that were moved away, by the names that lkmd gives them."""
    return Chain(*sorted(glob.glob(path + ".0*")), path)
