"""An item decoded from the documentation alone: nothing here comes from hazard_store."""

import json
import re
import struct
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "packed-format.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_decodes_its_example() -> None:
    namespace: dict[str, Any] = {}
    exec(blocks("python")[0], namespace)
    payload = bytes.fromhex(blocks("text")[0].strip())
    example = json.loads(blocks("json")[0])
    expected = example["poes"]

    decoded = namespace["decode"](payload, example["levels"])

    as_bits = [[struct.pack("<f", poe) for poe in row] for row in decoded]
    assert as_bits == [[struct.pack("<f", poe) for poe in row] for row in expected]
