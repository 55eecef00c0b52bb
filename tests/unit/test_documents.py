"""The pages of the documentation and what they show."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)")


def test_what_a_page_of_ours_links_to_is_there() -> None:
    assert len(PAGES) > 10
    for page in PAGES:
        for target in LINK.findall(page.read_text()):
            if "://" not in target and not target.startswith("/"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_each_picture_is_shown_by_a_page() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target in LINK.findall(page.read_text())}
    pictures = set((ROOT / "docs" / "img").iterdir())
    assert pictures
    assert pictures <= shown, sorted(picture.name for picture in pictures - shown)
