"""What reading a calculation from S3 takes, whole and by ranges, with contiguous and with chunked curves.

On moto's S3, which answers without delay: the seconds are those that ``sources/reading.py`` takes a worker to need, by
its constants, and what it chooses by them. A share is what one of so many workers stores.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import boto3
import h5py
import pytest
from moto.server import ThreadedMotoServer

from benchmarks.options import Options, table
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from hazard_store.names import CURVE_PARTS
from hazard_store.oq import open_calculation
from hazard_store.planning import BLOCK_BYTES, plan_chunks, split_into_blocks
from hazard_store.sources import s3_client, source_of
from hazard_store.sources.copies import copied
from hazard_store.sources.ranges import RangeCache
from hazard_store.sources.reading import AUTO, BYTES_PER_SEC, REQUEST_SECS

NAME = "s3"
TITLE = "Sources on S3"

N_SITES, FULL_N_SITES = 1_000, 6_000
SHARES = (1, 2, 8)
BUCKET = "bench"


def measure(options: Options) -> dict[str, Any]:
    """Give requests and bytes of each way, for each share."""
    contiguous = options.calculation(FULL_N_SITES if options.full else N_SITES)
    chunked = contiguous.with_name(f"{contiguous.stem}_chunked.hdf5")
    if not chunked.exists():
        _write_chunked(contiguous, chunked)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as environment:
            for name, value in {**LOCAL_CREDENTIALS, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}.items():
                environment.setenv(name, value)
            boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
            return {
                "contiguous": _rows(contiguous, is_chunked=False),
                "chunked": _rows(chunked, is_chunked=True),
                "megabytes": round(contiguous.stat().st_size / 1e6),
                "chunked_megabytes": round(chunked.stat().st_size / 1e6),
            }
    finally:
        s3_client.disconnect()
        server.stop()


def to_markdown(result: dict[str, Any]) -> str:
    rows = []
    for kind in ("contiguous", "chunked"):
        for row in result[kind]:
            rows.append([f"{kind}, {row['way']}", row["requests"], row["megabytes"], row["seconds"], row["chosen"]])
    return (
        f"{result['megabytes']} MB with contiguous curves, as the engine writes them, and "
        f"{result['chunked_megabytes']} MB with gzipped chunks. "
        f"Seconds are those of {REQUEST_SECS:g} s a request and {BYTES_PER_SEC / 1e6:g} MB/s.\n\n"
        + table(("one worker reads", "requests", "MB", "seconds", "`auto` chooses it"), rows)
    )


def _rows(path: Path, *, is_chunked: bool) -> list[dict[str, Any]]:
    boto3.client("s3", region_name="us-east-1").upload_file(str(path), BUCKET, path.name)
    url, size = f"s3://{BUCKET}/{path.name}", path.stat().st_size
    with source_of(url).open() as stream:
        copied(stream, size, url).stream.close()
        rows = [_row("whole", stream.cache, chosen="")]  # type: ignore[attr-defined]
    for workers in SHARES:
        with open_calculation(url, ranges=True, chunked=is_chunked) as calculation:
            sites = {part: calculation.number_of(part) for part in CURVE_PARTS}
            for chunk in plan_chunks(len(calculation.sites) // workers, sites):
                for block in split_into_blocks(chunk, curve_bytes=4 * 27 * 44):
                    calculation.read(chunk.part, block.start, block.stop, block.first, block.last)
            chosen = AUTO.by_ranges(size, 1.0, workers, BLOCK_BYTES, chunked=is_chunked)
            way = "all by ranges" if workers == 1 else f"1/{workers} by ranges"
            rows.append(_row(way, calculation._opened.content.ranges, chosen="yes" if chosen else "no"))
    return rows


def _row(way: str, cache: RangeCache, *, chosen: str) -> dict[str, Any]:
    seconds = REQUEST_SECS * cache.requests + cache.fetched_bytes / BYTES_PER_SEC
    return {
        "way": way,
        "requests": cache.requests,
        "megabytes": round(cache.fetched_bytes / 1e6, 1),
        "seconds": round(seconds, 1),
        "chosen": chosen,
    }


def _write_chunked(source: Path, target: Path) -> None:
    with h5py.File(source) as read, h5py.File(target, "w") as written:
        written.attrs.update(read.attrs)
        for name in read:
            if not name.startswith("hcurves"):
                read.copy(name, written)
                continue
            made = written.create_dataset(name, data=read[name][:], chunks=True, compression="gzip")
            made.attrs.update(read[name].attrs)
