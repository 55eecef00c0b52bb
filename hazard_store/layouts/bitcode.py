"""Writing signed 32-bit residuals in as few bits as they need: the half of the `packed` codec that knows bits.

A residual's class is the number of its magnitude's bits. Classes go as Huffman codes, of which there is a set for each
context (what the classes around it let expect); the bits themselves follow as they are, since nothing predicts them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Symbols 0 to 32 are classes; this one says that the rest of the row is zeros.
END = 33
N_CONTEXTS = 33
MAX_CODE_BITS = 12

# Lengths of the codes, a line for each context, a hexadecimal digit for each symbol. Fitted to real curves with
# `python -m benchmarks.codecs --fit`.
CODE_LENGTHS = (
    "13499887776666789bcccccccccc9848a3",
    "1235566778999cccccccccccccccccccca",
    "14444455555679acccbccccccccccccccc",
    "1666555555444479abbccccccccccccccb",
    "3765443334454459acccbcccccccccbccb",
    "4865543333344589bbbcccccccccccaccc",
    "47655433334444679babccccccccbb7bcc",
    "5866543323455556899cccccccccccbccc",
    "79876543223466779aabbccccccccc9ccc",
    "ba977654322345689aaacccccccccccccc",
    "baa976654322345789aacccccccccccccc",
    "ccb9976654322345789abccbcccccccccc",
    "cccaa976554322346789accabccccccccc",
    "cccba9976554322346789bccbccccccccc",
    "ccccbb987655432234678acccccccccccc",
    "bccccba987665432234579acbacccccccb",
    "ccccccba987655432234679bbcccccccc9",
    "cccccccca987655432234679acccccccc9",
    "ccccccccca997655432234689accccccc7",
    "cccccccccca987665432234678acccccc6",
    "ccccccccccbba88765432235679cccccc4",
    "cccccccccccba98775543233458bccccc3",
    "cccccccccccbba88776543324569ccccc2",
    "59bcccccccccccb998766543347accccc1",
    "bccbacccccccccba9876654433579accc1",
    "7bcccc99999cccba8867655443457779c1",
    "6acccccccc8777686777765554446748a1",
    "ccccccccccccccb8765447654444552473",
    "ccccccccccbbbbbbb87753334434453589",
    "799aaaaaaaaaaaaaa99999856433432357",
    "1679988987777777966555569ba776347b",
    "aaaa999999999999999999996876531337",
    "8888888888888888888888888876543315",
)

_LENGTHS = np.array([[int(digit, 16) for digit in line] for line in CODE_LENGTHS], np.int64)


def canonical_codes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Give the codes of one context: shorter codes first, equal lengths in the order of their symbols.

    ``[2, 1, 2] -> [0b10, 0b0, 0b11]``
    """
    codes = np.zeros_like(lengths)
    code, length = 0, 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= int(lengths[symbol]) - length
        length = int(lengths[symbol])
        codes[symbol] = code
        code += 1
    return codes


# By symbol: how many bits follow the code.
_TAIL_BITS = np.array([*range(END), 0], np.uint64)
_TAIL_MASKS = np.array([*((1 << bits) - 1 for bits in range(END)), 0], np.uint64)

# By context << 6 | symbol: the code with room for what follows it, << 6 | length of both.
_ENCODER = np.zeros(N_CONTEXTS << 6, np.uint64)
for _context, _row in enumerate(_LENGTHS):
    _heads = (canonical_codes(_row).astype(np.uint64) << _TAIL_BITS) << np.uint64(6)
    _ENCODER[_context << 6 : (_context << 6) + END + 1] = _heads | (_row.astype(np.uint64) + _TAIL_BITS)

# Symbol << 4 | length, by context << 12 | next 12 bits: a code stands wherever the bits start with it.
_DECODER = np.empty(N_CONTEXTS << MAX_CODE_BITS, np.uint16)
for _context, _row in enumerate(_LENGTHS):
    _order = np.lexsort((np.arange(END + 1), _row))
    _entries = np.repeat(_order << 4 | _row[_order], 1 << (MAX_CODE_BITS - _row[_order]))
    _DECODER[_context << MAX_CODE_BITS : (_context + 1) << MAX_CODE_BITS] = _entries


