"""An order-free digest of stored content, the same for every layout.

Each curve gives a 128-bit hash (XXH3) of what it is (site code, statistic or realisation) and of its float32 bits; the
digest of a set of curves is the sum of those hashes modulo 2**128. Order and batching do not matter, a curve that is
stored twice or not at all does. It finds faults and no forgery, for which a sum would not do with any hash; a
cryptographic one would take a tenth of all that a curve costs a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

_MODULUS = 1 << 128


def curves_digest(codes: Sequence[str], kinds: Sequence[str], poes: npt.NDArray[np.float32]) -> int:
    """Digest a block of curves.

    Parameters
    ----------
    codes : sequence of str, length n_sites
    kinds : sequence of str, length n_kinds
    poes : ndarray, shape (n_sites, n_kinds, n_imts, n_levels), float32, C-contiguous
    """
    total = 0
    rows = poes.astype("<f4", copy=False).reshape(len(codes), len(kinds), -1)
    for code, curves in zip(codes, rows, strict=True):
        for kind, curve in zip(kinds, curves, strict=True):
            content = xxhash.xxh3_128(f"{code}\0{kind}\0".encode())
            content.update(curve.data)
            total += content.intdigest()
    return total % _MODULUS


def combine_digests(digests: Iterable[int]) -> int:
    """Digest of the union of disjoint sets of curves."""
    return sum(digests) % _MODULUS


def digest_to_text(digest: int) -> str:
    """32 hexadecimal digits."""
    return f"{digest:032x}"
