"""How signed 32-bit residuals are written in as few bits as they need: the codes of the `packed` codec.

A residual's class is the number of its magnitude's bits. Classes go as Huffman codes, of which there is a set for each
context (what the classes around it let expect); the bits themselves follow as they are, since nothing predicts them.
"""

from __future__ import annotations

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


_LENGTHS = np.array([[int(digit, 16) for digit in line] for line in CODE_LENGTHS], np.int64)

# By context and symbol: its code, and how many bits that has.
ENCODER = (np.array([canonical_codes(row) for row in _LENGTHS]), _LENGTHS)


def _starts_with(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Give symbol << 4 | length for each 12 bits: a code stands wherever the bits start with it."""
    order = np.lexsort((np.arange(END + 1), lengths))
    return np.repeat(order << 4 | lengths[order], 1 << (MAX_CODE_BITS - lengths[order]))


DECODER = np.array([_starts_with(row) for row in _LENGTHS])
