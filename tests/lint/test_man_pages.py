# SPDX-License-Identifier: Apache-2.0
"""The man pages say what the programs and headers say, no more and no less.  test_man_pages.py BUILD-FOLDER"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
PROGRAMS = {"lkmd": ("daemon/lkmd", "lkmd.8"), "lkm-kms": ("daemon/kms/lkm-kms", "lkm-kms.8"), "lkm-run": ("daemon/run/lkm-run", "lkm-run.1"),
            "lkmctl": ("client/lkmctl", "lkmctl.1"), "lkm-rekey": ("client/lkm-rekey", "lkm-rekey.8"), "lkm-mock-kms": ("tests/mock-kms/lkm-mock-kms", "lkm-mock-kms.1")}


def read(name):
    with open(os.path.join(ROOT, name)) as file:
        return file.read()


def page(name):
    """The text of a page, without scdoc's escapes."""
    return read(f"packaging/man/{name}.scd").replace("\\", "")


def help_of(name):
    return subprocess.run([os.path.join(build, PROGRAMS[name][0]), "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout


def commands_of_lkmctl():
    """As --help lists them: of one word, or of two where the second one is no argument (those are in capitals)."""
    section = re.search(r"^Commands:\n(.*?)^Options:", help_of("lkmctl"), re.M | re.S).group(1)
    return re.findall(r"^  ([a-z]+(?: [a-z]+)?)", section, re.M)


def squeezed(text):
    return " ".join(text.split())


class ManPages(unittest.TestCase):
    def test_each_exported_function_is_there_with_its_prototype(self):
        exported = set(re.findall(r"^\s+(lkm_\w+);", read("client/liblkm.map") + read("client/liblkm-sqlcipher.map"), re.M))
        headers = read("client/lkm.h") + read("client/lkm-sqlcipher.h")
        prototypes = {squeezed(text) for text in re.findall(r"^LKM_PUBLIC ([^;]*;)", headers, re.M)}
        blocks = re.findall(r"^```\n(.*?)^```", page("liblkm.3"), re.M | re.S)
        written = {squeezed(block) for block in blocks if re.match(r"[^{]*\w\(.*\);\s*$", block, re.S) and not block.startswith("typedef")}
        self.assertEqual({re.search(r"(lkm_\w+)\(", text).group(1) for text in prototypes}, exported)
        self.assertEqual(written, prototypes)

    def test_each_error_is_there_with_its_sentence(self):
        text = page("liblkm.3")
        errors = re.findall(r'^(?:PROTO|CLIENT)_ERROR\((\w+), (\d+), "(.*)"\)$', read("proto/errors.def") + read("client/errors.def"), re.M)
        wanted = {(f"LKM_E_{name}", number, sentence) for name, number, sentence in errors if not 60 <= int(number) < 100}
        self.assertEqual(set(re.findall(r"^\*(LKM_E_\w+)\* \((\d+)\)\n\t(.*)$", text, re.M)), wanted)

    def test_each_option_of_the_configuration_is_there_with_its_default(self):
        table = re.findall(r'\{ SECTION_(\w+), "(\w+)",[^}]*?(NULL|"[^"]*"),\s+(?:true|false)(?:, [A-Z |]+)?(?:, 0, "\w+")? \}', read("daemon/config.c"))
        self.assertEqual(len(table), len(re.findall(r"^ +\{ SECTION_", read("daemon/config.c"), re.M)))
        text = page("lkmd.conf.5")
        written = []
        for section, body in re.findall(r"^# \[(\w+)[^\]]*\]\n(.*?)(?=^# )", text, re.M | re.S):
            written += [(section.upper(), key, said) for key, said in re.findall(r"^\*(\w+)\* = .*\n((?:\t.*\n)+)", body, re.M)]
        self.assertEqual([(section, key) for section, key, _ in written], [(section, key) for section, key, _ in table])
        for (_, key, said), (_, _, standard) in zip(written, table):
            standard = standard.strip('"')
            if standard not in ("NULL", "", "AES_256"):
                self.assertIn(f"Default: {standard}", squeezed(said), key)

    def test_each_option_of_the_programs_is_there(self):
        for name, (_, file) in PROGRAMS.items():
            printed = set(re.findall(r"^ +(--[\w-]+)", help_of(name), re.M))
            written = set(re.findall(r"^\*(--[\w-]+)\*", page(file), re.M))
            self.assertEqual(written, printed, name)

    def test_each_control_request_of_the_mock_is_there(self):
        table = re.search(r"handlers\[\] = \{\n(.*?)^\};", read("tests/mock-kms/control.c"), re.M | re.S).group(1)
        written = re.findall(r"^\*(GET|POST|DELETE) /mock/([\w/-]+)\*", page("lkm-mock-kms.1"), re.M)
        self.assertEqual(written, re.findall(r'\{ "(\w+)", "([^"]+)"', table))

    def test_each_command_of_lkmctl_is_there(self):
        written = re.search(r"^# COMMANDS\n(.*?)^# ", page("lkmctl.1"), re.M | re.S).group(1)
        self.assertEqual(re.findall(r"^\*([\w ]+)\*", written, re.M), commands_of_lkmctl())
        codes = re.findall(r"^  (\d)  +(.*)$", help_of("lkmctl"), re.M)
        self.assertEqual([(code, said.rstrip(".").lower()) for code, said in re.findall(r"^\*(\d)\*\n\t(.*)$", page("lkmctl.1"), re.M)],
                         [(code, said.lower()) for code, said in codes])

    def test_completion_offers_what_lkmctl_knows(self):
        script, text = read("packaging/completions/lkmctl"), help_of("lkmctl")
        words = dict(re.findall(r"\b(commands|kek|audit)='([^']*)'", script))
        offered = [name for name in words.pop("commands").split() if name not in words]
        offered += [f"{group} {name}" for group, names in words.items() for name in names.split()]
        self.assertEqual(offered, commands_of_lkmctl())
        everywhere, of_command = set(), {}
        for option, rest in re.findall(r"^  (--[\w-]+)(.*)$", text, re.M):
            commands = re.search(r"\[([a-z ]+)\]$", rest)
            if not commands:
                everywhere.add(option)
            for command in commands.group(1).split() if commands else ():
                of_command.setdefault(command, set()).add(option)
        self.assertEqual(set(re.search(r"global='([^']*)'", script).group(1).split()), everywhere)
        self.assertEqual({command: set(options.split()) for command, options in re.findall(r"\[(\w+)\]='([^']*)'", script)}, of_command)

    def test_examples_compile(self):
        flags = subprocess.run(["pkg-config", "--cflags", "sqlcipher"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        readme = re.search(r"```c\n(.*?)```", read("README.md"), re.S).group(1)
        include, body = readme.split("\n", 1)
        programs = [block for block in re.findall(r"^```\n(.*?)^```", read("packaging/man/liblkm.3.scd"), re.M | re.S) if block.startswith("#include")]
        self.assertEqual(len(programs), 2)
        programs.append(f"#include <stdio.h>\n#include <sqlite3.h>\n{include}\nvoid example(void);\nvoid example(void)\n{{{body}}}\n")
        for program in programs:
            with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
                file.write(program)
                file.flush()
                done = subprocess.run([os.environ.get("CC", "cc"), "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", os.path.join(ROOT, "client"), *flags,
                                       file.name], stderr=subprocess.PIPE, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    build = sys.argv.pop(1)
    unittest.main()
