"""The bytes that hawser-bench sends: from seeds, or from Debian packages, which are kept in a folder between runs.

What is made from packages says so in the results (versions and checksums), for a mirror does not keep a release for
ever."""

import contextlib
import glob
import os
import random
import re
import shutil
import subprocess
import tarfile
import tempfile

import bed
from bench_contenders import Missing, need

CACHE = os.environ.get("HAWSER_BENCH_CACHE") or "/var/cache/hawser-bench"
IMAGE_PACKAGES = ("git", "perl-base", "vim-common", "gdb", "python3-minimal")
SOURCE_PARTS = ("fs", "include", "kernel", "lib", "mm", "net")

IMAGE_UUID = "68617773-6572-4265-8e63-680000000001"

used = {}  # {what: where it is from}, for the results


def release(number):
    """Path of a tar of the older (0) or newer (1) release of a source tree."""
    path = os.path.join(CACHE, f"source-{number}.tar")
    note = path + ".from"
    if not os.path.exists(note):
        _make_releases()
    with open(note, encoding="ascii") as file:
        used[f"source-{number}"] = file.read().strip()
    return path


def disk_image(number):
    """Path of an ext4 image of some packages' files (0), and of the same with some files changed (1)."""
    path = os.path.join(CACHE, f"image-{number}")
    note = path + ".from"
    if not os.path.exists(note):
        _make_images()
    with open(note, encoding="ascii") as file:
        used[f"image-{number}"] = file.read().strip()
    return path


def edited(path, target, edits, seed):
    """A copy with so many single bytes changed, anywhere."""
    shutil.copyfile(path, target)
    generator, size = random.Random(seed), os.path.getsize(path)
    with open(target, "r+b") as file:
        for offset in generator.sample(range(size), edits):
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ generator.randrange(1, 256)]))


def shifted(path, target):
    """A copy with a byte more in front."""
    with open(path, "rb") as source, open(target, "wb") as file:
        file.write(b"+")
        shutil.copyfileobj(source, file, 1 << 20)


def page(folder, count, seed):
    """[(name, bytes)] of a page's objects: half text, half incompressible, 1 to 64 KB, most of them small."""
    generator = random.Random(seed)
    objects = []
    for number in range(count):
        size = round(1024 * 64 ** generator.random())
        name = f"object-{seed}-{number}"
        make = bed.make_text_file if number % 2 else bed.make_file
        make(os.path.join(folder, name), size, seed=seed + number)
        if number % 2:  # made of whole pieces of many lines
            os.truncate(os.path.join(folder, name), size)
        objects.append((name, size))
    return objects


# --- from packages ----------------------------------------------------------------------------------


def _run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _finish(made, name, note):
    """Into the cache: the note comes last, and says that the rest is whole."""
    path = os.path.join(CACHE, name)
    shutil.move(made, path)
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(f"{note}; sha256 {bed.sha256_of(path)}\n")
    os.replace(path + ".new", path + ".from")


@contextlib.contextmanager
def _work():
    os.makedirs(CACHE, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=CACHE) as folder:
        yield folder


def _download(folder, package, version=None):
    """Path of a package's file."""
    before = set(os.listdir(folder))
    _run(["apt-get", "download", package + (f"={version}" if version else "")], cwd=folder)
    return os.path.join(folder, (set(os.listdir(folder)) - before).pop())


def _source_versions():
    """(package, older, newer): the last two releases of the system's kernel that apt knows."""
    need("apt-cache", "apt-get", "dpkg-deb")
    name = next((line.split()[-1] for line in _run(["apt-cache", "depends", "linux-source"]).splitlines()
                 if "Depends:" in line), None)
    if not name:
        raise Missing("apt knows no package linux-source, from which the source trees are made: run apt-get update")
    known = sorted((line.split("|")[1].strip() for line in _run(["apt-cache", "madison", name]).splitlines()),
                   key=_version_key)
    latest = {version.rpartition("-")[0]: version for version in known}  # another build of a release is no release
    if len(latest) < 2:
        raise Missing(f"apt knows only one release of {name}: run apt-get update, with the security archive in its sources")
    return name, *list(latest.values())[-2:]


def _version_key(version):
    return [int(word) for word in re.findall("[0-9]+", version)]


def _make_releases():
    name, *versions = _source_versions()
    for number, version in enumerate(versions):
        with _work() as folder:
            deb = _download(folder, name, version)
            tree = os.path.join(folder, "tree")
            _run(["dpkg-deb", "-x", deb, tree])
            packed = glob.glob(os.path.join(tree, "usr", "src", "**", "*.tar.*"), recursive=True)
            if not packed:
                raise Missing(f"{name} {version} holds no tar in usr/src; leave out the workload of source trees")
            part = os.path.join(folder, "part.tar")
            with tarfile.open(packed[0], "r|*") as whole, tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as file:
                for member in whole:  # with the headers that they have: a release's time stamps are part of it
                    inner = member.name.partition("/")[2]
                    if member.isfile() and inner.startswith(tuple(part + "/" for part in SOURCE_PARTS)):
                        member.name = "linux/" + inner
                        file.addfile(member, whole.extractfile(member))
            _finish(part, f"source-{number}.tar", f"{name} {version} ({', '.join(SOURCE_PARTS)})")


def _make_images():
    need("apt-get", "dpkg-deb", "mkfs.ext4")
    with _work() as folder:
        tree, versions = os.path.join(folder, "tree"), []
        os.mkdir(tree)
        for name in IMAGE_PACKAGES:
            deb = _download(folder, name)
            _run(["dpkg-deb", "-x", deb, tree])
            versions.append(f"{name} {_run(['dpkg-deb', '-f', deb, 'Version']).strip()}")
        note = "ext4 of " + ", ".join(versions)
        made = [_image(folder, tree, 0)]
        _change_files(tree)
        made.append(_image(folder, tree, 1))
        for number, path in enumerate(made):
            _finish(path, f"image-{number}", note + (", every 20th file changed" if number else ""))


def _image(folder, tree, number):
    """The same for the same files: names, times and identifiers come from nowhere else."""
    path = os.path.join(folder, f"image-{number}")
    for here, folders, names in os.walk(tree):
        for name in folders + names:
            os.utime(os.path.join(here, name), (1, 1), follow_symlinks=False)
    with open(path, "wb") as file:
        file.truncate(160 << 20)
    _run(["mkfs.ext4", "-q", "-F", "-U", IMAGE_UUID, "-E", f"hash_seed={IMAGE_UUID},lazy_itable_init=0", "-d", tree, path],
         env={**os.environ, "E2FSPROGS_FAKE_TIME": "1"})
    return path


def _change_files(tree):
    """Every 20th file: some bytes in its middle, and a line more at its end."""
    paths = sorted(os.path.join(here, name) for here, _, names in os.walk(tree) for name in names)
    paths = [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
    for number, path in enumerate(paths[::20]):
        generator = random.Random(number)
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            file.write(generator.randbytes(200))
            file.seek(0, os.SEEK_END)
            file.write(b"another line\n")
