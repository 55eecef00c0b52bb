"""The packed codec against arbitrary bits, real curves, and the decoder of its documentation."""

import math
import re
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hazard_store.layouts.bitcode import CODE_LENGTHS, END, MAX_CODE_BITS, N_CONTEXTS, canonical_codes
from hazard_store.layouts.packed import payloads_to_poes, poes_to_payloads
from hazard_store.layouts.prediction import EXP_TABLE, LOG_TABLE, MAX_WEIGHT, mapped, weights_of_levels
from hazard_store.oq import open_calculation

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "packed-format.md"

Bits = npt.NDArray[np.uint32]
Levels = npt.NDArray[np.float64]

shapes = st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 12))
# Any 32 bits: what OpenQuake wrote must come back, whatever it is.
any_bits = hnp.arrays(np.uint32, shapes)
# What curves look like: finite, not negative, often falling, with plateaus, denormals and zeros anywhere.
poes = hnp.arrays(
    np.float32, shapes, elements=st.sampled_from([0, 1e-45, 1e-40, 1e-9, 0.5, 1]) | st.floats(0, 1, width=32)
)


def levels_of(shape: tuple[int, ...]) -> Levels:
    return np.tile(np.geomspace(1e-4, 10, shape[2]), (shape[1], 1))


def assert_comes_back(bits: Bits, levels: Levels) -> list[bytes]:
    payloads = list(poes_to_payloads(bits.view(np.float32), levels))
    back = np.array(payloads_to_poes(payloads, levels), np.float32).reshape(bits.shape)
    np.testing.assert_array_equal(back.view(np.uint32), bits)
    return payloads


@given(any_bits)
def test_packing_gives_every_bit_back(bits: Bits) -> None:
    assert_comes_back(bits, levels_of(bits.shape))


@given(poes, st.booleans())
def test_packing_gives_every_poe_back(values: npt.NDArray[np.float32], falling: bool) -> None:
    if falling:
        values = -np.sort(-values, axis=2)
    assert_comes_back(values.view(np.uint32), levels_of(values.shape))


@settings(max_examples=20)
@given(st.sampled_from([(1, 1), (1, 44), (27, 1), (27, 44), (2, 2)]), st.integers(0, 2**32 - 1), st.integers(1, 32))
def test_every_shape_and_size_of_residual_comes_back(shape: tuple[int, int], seed: int, n_bits: int) -> None:
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2**n_bits, (3, *shape), np.uint32, endpoint=False) if n_bits < 32 else None
    if bits is None:
        bits = random.integers(0, 2**32 - 1, (3, *shape), np.uint32, endpoint=True)
    assert_comes_back(bits, levels_of(bits.shape))


@given(any_bits, st.data())
def test_levels_however_odd_do_no_harm(bits: Bits, data: st.DataObject) -> None:
    odd = st.sampled_from([0.0, 1.0, 1.0 + 1e-7, 1.0 + 2e-7, 5.0]) | st.floats(1e-30, 1e30)
    assert_comes_back(bits, data.draw(hnp.arrays(np.float64, bits.shape[1:], elements=odd)))


@pytest.mark.parametrize("case", ["custom_ids", "bare_coordinates", "realisations_only", "event_based"])
def test_real_curves_come_back_and_are_small(case: str) -> None:
    with open_calculation(ROOT / "tests" / "data" / f"{case}.hdf5") as calculation:
        shape = calculation.curves["realisations"]
        assert shape is not None
        curves = calculation.read("realisations", 0, shape[0]).reshape(-1, *shape[2:])
        levels = np.array(list(calculation.imtls.values()))
    payloads = assert_comes_back(np.ascontiguousarray(curves).view(np.uint32), levels)
    assert sum(map(len, payloads)) < 0.8 * curves.nbytes


def test_an_item_does_not_depend_on_those_packed_with_it() -> None:
    random = np.random.default_rng(5)
    curves = -np.sort(-random.random((300, 3, 8), np.float32), axis=2)
    together = list(poes_to_payloads(curves, levels_of(curves.shape)))
    alone = [next(poes_to_payloads(curve[None], levels_of(curves.shape))) for curve in curves]
    assert together == alone


def test_curves_without_hazard_take_a_few_bytes() -> None:
    (payload,) = assert_comes_back(np.zeros((1, 27, 44), np.uint32), levels_of((1, 27, 44)))
    assert len(payload) < 20


@settings(max_examples=25, deadline=None)
@given(any_bits | poes.map(lambda values: values.view(np.uint32)))
def test_the_decoder_of_the_documentation_agrees(bits: Bits) -> None:
    namespace: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0], namespace)
    assert tuple(namespace["LENGTHS"]) == CODE_LENGTHS
    levels = levels_of(bits.shape)
    # As float64, a signalling NaN would become a quiet one.
    bits = np.where(np.isnan(bits.view(np.float32)), np.uint32(0x7F800000), bits)
    for payload, curve in zip(poes_to_payloads(bits.view(np.float32), levels), bits, strict=True):
        found = np.array(namespace["decode"](payload, levels.tolist()), np.float32)
        np.testing.assert_array_equal(found.view(np.uint32), curve)


def test_every_library_rounds_the_tables_to_the_same_integers() -> None:
    with localcontext() as context:
        context.prec = 40
        for j in range(1025):
            share = Decimal(j) / 1024
            for table, exact in (
                (LOG_TABLE, 2**23 * (1 + share).ln() / Decimal(2).ln()),
                (EXP_TABLE, 2**23 * (Decimal(2) ** share - 1)),
            ):
                assert int(table[j]) == math.floor(exact + Decimal("0.5"))
                assert abs(exact % 1 - Decimal("0.5")) > Decimal("1e-5")


def test_logarithms_rise_and_come_back_nearly() -> None:
    bits = np.arange(0x3F000000, 0x40000000, 997, np.uint32)
    logs = np.array([mapped(word, LOG_TABLE) for word in bits.tolist()])
    assert (np.diff(logs) > 0).all()
    back = np.array([mapped(log, EXP_TABLE) for log in logs.tolist()])
    assert np.abs(back - bits.astype(np.int64)).max() <= 8
    assert np.abs(logs / 2**23 - 127 - np.log2(bits.view(np.float32).astype(float))).max() < 1e-6


def test_weights_of_even_levels_are_those_of_differences() -> None:
    levels = 2.0 ** np.arange(5)[None]
    expected = 4096 * np.array([[0, 0], [0, 0], [-1, 0], [-3, 1], [-3, 1]])
    np.testing.assert_array_equal(weights_of_levels(levels, 3)[0], expected)


def test_weights_of_levels_too_near_each_other_use_fewer_points() -> None:
    levels = np.array([[1.0, 1.0, 2.0, 4.0, 4.0 + 1e-5, 8.0]])
    for order in range(1, 7):
        weights = weights_of_levels(levels, order)
        assert np.abs(weights).max(initial=0) <= MAX_WEIGHT
        assert (weights[0, 5] == 0).all()


def test_every_context_has_a_complete_prefix_code() -> None:
    assert len(CODE_LENGTHS) == N_CONTEXTS
    for line in CODE_LENGTHS:
        lengths = np.array([int(digit, 16) for digit in line])
        assert len(lengths) == END + 1
        assert lengths.max() <= MAX_CODE_BITS
        assert sum(2.0**-lengths) == 1
        codes = [f"{code:0{length}b}" for code, length in zip(canonical_codes(lengths), lengths, strict=True)]
        assert not any(a != b and b.startswith(a) for a in codes for b in codes)