def classes_of(residuals: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """``[0, 1, -1, 2, 3, 4] -> [0, 1, 1, 2, 2, 3]``."""
    # The exponent of a float64 is in the upper of its four 16-bit words; every int32 is exact in it.
    upper = residuals.astype("<f8").view("<u2").reshape(*residuals.shape, 4)[..., 3]
    exponents = upper & np.uint16(0x7FFF)
    exponents >>= np.uint16(4)
    np.maximum(exponents, np.uint16(1022), out=exponents)
    exponents -= np.uint16(1022)
    return exponents.astype(np.uint8)


def keys_of(contexts: npt.NDArray[np.uint8], symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Put contexts and symbols together, as `pack` takes them."""
    keys = contexts.astype(np.uint16)
    keys <<= np.uint16(6)
    keys |= symbols
    return keys


def pack(residuals: npt.NDArray[np.int32], keys: npt.NDArray[np.uint16], counts: npt.NDArray[np.int64]) -> list[bytes]:
    """Write the residuals of several items.

    Parameters
    ----------
    residuals, keys : ndarray, shape (n,)
        Of all items, one after another; a residual is ignored where its symbol is `END`.
    counts : ndarray, shape (n_items,)
        How many of them belong to each item, at least 1.

    Returns
    -------
    list of bytes, length n_items
        Bits from the highest of the first byte on; the last byte is filled up with zeros.
    """
    index = keys.astype(np.intp)
    values = _ENCODER.take(index)
    n_bits = (values & np.uint64(63)).view(np.int64)
    values >>= np.uint64(6)
    # Negative residuals lose one, so that their tails are those below half of the class, and positive ones those above.
    tails = residuals >> 31
    tails += residuals
    index &= 63
    masks = _TAIL_MASKS.take(index)
    masks &= tails.astype(np.int64).view(np.uint64)
    values |= masks

    # Every item starts a new 64-bit word. No value is longer than 44 bits: it touches two words at most, and every
    # word but an item's last has a value that starts in it.
    ends = np.cumsum(n_bits)
    item_ends = ends.take(np.cumsum(counts) - 1)
    item_bits = np.diff(item_ends, prepend=0)
    item_words = (item_bits + 63) >> 6
    first_words = np.cumsum(item_words) - item_words
    starts = ends
    starts -= n_bits
    starts += np.repeat((first_words << 6) - (item_ends - item_bits), counts)
    places = starts >> 6
    starts &= 63
    values <<= np.subtract(64, n_bits, out=n_bits).view(np.uint64)
    lasts = np.flatnonzero(places[1:] != places[:-1])
    firsts = np.concatenate([[0], lasts + 1])
    lasts = np.append(lasts, len(values) - 1)
    # What does not fit into a word, of its last value only, opens the next.
    spilled = (values.take(lasts) << np.uint64(1)) << (63 - starts.take(lasts)).view(np.uint64)
    values >>= starts.view(np.uint64)
    words = np.zeros(int(item_words.sum()) + 1, np.uint64)
    places = places.take(firsts)
    words[places] = np.bitwise_or.reduceat(values, firsts)
    places += 1
    words[places] |= spilled
    data = words.astype(">u8").tobytes()
    return [
        data[8 * first : 8 * first + ((bits + 7) >> 3)]
        for first, bits in zip(first_words.tolist(), item_bits.tolist(), strict=True)
    ]


class Read(NamedTuple):
    """One symbol of every item: the symbols, and the residuals where they are classes, shape (n_items,)."""

    symbols: npt.NDArray[np.uint8]
    residuals: npt.NDArray[np.int64]


class BitReader:
    """Reads many items side by side, one symbol of each at a time."""

    def __init__(self, items: list[bytes]) -> None:
        sizes = np.array([len(item) for item in items], np.int64)
        # Two words more than the longest, so that reading past a damaged item's end stays inside.
        width = (int(sizes.max(initial=0)) >> 3) + 3
        padded = b"".join(item.ljust(8 * width, b"\0") for item in items)
        self._words = np.frombuffer(padded, ">u8").astype(np.uint64)
        self._starts = np.arange(len(items), dtype=np.int64) * (64 * width)
        self._limits = self._starts + 64 * (width - 2)
        self._ends = self._starts + 8 * sizes
        self._positions = self._starts.copy()

    def read(self, contexts: npt.NDArray[np.int64], among: npt.NDArray[np.intp] | slice) -> Read:
        """Read the next symbol and residual of some items in their contexts."""
        positions = self._positions[among]
        word = positions >> 6
        offset = (positions & 63).view(np.uint64)
        window = self._words.take(word) << offset
        word += 1
        window |= (self._words.take(word) >> np.uint64(1)) >> (np.uint64(63) - offset)
        key = contexts << MAX_CODE_BITS
        key += (window >> np.uint64(64 - MAX_CODE_BITS)).view(np.int64)
        found = _DECODER.take(key)
        n_bits = (found & np.uint16(15)).astype(np.uint64)
        symbols = found >> np.uint16(4)
        tail_bits = _TAIL_BITS.take(symbols)
        window <<= n_bits
        tails = ((window >> np.uint64(1)) >> (np.uint64(63) - tail_bits)).view(np.int64)
        # A class's upper half is its positive residuals as they are; the lower half stands for the negative ones.
        masks = _TAIL_MASKS.take(symbols).view(np.int64)
        residuals = np.where(tails > masks >> 1, tails, tails - masks)
        n_bits += tail_bits
        positions += n_bits.view(np.int64)
        self._positions[among] = np.minimum(positions, self._limits[among])
        return Read(symbols.astype(np.uint8), residuals)

    def at_end(self) -> npt.NDArray[np.bool_]:
        """Say which items were read to their last byte, and not past it, shape (n_items,)."""
        left = self._ends - self._positions
        result: npt.NDArray[np.bool_] = (left >= 0) & (left < 8)
        return result
