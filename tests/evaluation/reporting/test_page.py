from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from foolart.evaluation.reporting.contents import Contents

from ..synthetic import record, records
from .conftest import EVIL

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
from foolart.evaluation.reporting.page import page

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Collects what a page holds, and fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.tags = [], [], [], []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [
            values[name] for name in ("href", "src", "srcset", "action") if name in values
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        where = self.open[-1] if self.open else ""
        self.text[where] = self.text.get(where, "") + data

    @property
    def words(self) -> str:
        return " ".join(text for tag, text in self.text.items() if tag not in ("script", "style"))


@pytest.fixture(scope="module")
def html(contents):
    return page(contents)


def test_every_link_resolves_and_none_leaves_the_folder(contents, html):
    parsed = Page(html)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.links
    for link in parsed.links:
        if link.startswith("#"):
            assert link[1:] in parsed.ids
        elif not link.startswith("data:"):
            assert (contents.folder / link).is_file()
    code = re.sub(r"data:image/png;base64,[\w+/=]*", "", html)
    outside = re.findall(r"(?:https?:)?//[a-z][\w.]*", code)
    assert set(outside) <= {"http://www.w3.org"}  # the name of SVG, which nothing fetches
    assert "@import" not in html
    assert not re.search(r"url\((?!data:)", html)


def test_no_link_is_left_in_a_page_that_embeds(contents):
    links = Page(page(contents, embed=True)).links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert sum(link.startswith("data:image/png") for link in links) > 20


def test_names_cannot_break_the_page(html):
    parsed = Page(html)
    assert EVIL in parsed.words
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    data = json.loads(re.search(r'type="application/json" id="data">(.*?)</script>', html)[1])
    assert any(EVIL in task["name"] for task in data["operating"])


def test_every_comparison_is_listed_with_its_trouble(contents, html):
    words = Page(html).words
    for row in contents.summary.rows:
        assert row.line.attack in words
    assert "1 of 22 comparisons have no complete results" in words
    assert words.count(f"ValueError: {EVIL}") == 2  # at the top, and in the table
    assert "zeros on failure" in words


def test_the_sections_a_run_calls_for_are_there(contents, html):
    ids = Page(html).ids
    for name in ("leaderboard", "curves", "anytime", "pictures", "wins", "transfer", "defences"):
        assert name in ids
    words = Page(html).words
    for text in (contents.command, "2.13", "a test", "packages.torch", "no gradient on 6 of 6"):
        assert text in words
    bare = Page(page(Contents(records([0.1, math.nan])))).ids
    assert {"leaderboard", "curves"} <= set(bare)
    assert not {"anytime", "pictures", "wins", "transfer", "defences"} & set(bare)


def test_images_say_what_they_show_and_tables_have_headings(html):
    parsed = Page(html)
    for tag, values in parsed.tags:
        if tag == "img":
            assert values["alt"]
        if tag == "svg" and values.get("role") == "img":
            assert values["aria-label"]
        if tag == "th":
            assert values.get("scope") or values.get("class") == "corner"
    assert ("html", {"lang": "en"}) in parsed.tags


def test_equal_contents_give_equal_pages(contents, html):
    assert page(dataclasses.replace(contents, records=list(reversed(contents.records)))) == html


def test_a_run_under_way_says_so():
    run = Contents(records([0.1]))
    for progress, said in (((3, 7), True), ((7, 7), False)):
        words = Page(page(dataclasses.replace(run, progress=progress))).words
        assert ("3 of 7 work units are finished" in words) == said


def test_nothing_measured_yet_is_a_page_too():
    words = Page(page(Contents([], requested=[record().comparison]))).words
    assert "There are no results yet." in words
    assert "no results yet" in words
    assert Page(page(Contents([])))


def test_a_damaged_picture_is_reported_and_does_no_harm(contents, tmp_path):
    folder = shutil.copytree(contents.folder, tmp_path / "damaged")
    for name in {row.file for row in contents.records if row.file}:
        (folder / name).write_bytes(b"no image")
    words = Page(page(dataclasses.replace(contents, folder=folder))).words
    assert "No picture:" in words


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (Debian: apt install chromium)"
)
def test_the_charts_come_to_life_in_a_browser(contents, html, tmp_path):
    probe = """<script>
      document.querySelector('[data-chart="operating"] .controls input').click();
      document.querySelector('.board thead button').click();
      document.title = JSON.stringify({
        curves: document.querySelectorAll('[data-chart="operating"] .curve').length,
        legend: document.querySelectorAll('[data-chart="operating"] .legend li').length,
        anytime: document.querySelectorAll('[data-chart="anytime-chart"] svg .curve').length,
        read: document.querySelector('[data-chart="operating"] output').textContent,
        sorted: document.querySelectorAll('[aria-sort]').length,
        bad: /NaN|undefined/.test(document.querySelector('main').innerHTML),
        wide: document.documentElement.scrollWidth > innerWidth,
      });
    </script></body>"""
    path = contents.folder / "probe.html"
    path.write_text(html.replace("</body>", probe), encoding="utf-8")
    shot = tmp_path / "report.png"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,2000"]
    dump = subprocess.run(
        [*command, "--virtual-time-budget=2000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = json.loads(re.search(r"<title>(\{.*?\})</title>", dump)[1])
    # Nine lines of the first task (raw ones shown after the click): six have a success at all.
    assert found["legend"] == 9
    assert found["curves"] == 6 + 9
    assert found["anytime"] >= 2
    assert found["read"].endswith("%")
    assert found["sorted"] == 1
    assert not found["bad"]
    assert not found["wide"]
    subprocess.run([*command, f"--screenshot={shot}", path.as_uri()], timeout=120, check=True)
    assert shot.stat().st_size > 10_000
