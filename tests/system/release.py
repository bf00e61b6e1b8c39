# SPDX-License-Identifier: Apache-2.0
"""One Debian: the root in which the packages are built, the packages, and the root that has what they depend on and nothing else of lkm's."""
import glob
import os
import re
import shutil
import subprocess
import sys

from machine import Machine, Overlay

HERE = os.path.dirname(os.path.realpath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", "/var/cache"), "lkm-tests")
SUITES = {"12": "bookworm", "13": "trixie"}
# Where alternatives of a build dependency are no packages of all of them.
ALTERNATIVES = {"12": [], "13": ["systemd-dev"]}
SKIPPED = 77

# What a machine needs that boots, and has users.
BOOT = ["systemd", "systemd-sysv", "dbus", "libpam-systemd"]
# What building and judging packages needs, beside packaging/dependencies.
PACKAGING = ["build-essential", "ccache", "debhelper", "dpkg-dev", "fakeroot", "lintian"]

# What the tests run beside the packages: the load, built as a developer of applications would, and a library that moves a daemon's clock.
PROGRAMS = """
dpkg --install /packages/liblkm*.deb
gcc -O1 -Wall -Wextra -Werror -o /load /lkm/tests/system/load.c -pthread $(pkg-config --cflags --libs lkm)
gcc -O1 -D_GNU_SOURCE -include stdlib.h -shared -fPIC -o /libfake-clock.so /lkm/tests/integration/fake-clock.c -ldl
"""

REPACK = """
mkdir /newer
for package in /packages/*.deb; do
        name=$(dpkg-deb --field "$package" Package) version=$(dpkg-deb --field "$package" Version)
        dpkg-deb --raw-extract "$package" "/newer/$name"
        sed -i "s/$version/$version+1/g" "/newer/$name/DEBIAN/control"
        if [ -f "/newer/$name/etc/lkm/lkmd.conf" ]; then
                echo "# from a newer package" >>"/newer/$name/etc/lkm/lkmd.conf"
        fi
        dpkg-deb --root-owner-group --build "/newer/$name" "/newer/$name.deb"
done
"""


class Skip(Exception):
    pass


def make_root(suite, name, packages):
    """Return: the path of the root; Skip where none can be made."""
    done = subprocess.run([os.path.join(SOURCE, "tests/debian-root"), suite, name, ",".join(packages)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == SKIPPED:
        raise Skip(name)
    if done.returncode != 0:
        raise RuntimeError(f"the root {name} cannot be made")
    return done.stdout.strip()


def names(relations):
    """The packages of a Depends field, without versions and alternatives."""
    return {re.match(r"[a-z0-9.+-]+", part.strip()).group(0) for part in relations.split(",") if part.strip() and "|" not in part}


def build_packages(number):
    """What packaging/dependencies and debian/control name for a build, and what this makes of the packages."""
    with open(os.path.join(SOURCE, "packaging/dependencies")) as file:
        wanted = {line.split()[1] for line in file if line.startswith("build ")}
    with open(os.path.join(SOURCE, "packaging/debian/control")) as file:
        wanted |= names(re.search(r"^Build-Depends:(.*?)^\S", file.read(), re.M | re.S).group(1))
    return sorted(wanted | {*PACKAGING, *BOOT, *ALTERNATIVES[number]})


def field(package, name):
    return subprocess.run(["dpkg-deb", "--field", package, name], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Release:
    """@number: "12" or "13". @directory: for changes of roots, on a file system that forgets."""

    def __init__(self, number, directory):
        self.number = number
        self.directory = directory
        self.n_overlays = 0
        suite = SUITES[number]
        self.build_root = self.overlay(make_root(suite, f"system-{number}-build", build_packages(number)))
        self.build()
        self.runtime = make_root(suite, f"system-{number}", sorted({*BOOT, *self.dependencies()}))

    def overlay(self, lower):
        self.n_overlays += 1
        return Overlay(lower, os.path.join(self.directory, f"{self.number}-{self.n_overlays}"))

    def build(self):
        """The packages from the files of this tree, and the program that makes the load with what they give to developers."""
        root = self.build_root.path
        os.makedirs(f"{root}/lkm")
        files = subprocess.run(["git", "-c", f"safe.directory={SOURCE}", "-C", SOURCE, "ls-files", "-z"], check=True, stdout=subprocess.PIPE).stdout
        archive = subprocess.run(["tar", "-C", SOURCE, "--null", "-T", "-", "-cf", "-"], input=files, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-C", f"{root}/lkm", "-xf", "-"], input=archive, check=True)
        ccache = os.path.join(CACHE, f"ccache-{self.number}")
        os.makedirs(ccache, exist_ok=True)
        self.build_root.run("/lkm/packaging/build-package", "/packages", binds=[f"{ccache}:/ccache"],
                            environment=["CCACHE_DIR=/ccache", "PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin", "DEB_BUILD_OPTIONS=nocheck"])
        self.packages = {field(path, "Package"): path for path in glob.glob(f"{root}/packages/*.deb")}
        self.build_root.run("sh", "-ec", PROGRAMS)
        self.load = f"{root}/load"
        self.fake_clock = f"{root}/libfake-clock.so"

    def dependencies(self):
        """Names of the Debian packages that ours depend on or recommend, sorted."""
        wanted = set()
        for package, path in self.packages.items():
            if not package.endswith(("-dev", "-dbgsym")):
                for relation in ("Pre-Depends", "Depends", "Recommends"):
                    wanted |= names(field(path, relation))
        return sorted(wanted - set(self.packages))

    def newer(self):
        """The packages of the runtime once more, with a higher version and another default configuration. Return: their paths."""
        root = self.build_root.path
        if not os.path.exists(f"{root}/newer"):
            self.build_root.run("sh", "-ec", REPACK)
        return [path for path in glob.glob(f"{root}/newer/*.deb") if not field(path, "Package").endswith(("-dev", "-dbgsym"))]

    def boot(self, with_compiler=False):
        """A machine with a clean root, the packages in /packages, and the program that makes the load. @with_compiler: its root is the one
        where they were built."""
        overlay = self.overlay(self.build_root.path if with_compiler else self.runtime)
        shutil.copy(self.load, f"{overlay.path}/usr/local/bin/lkm-load")
        os.makedirs(f"{overlay.path}/packages", exist_ok=True)
        for path in self.packages.values():
            shutil.copy(path, f"{overlay.path}/packages")
        return Machine(f"lkm-test-{self.number}", overlay.path)

    def say(self, text):
        print(f"== Debian {self.number}: {text}", file=sys.stderr, flush=True)
