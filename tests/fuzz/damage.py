"""Bytes of a file changed without knowing what they mean."""

from __future__ import annotations

import random

METADATA_BYTES = 4096
"""Superblock, root group and most object headers of a datastore stand in its first pages."""


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_metadata(content: bytes, rng: random.Random) -> bytes:
    """Flip where it hurts: near the start, or near the signature of a node, a heap or an object header."""
    signatures = (b"TREE", b"HEAP", b"SNOD", b"OHDR", b"OCHK", b"GCOL", b"FRHP", b"FHDB", b"BTHD", b"BTLF", b"FAHD")
    places = [place for signature in signatures for place in _occurrences(content, signature)] or [0]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(METADATA_BYTES) if rng.random() < 0.3 else rng.choice(places) + rng.randrange(256)
        place = min(place, len(changed) - 1)
        changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, changed[place] ^ (1 << rng.randrange(8))))
    return bytes(changed)


def write_numbers(content: bytes, rng: random.Random) -> bytes:
    """Put a number that breaks arithmetic, or an address within the file, in place of eight bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(0, len(changed) - 8, 8) if rng.random() < 0.5 else rng.randrange(METADATA_BYTES)
        number = rng.choice((0, 1, 0xFF, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1, rng.randrange(len(content))))
        changed[place : place + 8] = number.to_bytes(8, "little")
    return bytes(changed)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((rng.randrange(64), rng.randrange(len(content)), len(content) - rng.randrange(1, 512)))]


def swap_blocks(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((8, 64, 512, 4096))
    a, b = sorted(rng.randrange(max(1, len(content) // size)) * size for _ in range(2))
    if b - a < size:
        return content
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def overwrite_block(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1, 8, 64, 512, 4096, 65536))
    start = rng.randrange(len(content))
    size = min(size, len(content) - start)
    filling = rng.choice((b"\0" * size, b"\xff" * size, rng.randbytes(size)))
    return content[:start] + filling + content[start + size :]


def shift(content: bytes, rng: random.Random) -> bytes:
    """Insert, remove or repeat some bytes, so that all behind them stand at other addresses."""
    start, size = rng.randrange(len(content)), rng.choice((1, 8, 100, 512, 4096))
    match rng.randrange(3):
        case 0:
            return content[:start] + rng.randbytes(size) + content[start:]
        case 1:
            return content[:start] + content[start + size :]
        case _:
            return content[: start + size] + content[start:]


def _occurrences(content: bytes, signature: bytes) -> list[int]:
    places, place = [], content.find(signature)
    while place >= 0:
        places.append(place)
        place = content.find(signature, place + 1)
    return places
