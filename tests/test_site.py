"""The documentation builds strictly; what it links to is there; it opens from its folder without a network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch

import unvanish
from tests.report.browsing import assert_no_overflow, launched, needs_chromium
from tests.support.whole import usual
from unvanish.diagnosis import CAUSES
from unvanish.flow.finding.parts import size_of

ROOT = Path(__file__).parents[1]
LEARN = ROOT / "docs" / "learn"
ZH = ROOT / "docs" / "zh" / "learn"
COURSE = sorted(page.name for page in LEARN.glob("*.md"))
TAUGHT = ["activations", "bptt", "jacobians", "linear", "random_products", "bounded", "depth"]  # without training


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site; the code of the course, which trains networks, is only shown: `make docs` runs it."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "COURSE_SHOWN": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return place


def targets(page: Path) -> Iterator[str]:
    """All that a page links to or loads."""
    for found in re.findall(r'(?:href|src)="([^"]*)"', page.read_text(encoding="utf-8")):
        yield unescape(found)


def test_every_link_leads_to_a_page_and_a_heading(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 50
    headings = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8"))) for page in pages}
    for page in pages:
        for target in targets(page):
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = there / "index.html" if there.is_dir() else there
            assert there.exists(), (page.name, target)
            if parts.fragment and there in headings:
                assert unquote(parts.fragment) in headings[there] | {"__search"}, (page.name, target)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(https?:[^"]*)"', text)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="(https?:[^"]*)"', text)
        assert loaded == [], page


def test_every_cell_has_a_card_and_stands_in_the_navigation(site: Path) -> None:
    for name in unvanish.cells:
        page = (site / "reference" / "cells" / f"{name}.html").read_text(encoding="utf-8")
        assert "<math" in page
        for part in (
            "Source: ",
            "reach of a fresh layer",
            "parameters,",
            "a training step",
            "equal to torchrecurrent",
        ):
            assert part in page, (name, part)
        assert 'href="../cells.html" class="md-nav__link' in page, name


def test_every_public_name_cause_task_and_word_of_a_remedy_is_in_the_reference(site: Path) -> None:
    index = (site / "reference" / "index.html").read_text(encoding="utf-8")
    rooms = [
        getattr(unvanish, name) for name in unvanish.__all__ if isinstance(getattr(unvanish, name), ModuleType)
    ]
    names = {name for room in rooms for name in getattr(room, "__all__", ())}
    assert len(names) > 60
    led = set(re.findall(r'<a href="[^"]*"><code>([\w.]+)</code></a>', index))
    assert names | {*unvanish.__all__} <= led | {"WORDS", "Penalty"}  # which are data, without a text of their own
    for word in (*CAUSES, *unvanish.init.WORDS, "omega-paper", "step-norm", "antisymmetric", "highway", "zoneout"):
        assert f"<code>{word}</code>" in index, word
    page = (site / "reference" / "unvanish.flow.html").read_text(encoding="utf-8")
    for name in unvanish.flow.__all__:
        assert f"unvanish.flow.{name}" in page, name


def test_every_cause_is_explained() -> None:
    told = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([^|]+) \|", told.partition("## The causes")[2], re.MULTILINE)
    words = {word.strip() for row in table for word in row.split(",")}
    words |= {
        f"non-finite {word}" for row in table if row.startswith("non-finite") for word in row[11:].split(", ")
    }
    assert set(CAUSES) <= words


def test_every_dated_result_is_in_the_history(site: Path) -> None:
    page = (site / "history.html").read_text(encoding="utf-8").replace("&#8209;", "-").replace("\u2011", "-")
    results = list((ROOT / "benchmarks" / "results").glob("*.json"))
    assert len(re.findall(r"<td>\d{4}-\d\d-\d\d</td>", page)) == len(results)


def test_long_lines_of_code_go_on_under_their_beginning_and_options_stay_whole() -> None:
    shaped = runpy.run_path(str(ROOT / "docs" / "site" / "shaping.py"))["shaped"]
    coloured = (
        '<pre><span></span><code><span id="__span-0-1"><span class="w">    </span>return x\n</span></code></pre>'
    )
    assert '<span class="line" style="--from: 8ch"><span class="w">    </span>return x' in shaped(coloured)
    plain = shaped("<pre><code>one --two\n  three\n</code></pre>")
    assert plain == (
        '<pre><code><span class="line" style="--from: 4ch">one --two\n</span>'
        '<span class="line" style="--from: 6ch">  three\n</span></code></pre>'
    )
    assert '<span class="c1"># with</span>' in shaped("<pre><code>train  # with\n</code></pre>")
    assert shaped("<code>train --lr-find</code>") == '<code>train <span class="whole">--lr-find</span></code>'


def test_every_formula_is_typeset(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert 'class="arithmatex"' not in page.read_text(encoding="utf-8"), page


def test_every_page_of_the_course_has_its_code_its_figures_and_what_it_asserts(site: Path) -> None:
    for code in (LEARN / "code").glob("*.py"):
        sections = re.findall(r"# --8<-- \[start:(\w+)\]", code.read_text(encoding="utf-8"))
        name = code.stem.replace("_", "-")
        shown = re.findall(rf'--8<-- "{code.name}:(\w+)"', (LEARN / f"{name}.md").read_text(encoding="utf-8"))
        assert sorted(shown) == sorted(sections), name
        assert "asserts" in sections
        assert (site / "learn" / f"{name}.html").exists()


def parts(page: str) -> dict[str, Counter[str]]:
    """What both languages of a page have in common, by kind; its order in a sentence is up to the language."""
    page = re.sub(r"^```.*?^```$|<!--.*?-->", "", page, flags=re.DOTALL | re.MULTILINE)
    formula, code, link = r"\$\$.+?\$\$|\$[^$]+\$", r"`[^`]+`", r"\]\([^)]+\)"
    prose = re.sub(f"{formula}|{code}|{link}", "", page, flags=re.DOTALL)
    links = [place.removeprefix("](").replace("../../", "../") for place in re.findall(link, page)]
    return {
        "formulas": Counter(" ".join(found.split()) for found in re.findall(formula, page, re.DOTALL)),
        "code": Counter(re.findall(code, page)),
        "numbers": Counter(re.findall(r"\d+(?:[.,]\d+)*", prose)),
        "links": Counter(place for place in links if "learn/" not in place),
    }


def test_the_course_has_the_same_pages_in_both_languages() -> None:
    odd = {page.name for page in ZH.glob("*.md")} ^ set(COURSE)
    assert not odd, f"in one of docs/learn and docs/zh/learn only: {sorted(odd)}"
    named = re.findall(r"(zh/)?learn/([\w-]+)\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    english, chinese = ([name for zh, name in named if bool(zh) is wanted] for wanted in (False, True))
    assert chinese == english, f"`nav` of mkdocs.yml has the pages {chinese} in Chinese, {english} in English"


@pytest.mark.parametrize("name", COURSE)
def test_both_languages_of_a_page_show_the_same(name: str) -> None:
    english, chinese = ((folder / name).read_text(encoding="utf-8") for folder in (LEARN, ZH))
    assert english.splitlines()[2] == f"[中文](../zh/learn/{name})"
    assert chinese.splitlines()[2] == f"[English](../../learn/{name})"
    blocks = [block for block in re.findall(r'--8<-- "(\w+)\.py:(\w+)"', english) if block[1] != "asserts"]
    asked = re.findall(r"<!-- shown (\w+): (\w+) -->", chinese)
    assert asked == blocks, f"docs/zh/learn/{name} asks for {asked}; docs/learn/{name} shows {blocks}"
    here, there = parts(english), parts(chinese)
    for kind, found in here.items():
        missing, more = [*(found - there[kind]).elements()], [*(there[kind] - found).elements()]
        assert not missing + more, (
            f"{kind} only in docs/learn/{name}: {missing}; only in docs/zh/learn/{name}: {more}"
        )


def test_a_chinese_paragraph_stands_on_one_line() -> None:
    for page in ZH.glob("*.md"):
        for paragraph in page.read_text(encoding="utf-8").strip().split("\n\n"):
            lines = paragraph.splitlines()
            is_list = all(re.match(r"\d+\. ", line) for line in lines)
            assert len(lines) == 1 or is_list, (
                f"{page.name}: browsers show the end of this line as a space: {lines[0]}"
            )


def test_a_chinese_page_has_the_blocks_of_the_english_one_and_its_language(site: Path) -> None:
    for name in COURSE:
        place = f"learn/{name.removesuffix('.md')}.html"
        english, chinese = ((site / folder / place).read_text(encoding="utf-8") for folder in ("", "zh"))
        assert chinese.count('class="highlight"') == english.count('class="highlight"'), name
        assert '<html lang="zh-CN"' in chinese, name
        assert '<html lang="en"' in english, name


def test_the_gallery_has_every_figure_of_the_course_which_opens_its_script(site: Path) -> None:
    hung = re.findall(r"<!-- drawn (\w+) -->", (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8"))
    codes = {code.stem: code.read_text(encoding="utf-8") for code in (LEARN / "code").glob("*.py")}
    assert sorted(hung) == sorted(name for name, text in codes.items() if "start:figure" in text)
    put = runpy.run_path(str(ROOT / "docs" / "site" / "course.py"))["put"]
    figure = '<div class="drawn"><svg></svg></div>'
    for name in hung:
        shown = put(f"<!-- begin {name}: figure -->{figure}<!-- end --><p><!-- drawn {name} --></p>")
        assert f'<a href="scripts/{name}.html" title="{name}.py">{figure}</a>' in shown
        page = unescape(re.sub("<[^>]*>", "", (site / "scripts" / f"{name}.html").read_text(encoding="utf-8")))
        lines = [line for line in codes[name].splitlines() if line.strip() and "--8<--" not in line]
        assert "\n".join(lines) in re.sub(r"\n\s*\n", "\n", page), name


@pytest.mark.parametrize("name", usual(TAUGHT, [code.stem for code in sorted((LEARN / "code").glob("*.py"))]))
def test_the_code_of_the_course_runs_as_it_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(LEARN / "code" / f"{name}.py"))


def measured(settings: dict[str, Any]) -> list[float]:
    """What the product measures of the network of the page, by a recorded backward pass."""
    given = runpy.run_path(str(ROOT / "docs" / "site" / "playing.py"))["data"]()
    lstm, steps = settings["cell"] == "lstm", settings["length"]
    keywords: dict[str, Any] = {} if lstm else {"nonlinearity": settings["activation"]}
    layer = (unvanish.LSTM if lstm else unvanish.RNN)(3, given["units"], dtype=torch.float64, **keywords)
    gates = given["gates"] if lstm else {"h": {"U": given["U"], "W": given["W"]}}
    with torch.no_grad():
        for name, array in layer.named_parameters():
            array.zero_() if "bias" in name else None
        for gate, matrices in gates.items():
            layer[f"U_{gate}"].copy_(settings["radius"] * torch.tensor(matrices["U"], dtype=torch.float64))
            layer[f"W_{gate}"].copy_(torch.tensor(matrices["W"], dtype=torch.float64))
        if lstm:
            layer["b_f"].fill_(settings["bias"])
    x_TBI = torch.tensor(given["x"], dtype=torch.float64)[:, :steps].transpose(0, 1)
    v_SBN = torch.tensor(given["v"], dtype=torch.float64).transpose(0, 1)
    _, _, every = layer(x_TBI, all_states=True)
    states = [every[name][0] for name in layer.state_names]
    sizes = [size_of(torch.cat([torch.zeros_like(one[:1]), one])) for one in states]
    with unvanish.flow.record(layer) as recording:
        _, final = layer(x_TBI)
        last = final if lstm else (final,)
        sum((one[0] * v / size).sum() for one, v, size in zip(last, v_SBN, sizes, strict=False)).backward()
    norms_TS = np.asarray(recording["l0"].norms)[::-1]
    norms_T = np.sqrt(((norms_TS * np.asarray(sizes)) ** 2).sum(1))
    return list(norms_T / norms_T[0])


def descended(threshold: float) -> np.ndarray:
    """The first steps of a clipped descent over the cliff, by torch and the product's clip."""
    at, clip = torch.tensor([4.8, -2.3], dtype=torch.float64, requires_grad=True), unvanish.clip.ByNorm(threshold)
    path = [at.detach().clone()]
    for _ in range(19):
        x = torch.tensor(0.5, dtype=torch.float64)
        for _ in range(50):
            x = at[0] * torch.sigmoid(x) + at[1]
        (at.grad,) = torch.autograd.grad((torch.sigmoid(x) - 0.7) ** 2, at)
        clip([at])
        with torch.no_grad():
            at -= 0.5 * at.grad
        path.append(at.detach().clone())
    return torch.stack(path).numpy()


