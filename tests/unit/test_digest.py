import numpy as np
import pytest

from hazard_store.digest import combine_digests, curves_digest, digest_to_text

POES = np.linspace(0, 1, 2 * 3 * 2 * 4, dtype=np.float32).reshape(2, 3, 2, 4)
KINDS = ["mean", "0.1", "0.9"]


def test_order_and_batching_do_not_matter() -> None:
    whole = curves_digest(["A", "B"], KINDS, POES)
    parts = [curves_digest(["B"], KINDS[::-1], POES[1:, ::-1].copy()), curves_digest(["A"], KINDS, POES[:1])]
    assert combine_digests(parts) == whole
    assert len(digest_to_text(whole)) == 32


def changed_bit() -> int:
    poes = POES.copy()
    poes.view(np.uint32)[1, 2, 1, 3] ^= 1
    return curves_digest(["A", "B"], KINDS, poes)


@pytest.mark.parametrize(
    "other",
    [
        curves_digest(["B", "A"], KINDS, POES),
        curves_digest(["A", "B"], ["0.1", "mean", "0.9"], POES),
        curves_digest(["A", "B"], KINDS, POES[:, :, ::-1].copy()),
        combine_digests([curves_digest(["A", "B"], KINDS, POES), curves_digest(["A"], KINDS, POES[:1])]),
        curves_digest(["A"], KINDS, POES[:1]),
        changed_bit(),
    ],
    ids=["swapped sites", "swapped kinds", "swapped IMTs", "stored twice", "missing", "one bit"],
)
def test_every_corruption_shows(other: int) -> None:
    assert other != curves_digest(["A", "B"], KINDS, POES)


def test_ledgers_written_before_are_understood() -> None:
    assert digest_to_text(curves_digest(["A", "B"], KINDS, POES)) == "347677e49ae8a3bc17202a0d74dc2f39"
