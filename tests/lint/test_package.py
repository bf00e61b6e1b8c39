# SPDX-License-Identifier: Apache-2.0
"""The Debian source package says the same as what it packages.  test_package.py BUILD-FOLDER"""
import grp
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
# Of packaging/dependencies: what is always there, what another one brings (pkgconf and pkg-config are one), and what the quickstart alone needs.
NOT_BUILD_DEPENDS = {"gcc", "libc6-dev", "ninja-build", "pkg-config", "python3", "sqlcipher", "ca-certificates"}


def read(path):
    with open(os.path.join(ROOT, path)) as file:
        return file.read()


class Package(unittest.TestCase):
    def test_symbols_are_those_that_the_libraries_export(self):
        listed = {}
        for line in read("packaging/debian/liblkm1.symbols").splitlines():
            if line.startswith("lib"):
                library = listed.setdefault(line.split()[0], set())
            elif line.startswith(" "):
                library.add(line.split()[0])
        exported = {}
        for library in ("liblkm", "liblkm-sqlcipher"):
            text = read(f"client/{library}.map")
            version = text[text.index("LKM"):].split()[0]
            exported[library + ".so.1"] = {f"{name}@{version}" for name in [version, *re.findall(r"^\s+(lkm_\w+);", text, re.M)]}
        self.assertEqual(listed, exported)

    def test_version_is_that_of_the_build(self):
        self.assertEqual(re.match(r"lkm \((\S+)\)", read("packaging/debian/changelog"))[1], re.search(r"version: '([^']+)'", read("meson.build"))[1])

    def test_what_the_build_needs_is_named(self):
        named = set(re.findall(r"[a-z0-9+.-]+", re.search(r"^Build-Depends:(.*?)^\S", read("packaging/debian/control"), re.M | re.S)[1]))
        needed = set(re.findall(r"^build (\S+)", read("packaging/dependencies"), re.M))
        self.assertEqual(needed - named - NOT_BUILD_DEPENDS, set())
        self.assertIn("libssl-dev", needed & named) # the two are read as meant

    def test_configuration_is_accepted(self):
        text = read("packaging/lkmd.conf")
        self.assertIn("group:lkm-users", text) # made by the installation
        with tempfile.NamedTemporaryFile("w", prefix="lkm-test-", suffix=".conf") as file:
            file.write(text.replace("group:lkm-users", f"group:{grp.getgrgid(0).gr_name}"))
            file.flush()
            done = subprocess.run([os.path.join(build, "daemon/lkmd"), "--config", file.name, "--check-config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_kek_that_the_installation_makes_is_the_one_that_is_configured(self):
        name = re.search(r"^kek_credential\s*=\s*(\S+)$", read("packaging/lkmd.conf"), re.M)[1]
        made = re.search(r"^\s+lkm-kms --generate-kek (\S+)", read("packaging/debian/lkm.postinst"), re.M)[1]
        self.assertEqual(made, f"/etc/lkm/credentials/{name}")
        self.assertIn("LoadCredential=lkm:/etc/lkm/credentials\n", read("systemd/lkm-kms.service.in"))

    def test_users_that_are_used_are_made(self):
        made = set(re.findall(r"^[ug] (\S+)", read("systemd/sysusers.conf"), re.M))
        used = set(re.findall(r"\b(?:group|user):(\S+)", read("packaging/lkmd.conf"))) | set(re.findall(r"^d \S+ \S+ (\S+)", read("systemd/tmpfiles.conf"), re.M))
        self.assertLessEqual(used - {"root"}, made)


if __name__ == "__main__":
    build = sys.argv.pop(1)
    unittest.main()
