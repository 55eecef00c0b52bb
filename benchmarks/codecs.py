"""Compare codecs for the `packed` encoding on real curves.

``python -m benchmarks.codecs CALC.hdf5 ...`` prints, for each candidate, bytes and write units a curve and the time to
pack one. A real file of 27 IMTs x 44 levels comes from ``tests/data/make_data.py --large OUT`` with the engine.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator

import numcodecs
import numpy as np
import numpy.typing as npt
import zstandard

from hazard_store.layouts.packed import poes_to_payloads
from hazard_store.oq import open_calculation

Poes = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

# Keys, their names and the attribute's name, of an item with a code such as [-41.500~175.250].
ITEM_OVERHEAD_BYTES = 90
MAX_CURVES = 1_200


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
    yield "delta, zstd 3", falls, zstd(3)
    for level in (1, 3, 6, 9, 19):
        yield f"delta, shuffle, zstd {level}", lambda poes: planes(falls(poes)), zstd(level)
    yield "delta, shuffle, zlib 6", lambda poes: planes(falls(poes)), lambda data: zlib.compress(data, 6)
    yield "delta, blosc bitshuffle zstd 3", falls, lambda data: blosc.encode(np.frombuffer(data, np.uint32))


def write_units(sizes: npt.NDArray[np.int64]) -> float:
    return float(np.ceil((sizes + ITEM_OVERHEAD_BYTES) / 1024).mean())


def report(name: str, payloads: Callable[[], list[bytes]]) -> None:
    started = time.perf_counter()
    packed = payloads()
    seconds = time.perf_counter() - started
    sizes = np.array([len(payload) for payload in packed])
    micros = seconds / len(packed) * 1e6
    print(
        f"| {name} | {sizes.mean():,.0f} | {np.percentile(sizes, 95):,.0f} | {write_units(sizes):.2f} | {micros:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    for file in parser.parse_args().files:
        with open_calculation(file) as calculation:
            part = "realisations" if calculation.curves["realisations"] else "stats"
            shape = calculation.curves[part] or (0, 0, 0, 0)
            sites = min(shape[0], max(1, MAX_CURVES // shape[1]))
            poes = calculation.read(part, 0, sites).reshape(-1, *shape[2:])
        print(f"\n{len(poes)} curves of {shape[2]} IMTs x {shape[3]} levels, {np.mean(poes == 0):.0%} zeros\n")
        print("| codec | bytes | 95 % | WCU | us |\n| --- | --- | --- | --- | --- |")
        for name, prepare, compress in candidates():
            report(name, lambda: [compress(row.tobytes()) for row in prepare(poes)])  # noqa: B023 - called at once
        report("as stored", lambda: list(poes_to_payloads(poes)))  # noqa: B023 - called at once


if __name__ == "__main__":
    main()
