from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.errors import UsageError
from hazard_store.planning import (
    ITEMS_PER_CHUNK,
    Block,
    Chunk,
    plan_chunks,
    select_chunks,
    split_into_blocks,
    spread_chunks,
)


@given(n_sites=st.integers(1, 3_000), n_stats=st.integers(0, 12), n_rlzs=st.integers(0, 20_000))
def test_chunks_cover_every_site_of_every_part_once(n_sites: int, n_stats: int, n_rlzs: int) -> None:
    chunks = plan_chunks(n_sites, {"stats": n_stats, "realisations": n_rlzs})
    for part, per_site in (("stats", n_stats), ("realisations", n_rlzs)):
        mine = [chunk for chunk in chunks if chunk.part == part]
        assert [i for c in mine for i in range(c.start, c.stop)] == (list(range(n_sites)) if per_site else [])
        assert all(c.items <= max(ITEMS_PER_CHUNK, per_site) for c in mine)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@given(
    start=st.integers(0, 5),
    n_sites=st.integers(1, 20),
    per_site=st.integers(1, 30),
    curve_bytes=st.integers(1, 100),
    block_bytes=st.integers(1, 2_000),
)
def test_blocks_cover_every_curve_once_in_file_order(
    start: int, n_sites: int, per_site: int, curve_bytes: int, block_bytes: int
) -> None:
    chunk = Chunk("realisations", start, start + n_sites, per_site)
    blocks = list(split_into_blocks(chunk, curve_bytes, block_bytes))

    def curves(block: Block) -> Iterator[tuple[int, int]]:
        return ((s, k) for s in range(block.start, block.stop) for k in range(block.first, block.last))

    covered = [curve for block in blocks for curve in curves(block)]
    assert covered == [(s, k) for s in range(start, start + n_sites) for k in range(per_site)]
    for block in blocks:
        assert len(list(curves(block))) * curve_bytes <= max(block_bytes, curve_bytes)


@given(n_sites=st.integers(1, 20_000), n_stats=st.integers(0, 5), n_rlzs=st.integers(0, 300))
def test_chunks_are_handed_out_once_each_part_by_part(n_sites: int, n_stats: int, n_rlzs: int) -> None:
    chunks = plan_chunks(n_sites, {"stats": n_stats, "realisations": n_rlzs})
    spread = spread_chunks(chunks)
    assert sorted(spread) == sorted(chunks)
    assert [c.part for c in spread] == [c.part for c in chunks]
    assert spread_chunks(chunks) == spread


@given(n_chunks=st.sampled_from([8, 16, 64]), at_once=st.sampled_from([2, 4]))
def test_chunks_stored_at_once_lie_in_different_quarters(n_chunks: int, at_once: int) -> None:
    spread = spread_chunks(plan_chunks(n_chunks * 500, {"realisations": 12}))
    for first in range(0, n_chunks, at_once):
        shares = {chunk.start * at_once // (n_chunks * 500) for chunk in spread[first : first + at_once]}
        assert shares == set(range(at_once))


PLAN = plan_chunks(1_001, {"stats": 4, "realisations": 12})


def test_chunks_are_selected_by_id_part_and_range() -> None:
    assert [c.id for c in select_chunks(PLAN, ["realisations:00500-01000"])] == ["realisations:00500-01000"]
    assert [c.id for c in select_chunks(PLAN, ["stats"])] == ["stats:00000-01001"]
    assert [c.id for c in select_chunks(PLAN, ["realisations:00000-01000"])] == [
        "realisations:00000-00500",
        "realisations:00500-01000",
    ]


@pytest.mark.parametrize("name", ["", "rlzs", "realisations:1-2", "realisations:90000-90001", "meta:00000-00001"])
def test_an_unknown_chunk_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="chunk"):
        select_chunks(PLAN, [name])
