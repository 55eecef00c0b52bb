"""Compare codecs for the `packed` encoding on real curves, and fit its table of code lengths.

``python -m benchmarks.codecs CALC.hdf5 ...`` prints, for each candidate, bytes and write units a curve, and the CPU
time to pack and to unpack one. ``--fit`` prints the table of code lengths that suits the curves of these files best,
each file counting alike. Real files of 27 IMTs x 44 levels: see ``docs/decisions/0003-predicting-codec.md``.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numcodecs
import numpy as np
import numpy.typing as npt
import zstandard

from hazard_store.layouts.bitcode import CODE_LENGTHS, END, MAX_CODE_BITS, N_CONTEXTS
from hazard_store.layouts.packed import payloads_to_poes, poes_to_payloads, symbol_counts
from hazard_store.names import CURVE_PARTS
from hazard_store.oq import open_calculation

Poes = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]
Levels = npt.NDArray[np.float64]

# Keys and attribute names of an item of `packed+solution`, with an id of 20 letters and a code such as
# [-41.500~175.250]: pk, sk, poes, and their values but for the payload.
ITEM_OVERHEAD_BYTES = 51
MAX_CURVES = 1_200


class Curves(NamedTuple):
    title: str
    poes: Poes
    levels: Levels


def read(file: str) -> Iterator[Curves]:
    with open_calculation(file) as calculation:
        for part in CURVE_PARTS:
            shape = calculation.curves[part]
            if shape is None:
                continue
            sites = min(shape[0], max(1, MAX_CURVES // shape[1]))
            poes = calculation.read(part, 0, sites)
            poes = poes.reshape(-1, *poes.shape[2:])
            levels = np.array(list(calculation.imtls.values()))
            n_imts, n_levels = levels.shape
            title = f"{file}, {len(poes)} {part} of {n_imts} IMTs x {n_levels} levels, {np.mean(poes == 0):.0%} zeros"
            yield Curves(title, poes, levels)


def words(poes: Poes) -> Words:
    return poes.view(np.uint32)


def falls(poes: Poes) -> Words:
    bits = words(poes)
    result = bits.copy()
    result[:, :, 1:] = bits[:, :, :-1] - bits[:, :, 1:]
    return result


def planes(values: Words) -> npt.NDArray[np.uint8]:
    by_curve = values.view(np.uint8).reshape(len(values), -1, 4)
    return np.ascontiguousarray(by_curve.transpose(0, 2, 1)).reshape(len(values), -1)


def zstd(level: int) -> Callable[[bytes], bytes]:
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_dict_id=False).compress


def candidates() -> Iterator[tuple[str, Callable[[Poes], npt.NDArray[np.generic]], Callable[[bytes], bytes]]]:
    blosc = numcodecs.Blosc("zstd", clevel=3, shuffle=numcodecs.Blosc.BITSHUFFLE)
    yield "zstd 3", words, zstd(3)
    yield "shuffle, zstd 3", lambda poes: planes(words(poes)), zstd(3)
    for level in (1, 3, 19):
        yield f"delta, shuffle, zstd {level}", lambda poes: planes(falls(poes)), zstd(level)
    yield "delta, shuffle, zlib 6", lambda poes: planes(falls(poes)), lambda data: zlib.compress(data, 6)
    yield "delta, blosc bitshuffle zstd 3", falls, lambda data: blosc.encode(np.frombuffer(data, np.uint32))


def report(name: str, pack: Callable[[], list[bytes]], unpack: Callable[[list[bytes]], object] | None = None) -> None:
    micros = []
    for _ in range(3):
        started = time.process_time()
        packed = pack()
        micros.append((time.process_time() - started) / len(packed) * 1e6)
    sizes = np.array([len(payload) for payload in packed])
    wcu = np.ceil((sizes + ITEM_OVERHEAD_BYTES) / 1024).mean()
    unpacking = ""
    if unpack is not None:
        started = time.process_time()
        unpack(packed)
        unpacking = f"{(time.process_time() - started) / len(packed) * 1e6:.0f}"
    cells = [f"{sizes.mean():,.0f}", f"{np.percentile(sizes, 95):,.0f}", f"{wcu:.2f}", f"{min(micros):.0f}", unpacking]
    print(f"| {name} | {' | '.join(cells)} |")


def compare(curves: Curves) -> None:
    poes, levels = curves.poes, curves.levels
    print(f"\n{curves.title}\n")
    print("| codec | bytes | 95 % | WCU | us to pack | us to unpack |\n| --- | --- | --- | --- | --- | --- |")
    for name, prepare, compress in candidates():
        report(name, lambda: [compress(row.tobytes()) for row in prepare(poes)])  # noqa: B023 - called at once
    report("as stored", lambda: list(poes_to_payloads(poes, levels)), lambda packed: payloads_to_poes(packed, levels))


def limited_lengths(weights: npt.NDArray[np.float64]) -> list[int]:
    """Give the lengths of the best prefix code of at most `MAX_CODE_BITS` (package-merge)."""
    single = sorted((weight, (symbol,)) for symbol, weight in enumerate(weights.tolist()))
    packages: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(MAX_CODE_BITS):
        pairs = zip(packages[::2], packages[1::2], strict=False)
        packages = sorted([*single, *((a[0] + b[0], a[1] + b[1]) for a, b in pairs)])
    lengths = [0] * len(weights)
    for _, symbols in packages[: 2 * len(weights) - 2]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def fit(files: list[str]) -> None:
    """Print the table: counts of symbols by context, smoothed, so that what these files lack stays possible."""
    counts = np.zeros((N_CONTEXTS, END + 1))
    for file in files:
        for curves in read(file):
            counts += symbol_counts(curves.poes, curves.levels) * (400 / len(curves.poes))
    classes = np.arange(END)
    for context, row in enumerate(counts):
        smooth = np.convolve(row[:END], [0.01, 0.03, 1, 0.03, 0.01], "same")
        smooth += 30 * np.exp(-0.7 * np.abs(classes - context)) + 0.3
        print("".join(f"{length:x}" for length in limited_lengths(np.append(smooth, row[END] + 2.0))))
    print(f"(stored: {len(CODE_LENGTHS)} lines in hazard_store/layouts/bitcode.py)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.files)
        return
    for file in arguments.files:
        for curves in read(file):
            compare(curves)


if __name__ == "__main__":
    main()
