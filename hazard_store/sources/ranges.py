"""An object on S3 as a file of which only what is asked for is fetched."""

from __future__ import annotations

from typing import IO, Any

from fsspec.caching import BlockCache, register_cache

from hazard_store.errors import SourceChangedError
from hazard_store.sources.s3_errors import translated

# What HDF5 reads besides contiguous curves are headers and names of some hundred bytes, many of them side by side.
BLOCK_BYTES = 1 << 20

# Curves in HDF5 chunks have an index, whose nodes lie between the chunks: with larger blocks, opening the file would
# bring most of it, and with smaller ones each chunk would take several (`make bench`, section s3).
CHUNKED_BLOCK_BYTES = 1 << 18

CACHE_BYTES = 16 << 20


class RangeCache(BlockCache):  # type: ignore[misc]
    """Fetches what is longer than a block in one request, and keeps the blocks that small reads fall into.

    Curves are read in long slices, each once: to keep them, or to fetch them block by block, would cost for nothing.
    """

    name = "hazard-store-ranges"

    def __init__(self, blocksize: int, fetcher: Any, size: int, shown: str) -> None:
        self.requests = 0
        self.fetched_bytes = 0

        def fetch(start: int, stop: int) -> bytes:
            # HDF5 hands on what is raised in here; told as ours, it passes all that treats a file as damaged.
            with translated(shown, SourceChangedError):
                content: bytes = fetcher(start, stop)
            self.requests += 1
            self.fetched_bytes += len(content)
            return content

        super().__init__(blocksize, fetch, size, CACHE_BYTES // blocksize)

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        first, last = start or 0, self.size if stop is None else min(stop, self.size)
        if last - first > self.blocksize:
            content: bytes = self.fetcher(first, last)
            return content
        return bytes(super()._fetch(first, last))


register_cache(RangeCache, clobber=True)


def open_ranges(filesystem: Any, path: str, shown: str, chunked: bool = False) -> IO[bytes]:
    """Open an object; its content is the same at each read, or reading raises `SourceChangedError`.

    Parameters
    ----------
    filesystem : s3fs.S3FileSystem
    path : str
        ``BUCKET/KEY``.
    shown : str
        How errors call it.
    chunked : bool
        Whether its curves are known to be stored in HDF5 chunks.
    """
    stream: IO[bytes] = filesystem.open(
        path,
        "rb",
        block_size=CHUNKED_BLOCK_BYTES if chunked else BLOCK_BYTES,
        cache_type=RangeCache.name,
        cache_options={"shown": shown},
    )
    return stream
