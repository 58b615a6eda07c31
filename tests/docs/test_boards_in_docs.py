"""The page of boards is what the reports say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_boards_is_made_of_the_reports() -> None:
    page = runpy.run_path(str(DOCS / "make_boards.py"))["page"]()
    assert (DOCS / "npu-boards.md").read_text() == page
