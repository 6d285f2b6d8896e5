"""What may happen to the files of a store while nobody looks. Each function takes dice, the folder of the node that
is down and the other node's, and says how many files it touched. What lands in a folder belongs to the owner of what
was there, as a copy by root would."""

import contextlib
import mmap
import os
import shutil

HEADER_BYTES, HEAD_BYTES = 72, 32  # of a segment's file, and of a record in it: PROTOCOL.md, The store on disk


def segments(folder):
    """Paths of the files of segments, oldest first."""
    return sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".segment"))


def segment_bytes(folder):
    """0 for a folder that is not there yet."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for path in segments(folder):
            total += os.path.getsize(path)
    return total


def unknown_files(folder):
    """Names that no store gives."""
    return [name for name in os.listdir(folder)
            if not name.endswith((".segment", ".proved")) and name not in ("links", "proved.new")]


def _with_records(folder):
    """A node that was killed may leave a file that it had only just made. One that runs may remove any."""
    paths = []
    for path in segments(folder):
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(path) > HEADER_BYTES + HEAD_BYTES:
                paths.append(path)
    return paths


def _some(dice, folder):
    paths = _with_records(folder)
    return dice.sample(paths, dice.randint(1, len(paths)))


def _fresh_name(folder):
    """That of a segment newer than any."""
    last = os.path.basename(segments(folder)[-1]).partition(".")[0]
    return os.path.join(folder, f"{int(last, 16) + 1:016x}.segment")


def _owned(path, folder):
    of = os.stat(folder)
    os.chown(path, of.st_uid, of.st_gid)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _overwrite(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def flip_bytes(dice, mine, _theirs):
    """One in 16 KB, and in a quarter of the files one where it hurts most: in the header or the first record's head."""
    chosen = _some(dice, mine)
    for path in chosen:
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
            for _ in range(len(data) // 16384 + 1):
                data[dice.randrange(HEADER_BYTES + HEAD_BYTES, len(data))] ^= dice.randint(1, 255)
            if dice.random() < 0.25:
                data[dice.randrange(HEADER_BYTES + HEAD_BYTES)] ^= dice.randint(1, 255)
    return len(chosen)


def cut_short(dice, mine, _theirs):
    chosen = _some(dice, mine)
    for path in chosen:
        os.truncate(path, dice.randrange(os.path.getsize(path)))
    return len(chosen)


def swap_between_nodes(dice, mine, theirs):
    a, b = _with_records(mine), _with_records(theirs)
    pairs = list(zip(dice.sample(a, len(a)), dice.sample(b, len(b))))[:dice.randint(1, 4)]
    for one, other in pairs:
        aside = one + ".aside"
        os.rename(one, aside)
        os.rename(other, one)
        os.rename(aside, other)
    return len(pairs)


def copy_from_the_other_node(dice, mine, theirs):
    """In place of a file, or as one more. The other node runs and may remove what it has."""
    copied = 0
    for path in _some(dice, theirs):
        to = _fresh_name(mine) if dice.random() < 0.5 else dice.choice(segments(mine))
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, to)
            _owned(to, mine)
            copied += 1
    return copied


def other_version(dice, mine, _theirs):
    chosen = _some(dice, mine)
    for path in chosen:
        _overwrite(path, 8, dice.choice((0, 2, 1 << 24)).to_bytes(4, "big"))
    return len(chosen)


def make_empty(dice, mine, _theirs):
    chosen = _some(dice, mine)
    for path in chosen:
        os.truncate(path, 0)
    return len(chosen)


def put_garbage(dice, mine, _theirs):
    """Behind a right header, or from the first byte on."""
    chosen = _some(dice, mine)
    for number, path in enumerate(chosen):
        keep = HEADER_BYTES if number % 2 else 0
        _overwrite(path, keep, dice.randbytes(os.path.getsize(path)))
    return len(chosen)


def graft_records(dice, mine, _theirs):
    """The records of one segment behind the header of another."""
    paths = _with_records(mine)
    headers, bodies = (dice.sample(paths, len(paths)) for _ in range(2))
    pairs = [(one, _read(other)) for one, other in zip(headers, bodies) if one != other]
    for path, other in pairs:
        _overwrite(path, HEADER_BYTES, other[HEADER_BYTES:])
        os.truncate(path, len(other))
    return len(pairs)


def spoil_what_is_proved(dice, mine, theirs):
    """Flipped, cut, or the other node's under the name of its own."""
    def proved(folder):
        return [entry.path for entry in os.scandir(folder) if entry.name.endswith(".proved")]
    for path in proved(mine):
        how = dice.randrange(3)
        if how == 0:
            data = bytearray(_read(path))
            data[dice.randrange(len(data))] ^= dice.randint(1, 255)
            _overwrite(path, 0, data)
        elif how == 1:
            os.truncate(path, dice.randrange(os.path.getsize(path)))
        else:
            for other in proved(theirs):
                shutil.copyfile(other, path)
    return len(proved(mine))


class Older:
    """A copy of a folder, put back later, as from a backup."""

    def __init__(self, folder, place):
        self.place = place
        os.mkdir(place)
        for path in segments(folder):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path, os.path.join(place, os.path.basename(path)))

    def put_back(self, _dice, mine, _theirs):
        for path in segments(mine):
            os.unlink(path)
        paths = segments(self.place)
        for path in paths:
            to = os.path.join(mine, os.path.basename(path))
            os.rename(path, to)
            _owned(to, mine)
        shutil.rmtree(self.place)
        return len(paths)
