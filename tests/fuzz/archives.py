"""Zip archives around a datastore: bombs, names, members, checksums, cuts."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
import zlib

from tests.fuzz import damage

MEMBER = "calc_1.hdf5"
BOMB_BYTES = 200 << 20


def _zip(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive, warnings.catch_warnings():
        # Two members of one name are meant.
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def sound(content: bytes, rng: random.Random) -> bytes:
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    others = [("README.txt", b"about"), ("__MACOSX/._calc_1.hdf5", b"x")]
    return _zip([*rng.choice(([], others)), (rng.choice((MEMBER, "a/b/c.HDF5")), content)], method)


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    archive = _zip([(MEMBER, content)], rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    kinds = (damage.flip_bits, damage.truncate, damage.swap_blocks, damage.overwrite_block, damage.shift)
    return rng.choice(kinds)(archive, rng)


def damaged_directory(content: bytes, rng: random.Random) -> bytes:
    """Change what stands in the local header, the central directory or the end record."""
    sound = _zip([(MEMBER, content)])
    archive = bytearray(sound)
    for _ in range(rng.choice((1, 1, 3))):
        signature, length = rng.choice(((b"PK\x03\x04", 40), (b"PK\x01\x02", 60), (b"PK\x05\x06", 22)))
        place = sound.rindex(signature) + rng.randrange(length)
        if place < len(archive):
            archive[place] = rng.choice((0, 1, 0x7F, 0xFF, archive[place] ^ (1 << rng.randrange(8))))
    return bytes(archive)


def truncated_directory(content: bytes, rng: random.Random) -> bytes:
    archive = _zip([(MEMBER, content)])
    return archive[: archive.rindex(b"PK\x01\x02") + rng.randrange(1, 68)]


def wrong_crc(content: bytes, rng: random.Random) -> bytes:
    archive = bytearray(_zip([(MEMBER, content)]))
    archive[archive.rindex(b"PK\x01\x02") + 16] ^= 1 + rng.randrange(255)
    return bytes(archive)


def path_traversal(content: bytes, rng: random.Random) -> bytes:
    names = ("../calc.hdf5", "/tmp/calc.hdf5", "a/../../calc.hdf5", "C:\\calc.hdf5", "..\\calc.hdf5", "a/..\\c.hdf5")
    return _zip([(rng.choice(names), content)])


def hostile_name(content: bytes, rng: random.Random) -> bytes:
    names = (
        "\x1b[31m.hdf5",
        "a\nb.hdf5",
        "\u202e.hdf5",
        "=1+1.hdf5",
        "x" * 60_000 + ".hdf5",
        ".hdf5",
        "`id`.hdf5",
        "..hdf5",
    )
    second = rng.choice(([], [(rng.choice(names), content)]))
    return _zip([(rng.choice(names), content), *second])


def bomb(content: bytes, rng: random.Random) -> bytes:
    """Some hundred MB of zeros in less than one, behind the real content or alone."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = rng.choice((b"", content))
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = bytes(1 << 20)
    # After a full flush the same bytes are packed the same way: one MB is packed, and repeated.
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(head)
    for _ in range(BOMB_BYTES >> 20):
        crc = zlib.crc32(zeros, crc)
    return _raw_zip(first + block * (BOMB_BYTES >> 20) + packer.flush(), crc, len(head) + BOMB_BYTES)


def lying_sizes(content: bytes, rng: random.Random) -> bytes:
    """Sizes in the directory that are not those of the member."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    told = rng.choice((0, 1, len(content) - 1, len(content) + 1, 2**31, 2**32 - 2))
    packed_told = rng.choice((len(packed), len(packed), 0, 2**31))
    return _raw_zip(packed, zlib.crc32(content), told, packed_told)


def _raw_zip(packed: bytes, crc: int, size: int, packed_size: int | None = None) -> bytes:
    """An archive of one member that says of itself what it is told to say."""
    told = (20).to_bytes(2, "little") + bytes(2) + (8).to_bytes(2, "little") + bytes(2) + (33).to_bytes(2, "little")
    told += crc.to_bytes(4, "little") + (len(packed) if packed_size is None else packed_size).to_bytes(4, "little")
    told += size.to_bytes(4, "little") + len(MEMBER).to_bytes(2, "little")
    local = b"PK\x03\x04" + told + bytes(2) + MEMBER.encode() + packed
    central = b"PK\x01\x02" + (20).to_bytes(2, "little") + told + bytes(16) + MEMBER.encode()
    end = b"PK\x05\x06" + bytes(4) + (1).to_bytes(2, "little") * 2 + len(central).to_bytes(4, "little")
    return local + central + end + len(local).to_bytes(4, "little") + bytes(2)


def many_members(content: bytes, rng: random.Random) -> bytes:
    """A directory of hundreds of thousands of entries: written by hand, for zipfile takes seconds for it."""
    if rng.random() < 0.5:
        return _zip([*((f"{n}", b"") for n in range(500)), *[(MEMBER, content)] * rng.choice((1, 2))])
    entry = b"PK\x01\x02" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"a"
    central = entry * rng.choice((200_000, 400_000))
    offset = (30).to_bytes(4, "little")
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xfe" * 2 + len(central).to_bytes(4, "little") + offset + bytes(2)
    return b"PK\x03\x04" + bytes(26) + central + end


def encrypted(content: bytes, rng: random.Random) -> bytes:
    archive = bytearray(_zip([(MEMBER, content)]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        if rng.random() < 0.8:
            archive[archive.rindex(signature) + offset] |= 1
    return bytes(archive)


def nested(content: bytes, rng: random.Random) -> bytes:
    inner = content
    for _ in range(rng.choice((1, 3))):
        inner = _zip([(MEMBER, inner)])
    return _zip([(MEMBER, inner)])


def link_member(content: bytes, rng: random.Random) -> bytes:
    """A member that says it is a symbolic link, to a file that lies outside."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(MEMBER)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, rng.choice((b"/etc/passwd", content)))
    return buffer.getvalue()
