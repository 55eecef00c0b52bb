import base64
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.errors import CorruptItemError, UsageError
from hazard_store.layouts import LAYOUTS, CurveBlock, EncodedItem, Layout, layout_from_names
from hazard_store.layouts.packed import FORMAT, payloads_to_poes, poes_to_payloads
from hazard_store.names import CurvePart, location_bin

FloatArray = npt.NDArray[np.float32]


def block_of(poes: FloatArray, part: CurvePart = "stats", codes: list[str] | None = None) -> CurveBlock:
    n_sites, n_kinds, n_imts, n_levels = poes.shape
    return CurveBlock(
        part=part,
        haz_sol_id="T3BlbnF1YWtlOjEwMA==",
        codes=codes or [f"[-41.{i:03d}~174.800]" for i in range(n_sites)],
        lat=np.array([-41 - i / 1000 for i in range(n_sites)]),
        lon=np.full(n_sites, 174.8),
        kinds=[f"{i:05d}" for i in range(n_kinds)],
        imts=[f"SA({i}.5)" for i in range(n_imts)],
        levels=np.geomspace(1e-4, 10, n_imts * n_levels).reshape(n_imts, n_levels),
        poes=poes,
        created=1_700_000_000,
    )


def attributes(item: EncodedItem) -> dict[str, Any]:
    """An item as botocore would hand it back."""
    typed: dict[str, Any] = orjson.loads(item.body)["PutRequest"]["Item"]
    if "poes" in typed:
        typed["poes"] = {"B": base64.b64decode(typed["poes"]["B"])}
    return typed


def imtls_of(block: CurveBlock) -> dict[str, npt.NDArray[np.float64]]:
    return dict(zip(block.imts, block.levels, strict=True))


def decoded(layout: Layout, items: list[dict[str, Any]], imtls: dict[str, npt.NDArray[np.float64]]) -> FloatArray:
    return np.array(layout.encoding.decode(items, imtls))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@given(poes=hnp.arrays(np.float32, (2, 3, 2, 4), elements=st.floats(0, 1, width=32)))
def test_every_layout_gives_every_poe_back(layout: Layout, poes: FloatArray) -> None:
    poes = poes + np.float32(0)  # DynamoDB's numbers know no negative zero, and neither do poes
    block = block_of(poes)
    items = list(layout.encoding.encode(block, layout.partition))
    back = decoded(layout, [attributes(item) for item in items], imtls_of(block))
    np.testing.assert_array_equal(back.reshape(poes.shape).view(np.uint32), poes.view(np.uint32))


def test_list_solution_is_the_v2_form_to_the_attribute() -> None:
    block = block_of(np.array([[[[0.1, 1e-05]]]], np.float32), part="realisations", codes=["WLG"])
    (item,) = LAYOUTS["list+solution"].encoding.encode(block, LAYOUTS["list+solution"].partition)
    assert attributes(item) == {
        "haz_sol_id": {"S": "T3BlbnF1YWtlOjEwMA=="},
        "loc_rlz_rk": {"S": "WLG:00000"},
        "loc": {"S": "WLG"},
        "lat": {"N": "-41.0"},
        "lon": {"N": "174.8"},
        "rlz": {"S": "00000"},
        "values": {
            "L": [
                {
                    "M": {
                        "imt": {"S": "SA(0.5)"},
                        "lvls": {"L": [{"N": "0.0001"}, {"N": "10.0"}]},
                        "vals": {"L": [{"N": "0.1"}, {"N": "0.00001"}]},
                    }
                }
            ]
        },
        "created": {"N": "1700000000"},
        "version": {"N": "1"},
    }


def test_location_keys_hold_bin_site_and_solution() -> None:
    block = block_of(np.zeros((1, 1, 1, 2), np.float32))
    for name in ("packed+location", "list+location"):
        (item,) = LAYOUTS[name].encoding.encode(block, LAYOUTS[name].partition)
        assert (item.hash_key, item.range_key) == ("-41.0~175.0", "[-41.000~174.800]:T3BlbnF1YWtlOjEwMA==:00000")
        hash_name, range_name = LAYOUTS[name].key_names("stats")
        assert attributes(item)[hash_name] == {"S": item.hash_key}
        assert attributes(item)[range_name] == {"S": item.range_key}


def test_a_site_code_with_quotes_stays_one_json_string() -> None:
    code = 'a"b\\c'
    for layout in LAYOUTS.values():
        (item,) = layout.encoding.encode(block_of(np.zeros((1, 1, 1, 2), np.float32), codes=[code]), layout.partition)
        assert attributes(item)[layout.key_names("stats")[1]]["S"] == item.range_key


@pytest.mark.parametrize(
    ("lat", "lon", "expected"),
    [
        (-41.3, 174.8, "-41.5~175.0"),
        (-0.1, 0.1, "0.0~0.0"),
        (-41.25, 174.25, "-41.0~174.0"),
        (89.9, -179.9, "90.0~-180.0"),
    ],
)
def test_location_bin(lat: float, lon: float, expected: str) -> None:
    assert location_bin(lat, lon) == expected


FINE = next(poes_to_payloads(np.full((1, 2, 3), 0.5, np.float32), np.ones((2, 3))))


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\x02", b"\x01junk", bytes([FORMAT << 4]) + b"junk", FINE[:-1], FINE + b"\0", FINE[:2] + b"\xff" * 9],
    ids=["empty", "a byte", "another format", "order 0", "truncated", "longer", "other bits"],
)
def test_a_damaged_payload_is_named_as_such_and_spoils_no_other(damaged: bytes) -> None:
    before, wrong, after = payloads_to_poes([FINE, damaged, FINE], np.ones((2, 3)))
    assert isinstance(wrong, CorruptItemError)
    np.testing.assert_array_equal([before, after], np.full((2, 2, 3), 0.5))


def test_a_payload_of_another_shape_is_named_as_such() -> None:
    payloads = list(poes_to_payloads(np.random.default_rng(3).random((1, 2, 6), np.float32), np.ones((2, 6))))
    for shape in ((2, 5), (2, 7), (1, 6), (3, 6), (3, 4)):
        (wrong,) = payloads_to_poes(payloads, np.ones(shape))
        assert isinstance(wrong, CorruptItemError)


def test_an_item_without_poes_is_named_as_such() -> None:
    wrong, fine = LAYOUTS["packed+solution"].encoding.decode(
        [{}, {"poes": {"B": FINE}}], {"PGA": np.ones(3), "SA": np.ones(3)}
    )
    assert isinstance(wrong, CorruptItemError)
    np.testing.assert_array_equal(fine, np.full((2, 3), 0.5))


def test_list_items_are_decoded_by_label_not_by_place() -> None:
    layout = LAYOUTS["list+solution"]
    block = block_of(np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4) / 10)
    item = attributes(next(layout.encoding.encode(block, layout.partition)))
    item["values"]["L"].reverse()
    np.testing.assert_array_equal(decoded(layout, [item], imtls_of(block))[0], block.poes[0, 0])
    item["values"]["L"][0]["M"]["imt"]["S"], item["values"]["L"][1]["M"]["imt"]["S"] = "SA(0.5)", "SA(1.5)"
    (wrong,) = layout.encoding.decode([item], imtls_of(block))
    assert isinstance(wrong, CorruptItemError)
    assert "levels" in str(wrong)


def test_unknown_layouts_are_refused_with_the_choice() -> None:
    with pytest.raises(UsageError, match="packed or list"):
        layout_from_names("zip", "solution")
    with pytest.raises(UsageError, match="solution or location"):
        layout_from_names("list", "site")
