# SPDX-License-Identifier: Apache-2.0
"""Rules of the source that a grep can check."""
import os
import re
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
FOLDERS = ("common", "proto", "daemon", "client", "systemd", "tests", "packaging")
MAY_INCLUDE = {"common": {"common"}, "proto": {"common", "proto"}, "daemon": {"common", "proto", "daemon"},
               "client": {"common", "proto", "client"}}


def sources(*endings):
    for folder in FOLDERS:
        for path, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in names:
                if name.endswith(endings):
                    full = os.path.join(path, name)
                    with open(full) as file:
                        yield os.path.relpath(full, ROOT), file.read()


class Source(unittest.TestCase):
    def test_every_file_names_its_licence(self):
        for name, text in sources(".c", ".h", ".def", ".py", "meson.build"):
            self.assertIn("SPDX-License-Identifier: Apache-2.0", text[:200], name)

    def test_includes_go_one_way(self):
        for name, text in sources(".c", ".h"):
            for included in re.findall(r'^#include "(\w+)/', text, re.M):
                allowed = MAY_INCLUDE.get(name.split("/")[0])
                if allowed:
                    self.assertIn(included, allowed, f"{name} includes {included}/")

    def test_the_mock_shares_nothing_with_what_it_tests(self):
        for name, text in sources(".c", ".h"):
            if name.startswith("tests/mock-kms/"):
                for included in re.findall(r'^#include "([^"]+)"', text, re.M):
                    self.assertRegex(included, r"^(common|tests/mock-kms)/\w", f"{name} includes {included}")

    def test_views_of_secrets_are_opened_only_where_it_is_listed(self):
        with open(os.path.join(ROOT, "tests/lint/secret-views")) as file:
            listed = {line.strip() for line in file if line.strip() and not line.startswith("#")}
        opened = {name for name, text in sources(".c") if "secret_view_begin(" in text and not name.startswith("tests/")}
        self.assertEqual(opened - {"common/secret.c"}, listed)

    def test_no_test_sleeps(self):
        for name, text in sources(".c", ".py"):
            if name.startswith("tests/") and not name.startswith("tests/lint/"):
                self.assertIsNone(re.search(r"\b(time\.sleep|usleep|nanosleep|sleep)\(", text), name)

    def test_nothing_is_left_for_later(self):
        for name, text in sources(".c", ".h", ".def", ".md", "meson.build"):
            self.assertIsNone(re.search(r"\b(TODO|FIXME|XXX)\b", text), name)

    def test_files_stay_short(self):
        for name, text in sources(".c", ".h"):
            self.assertLessEqual(text.count("\n"), 600, f"{name} is longer than 600 lines")


if __name__ == "__main__":
    unittest.main()
