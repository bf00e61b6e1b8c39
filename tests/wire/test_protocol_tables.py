# SPDX-License-Identifier: Apache-2.0
"""PROTOCOL.md says what messages.def, errors.def and frame.h say."""
import os
import re
import unittest

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../proto")


def read(name):
    with open(os.path.join(PROTO, name)) as file:
        return file.read()


class Tables(unittest.TestCase):
    def test_messages_and_fields_are_those_of_the_table(self):
        said, message = set(), None
        for line in read("PROTOCOL.md").splitlines():
            if match := re.match(r"#### (\w+) `(0x\w+)`", line):
                message = match[1]
                said.add((message, match[2]))
            elif match := re.match(r"\| (\d+) \| (\w+) \| (\w+) \| (MUST|MAY) \| (\S+) \|", line):
                said.add((message, *match.groups()))
        text = read("messages.def")
        true = set(re.findall(r"^MESSAGE\((\w+), \w+, (0x\w+)", text, re.M))
        for name, field, tag, kind, presence, limit in re.findall(
                r"^FIELD\((\w+), \w+, (\w+), (\d+), (\w+), (\w+), (\d+)", text, re.M):
            true.add((name, tag, field, kind, presence, "-" if limit == "0" else limit))
        self.assertGreater(len(true), 50)
        self.assertEqual(said, true)

    def test_errors_are_those_of_the_list(self):
        said = set(re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (.*) \|$", read("PROTOCOL.md"), re.M))
        true = {(number, name, text) for name, number, text in re.findall(r'^PROTO_ERROR\((\w+), (\d+), "(.*)"\)', read("errors.def"), re.M)}
        self.assertGreater(len(true), 20)
        self.assertEqual(said, true)


if __name__ == "__main__":
    unittest.main()
