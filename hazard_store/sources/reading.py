"""Whether a worker reads ranges of an object on S3, or fetches it whole into a file of its own first."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hazard_store.errors import UsageError
from hazard_store.sources.copies import COPY_BLOCK_BYTES

VARIABLE = "HAZARD_STORE_S3_READ"
WORDS = ("auto", "ranges", "whole")

# To open a datastore by ranges takes so many requests at most, one after the other, of blocks of a megabyte (`make
# bench`, section s3: one where the curves lie behind all else), and each as long as S3 takes to begin an answer.
OPENING_REQUESTS = 6
REQUEST_SECS = 0.05
OPENING_BYTES = OPENING_REQUESTS << 20

# What one connection to S3 brings a small worker.
BYTES_PER_SEC = 50e6


@dataclass(frozen=True)
class Reading:
    """How workers are told to read: ``auto`` leaves it to ``by_ranges``."""

    word: str = "auto"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Reading:
        """Read ``HAZARD_STORE_S3_READ``.

        Raises
        ------
        UsageError
            If it is none of auto, ranges, whole.
        """
        word = environ.get(VARIABLE) or "auto"
        if word not in WORDS:
            raise UsageError(f"{VARIABLE} must be one of {', '.join(WORDS)}, not {word!r}")
        return cls(word)

    def by_ranges(self, size: int, share: float, workers: int, read_bytes: int, *, chunked: bool = False) -> bool:
        """Choose what lets a worker have what it stores sooner.

        Parameters
        ----------
        size : int
            Bytes of the object.
        share : float
            Of its curves that are to be stored.
        workers : int
            Processes that share that work.
        read_bytes : int
            Of one read of curves.
        chunked : bool
            Whether these are in HDF5 chunks: each worker would search their index, one small request after the other.
        """
        if self.word != "auto":
            return self.word == "ranges"
        if chunked:
            return False
        mine = share * size / workers
        whole_secs = REQUEST_SECS * math.ceil(size / COPY_BLOCK_BYTES) + size / BYTES_PER_SEC
        requests = OPENING_REQUESTS + math.ceil(mine / read_bytes)
        return REQUEST_SECS * requests + (OPENING_BYTES + mine) / BYTES_PER_SEC < whole_secs


AUTO = Reading()
