"""What mkdocs is told beside the pages that are written by hand: pages that are made, links that leave the folder.

The first page is the README; the reference has a page for each room of public names, made of their docstrings, and
one for each cell of the catalogue, with numbers that are measured when the site is built; each script of the course
has a page that a picture of the gallery opens.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from cellcards import cell_page, cells_page  # noqa: E402
from course import marked, put  # noqa: E402
from finding import finding_page  # noqa: E402
from formulas import as_mathml  # noqa: E402
from history import history_page  # noqa: E402
from playing import script  # noqa: E402
from rooms import ROOMS, room_page  # noqa: E402
from scripts import script_pages  # noqa: E402
from shaping import shaped  # noqa: E402
from showing import begin  # noqa: E402

# Files of the repository that are pages of the site.
TAKEN = {
    "README.md": "index.md",
    "README.zh-CN.md": "zh/index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
}
log = get_plugin_logger(__name__)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_startup(**_: Any) -> None:
    """Let the code of pages draw."""
    begin()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the cells, which are discovered, below their list in the navigation, by their classes' names."""
    import unvanish
    from unvanish.nn.named import class_name

    place = "reference/cells.md"
    cells: list[Any] = [{class_name(unvanish.cells[name]): f"reference/cells/{name}.md"} for name in unvanish.cells]
    assert config.nav is not None
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    number = next(number for number, part in enumerate(reference) if "Cells" in part)
    reference[number] = {"Cells": [place, *cells]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {place: (ROOT / name).read_text(encoding="utf-8") for name, place in TAKEN.items()}
    made |= {f"reference/{name}.md": room_page(name) for name in ROOMS}
    import unvanish

    made["reference/cells.md"] = cells_page()
    made["reference/index.md"] = finding_page()
    made["history.md"] = history_page()
    made |= script_pages()
    made |= {f"reference/cells/{name}.md": cell_page(unvanish.cells[name]) for name in unvanish.cells}
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    files.append(File.generated(config, "play-data.js", content=script()))
    gallery = files.get_file_from_path("gallery.md")
    if gallery is not None:  # its pictures are drawn by other pages, which have to come first
        files.remove(gallery)
        files.append(gallery)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site; what is not on it is named only."""
    here = page.file.src_uri
    origin = next((name for name, place in TAKEN.items() if place == here), f"docs/{here}")

    def follow(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        place, _, heading = target.partition("#")
        if "://" in target or not place:
            return found[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(origin), place))
        wanted = TAKEN.get(there, there.removeprefix("docs/") if there.startswith("docs/") else "")
        if files.get_file_from_path(wanted) is None:
            if not (ROOT / there).exists():
                log.warning("%s links to %s, which is nowhere", here, target)
            return found[0] if picture else words
        if words == target or words.endswith(".md"):  # read in the repository, that is a path; here, a title
            words = _title(files, wanted)
        led = posixpath.relpath(wanted, posixpath.dirname(here) or ".")
        return f"{picture}[{words}]({led}{'#' + heading if heading else ''})"

    markdown = marked(markdown)
    parts = re.split(r"(```.*?```|^    [^\n]*$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if number % 2 else LINK.sub(follow, part) for number, part in enumerate(parts))


def _title(files: Files, place: str) -> str:
    found = files.get_file_from_path(place)
    assert found is not None
    return found.content_string.partition("\n")[0].removeprefix("# ")


def on_post_page(output: str, page: Page | None = None, **_: Any) -> str:
    """Name the language of a page: browsers choose the forms of characters by it."""
    if page is not None and page.file.src_uri.startswith("zh/"):
        output = output.replace('<html lang="en"', '<html lang="zh-CN"', 1)
    return output


def on_page_content(html: str, **_: Any) -> str:
    """Typeset the formulas; put the code of the course and what it gave into its pages."""
    return put(shaped(as_mathml(html)))
