"""The JSON of a calculation's meta, made in pieces."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import orjson

from hazard_store.meta_document import calculation_to_document, document_digest, document_to_json
from hazard_store.oq import open_calculation


def as_lists(document: dict[str, Any]) -> dict[str, Any]:
    sites = {name: np.asarray(column).tolist() for name, column in document["sites"].items()}
    sites["vs30"] = [None if np.isnan(vs30) else vs30 for vs30 in sites["vs30"]]
    return document | {"sites": sites}


def test_the_pieces_are_the_json_of_the_whole(data_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "calc_1.hdf5"
    shutil.copyfile(data_dir / "custom_ids.hdf5", source)
    with h5py.File(source, "r+") as file:
        file["sitecol/vs30"][1] = np.nan
    with open_calculation(source) as calculation:
        document = calculation_to_document(calculation, {"stats": ["mean"], "realisations": []})
        # A text that looks like the place of the sites must not be taken for it.
        document["warnings"] = ["\0", "\\u0000"]
        whole = orjson.dumps(as_lists(document))
        assert b"".join(document_to_json(document)) == whole
        assert document_digest(document) == document_digest(orjson.loads(whole))
    assert [vs30 is None for vs30 in orjson.loads(whole)["sites"]["vs30"]][:3] == [False, True, False]


def test_columns_of_many_pieces_are_whole() -> None:
    n_sites = 20_000
    columns = {"code": [f"s{n}" for n in range(n_sites)], "lon": np.linspace(-180, 180, n_sites)}
    pieces = list(document_to_json({"imtls": {}, "sites": columns, "warnings": []}))
    assert max(map(len, pieces)) < 200_000
    read = orjson.loads(b"".join(pieces))
    assert list(read) == ["imtls", "sites", "warnings"]
    assert read["sites"] == {"code": columns["code"], "lon": columns["lon"].tolist()}


def test_a_document_without_sites_is_whole() -> None:
    document = {"sites": {"code": (), "lon": np.empty(0)}, "warnings": []}
    assert orjson.loads(b"".join(document_to_json(document))) == {"sites": {"code": [], "lon": []}, "warnings": []}