SETTINGS = [
    {"cell": "rnn", "activation": "tanh", "radius": 0.9, "bias": 0, "length": 40},
    {"cell": "rnn", "activation": "identity", "radius": 1.1, "bias": 0, "length": 100},
    {"cell": "rnn", "activation": "relu", "radius": 1.0, "bias": 0, "length": 30},
    {"cell": "rnn", "activation": "sigmoid", "radius": 2.0, "bias": 0, "length": 10},
    {"cell": "lstm", "activation": "tanh", "radius": 1.0, "bias": 0, "length": 50},
    {"cell": "lstm", "activation": "tanh", "radius": 0.6, "bias": 4, "length": 100},
]


@needs_chromium
def test_what_the_page_to_play_with_shows_is_what_the_product_measures(site: Path) -> None:
    with launched() as browser:
        page = browser.new_page()
        page.goto((site / "play.html").as_uri())
        for settings in SETTINGS:
            shown = page.evaluate("settings => play.profile(window.playData, settings)", settings)
            np.testing.assert_allclose(shown[:-1], measured(settings), rtol=1e-9, err_msg=str(settings))
        shown = page.evaluate("play.cliff('norm', 0.05, 0.5).path")
        np.testing.assert_allclose(shown[:20], descended(0.05), rtol=1e-6)
        before = page.inner_text("#play-told")
        page.select_option("#play-cell", "lstm")
        page.locator("#play-bias").fill("5")
        after = page.inner_text("#play-told")
        assert before != after
        assert "reaches at least 100 steps" in after


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_search_answers_from_the_folder(site: Path, width: int, scheme: str) -> None:
    faults: list[str] = []
    with launched() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(20_000)
        listen(page, faults)
        page.goto((site / "learn" / "gates.html").as_uri())
        if width == 400:
            page.click("label.md-header__button[for=__search]")
        field, answers = page.locator(".md-search__input"), ".md-search-result__link[href*='{}']"
        field.click()
        field.fill("悬崖")
        field.press("End")  # characters that no key has come without the event that is listened to
        page.locator(answers.format("zh/learn/cliff")).first.wait_for()
        field.fill("")
        field.press_sequentially("--penalty")
        page.locator(answers.format("remedies.html")).first.wait_for()
        field.fill("")
        field.press_sequentially("peephole")
        page.locator(answers.format("peephole_lstm.html")).first.click()
        page.wait_for_url("**/reference/cells/peephole_lstm.html*")
    assert faults == []


def listen(page: Any, faults: list[str]) -> None:
    """Write down every error, and every request that leaves the folder."""
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
    page.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith("http") else None)


# Letters are as high as ten points of a drawing, as it is shown.
LETTERS = (
    "[...document.querySelectorAll('.pictured img')].map((one) => 10 * one.clientWidth / one.naturalWidth * 4 / 3)"
)
HIDDEN_CODE = (
    "[...document.querySelectorAll('pre > code')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_open_in_a_browser(site: Path, width: int, scheme: str) -> None:
    faults: list[str] = []
    some = ["index", "zh/learn/gates", "learn/cliff", "reference/cells/lem", "reference/unvanish.flow", "remedies"]
    some += ["history", "reference/index"]
    pages = [page.relative_to(site).with_suffix("").as_posix() for page in sorted(site.rglob("*.html"))]
    pages.remove("404")  # for servers
    with launched() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        listen(page, faults)
        for name in usual(some, pages):
            page.goto((site / f"{name}.html").as_uri())
            assert_no_overflow(page)
            assert page.evaluate(HIDDEN_CODE) == 0, name
            assert all(height >= 8.5 for height in page.evaluate(LETTERS)), name
    assert faults == []
