"""Boxes that cover a region once, in whole units, within their size."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.oq.boxes import boxes_of


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    region = tuple(slice(*sorted((draw(st.integers(0, n)), draw(st.integers(0, n))))) for n in shape)
    return region, tuple(draw(st.integers(1, n + 2)) for n in shape)


@given(regions(), st.integers(1, 400))
def test_boxes_cover_a_region_once_in_whole_units_and_within_their_size(
    given_: tuple[tuple[slice, ...], tuple[int, ...]], box_bytes: int
) -> None:
    region, unit = given_
    covered = np.zeros([axis.stop for axis in region], int)
    for box in boxes_of(region, unit, box_bytes):
        covered[box] += 1
        for cut, whole, length in zip(box, region, unit, strict=True):
            assert cut.start == whole.start or cut.start % length == 0
            assert cut.stop == whole.stop or cut.stop % length == 0
        assert 4 * covered[box].size <= max(box_bytes, 4 * math.prod(unit))
    assert (covered[region] == 1).all()
    assert covered.sum() == covered[region].size


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 400))
def test_boxes_of_curves_are_in_file_order(n_sites: int, n_labels: int, n_values: int, box_bytes: int) -> None:
    numbers = np.arange(n_sites * n_labels * n_values).reshape(n_sites, n_labels, n_values)
    found = [
        numbers[box].ravel() for box in boxes_of([slice(0, n) for n in numbers.shape], (1, 1, n_values), box_bytes)
    ]
    assert np.concatenate(found).tolist() == numbers.ravel().tolist()


def test_boxes_have_so_many_units_at_most() -> None:
    boxes = list(boxes_of((slice(0, 10), slice(0, 1_000)), (1, 1), math.inf, max_units=4_096))
    assert max((box[0].stop - box[0].start) * (box[1].stop - box[1].start) for box in boxes) == 4_000
    assert len(boxes) == 3
