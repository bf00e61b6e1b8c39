# SPDX-License-Identifier: Apache-2.0
"""Static analysis of lkm's own sources by gcc -fanalyzer, clang-analyzer or cppcheck.

    analysis.py BUILD-FOLDER gcc | clang | cppcheck [FILE-PREFIX...]

Takes the sources and their flags from compile_commands.json. A finding fails, unless `suppressions` beside this file names it with its
reason. Ends with 77 where the tool is not installed.
"""
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
OURS = ("common/", "proto/", "daemon/", "client/")
SUPPRESSIONS_MAX = 5
FINDING = re.compile(r"^([^\s:][^:]*):(\d+):(?:\d+:)? (?:warning|error|style|performance|portability): (.*?) ?\[([^\]]*)\]$", re.M)


class Command:
    """How one source is compiled: what of its flags a tool has to know."""

    def __init__(self, entry):
        self.folder = entry["directory"]
        self.source = os.path.relpath(os.path.join(self.folder, entry["file"]), ROOT)
        words = iter(shlex.split(entry["command"]))
        self.flags = []
        for word in words:
            if word in ("-include", "-isystem"):
                self.flags += [word, next(words)]
            elif word.startswith(("-I", "-D", "-std=")):
                self.flags.append(word)

    def run(self, *words):
        done = subprocess.run(words, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
        return done.returncode, done.stdout


def run_gcc(command):
    # -O0: it follows what is written; of code that an optimizer has merged it makes up paths.
    return command.run("gcc", *command.flags, "-O0", "-fanalyzer", "-c", "-o", "/dev/null", os.path.join(ROOT, command.source))


def run_clang(command):
    return command.run("clang", "--analyze", "--analyzer-output", "text", "-Qunused-arguments", *command.flags, "-o", "/dev/null",
                       os.path.join(ROOT, command.source))


def run_cppcheck(command):
    # Not its descriptions of POSIX and GNU: those of 2.10 allow no NULL where getsockopt(2) and accept4(2) do. Not portability: lkm is for Linux.
    flags = []
    for flag in command.flags:
        if not flag.startswith("-std="):
            flags.append(f"--include={flag}" if flags and flags[-1] == "-include" else flag)
    flags = [flag for flag in flags if flag not in ("-include", "-isystem")]
    return command.run("cppcheck", "--quiet", "--std=c11", "--platform=unix64", "--enable=warning,performance", "--inconclusive",
                       "--template={file}:{line}: {severity}: {message} [{id}]", *flags, os.path.join(ROOT, command.source))


TOOLS = {"gcc": run_gcc, "clang": run_clang, "cppcheck": run_cppcheck}


class Suppression:
    """TOOL CHECK FILE REASON: one check of one tool in one file, or in all with *."""

    def __init__(self, line):
        words = line.split(None, 3)
        if len(words) < 4 or words[0] not in TOOLS:
            sys.exit(f"suppressions: '{line}' is not TOOL CHECK FILE REASON")
        self.tool, self.check, self.file, self.reason = words
        self.used = False

    def covers(self, source, check):
        if self.check != check or self.file not in ("*", source):
            return False
        self.used = True
        return True


def read_suppressions():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "suppressions")) as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    if len(lines) > SUPPRESSIONS_MAX:
        sys.exit(f"suppressions: {len(lines)} of them; at most {SUPPRESSIONS_MAX} may be there")
    return [Suppression(line) for line in lines]


def read_commands(build, prefixes):
    with open(os.path.join(build, "compile_commands.json")) as file:
        commands = [Command(entry) for entry in json.load(file)]
    found = {}
    for command in commands:
        if command.source.startswith(OURS) and command.source.startswith(prefixes):
            found.setdefault(command.source, command)  # a file of two targets once
    return [found[source] for source in sorted(found)]


def main():
    build, tool = sys.argv[1:3]
    if not shutil.which(tool):
        print(f"{tool} is not installed: skipped")
        return 77
    suppressions = [s for s in read_suppressions() if s.tool == tool]
    commands = read_commands(build, tuple(sys.argv[3:]) or ("",))
    findings = set()
    failed = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for command, (status, output) in zip(commands, pool.map(TOOLS[tool], commands)):
            if status:
                failed.append(f"{command.source}: {tool} failed\n{output}")
            for name, line, message, check in FINDING.findall(output):
                source = os.path.relpath(os.path.join(command.folder, name), ROOT)
                check = check.split()[-1] if tool == "gcc" else check
                if not any(s.covers(source, check) for s in suppressions):
                    findings.add((source, int(line), check, message))
    for finding in sorted(findings):
        print("%s:%d: [%s] %s" % finding)
    print("\n".join(failed))
    for s in suppressions:
        if not s.used:
            print(f"suppressions: {s.tool} {s.check} {s.file} covers nothing here: remove it, unless another version of the tool needs it")
    print(f"{tool}: {len(commands)} files, {len(findings)} findings, {sum(s.used for s in suppressions)} suppressions used")
    return 1 if findings or failed or not commands else 0


if __name__ == "__main__":
    sys.exit(main())
