"""The reference pages say what the code says, and the pages point at things that exist."""

import re
from pathlib import Path

import pytest

from tests.support.reference_docs import PAGES, ROOT

MARKDOWN = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md")
    for page in ROOT.glob(pattern)
    # Packages that an example in JavaScript was built with have pages of their own.
    if "node_modules" not in page.parts
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_reference_page_is_what_the_code_says(page: Path) -> None:
    assert page.read_text() == PAGES[page](), "run: python -m tests.support.reference_docs"


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
