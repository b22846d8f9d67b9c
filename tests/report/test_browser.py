"""The page in a real browser: nothing is asked for, nothing complained about, all of it fits and can be seen."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report import browser
from tests.report.made import untested, whole
from ubp_sql.training.report.page import page

WIDTHS = (390, 768, 1280)
FIGURES = """
[...document.querySelectorAll('figure svg')].map(f => {
  const box = f.getBoundingClientRect(), parent = f.closest('figure').getBoundingClientRect();
  return {width: box.width, height: box.height, inside: box.left >= -1 && box.right <= innerWidth + 1 &&
          box.width <= parent.width + 1, texts: f.querySelectorAll('text').length};
})"""
TEXT_SIZES = """
[...document.querySelectorAll('figure svg')].map(f => Math.min(...[...f.querySelectorAll('text')].map(
  t => parseFloat(getComputedStyle(t).fontSize) * f.getBoundingClientRect().width / f.viewBox.baseVal.width)))"""
OVERLAPS = """
[...document.querySelectorAll('figure svg')].flatMap(f => {
  const boxes = [...f.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 3) found.push(one + ' / ' + other);
  }));
  return found;
})"""
COLOUR = "getComputedStyle(document.querySelector('figure svg text')).fill"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    if browser.found() is None:
        pytest.skip("no Chromium here: apt-get install chromium-headless-shell, or `make test`, which installs it")
    with browser.browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"chance": whole(False)[0], "amount": whole(True)[0], "untested": page(untested(), png=False)[0]}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in made}


@pytest.mark.parametrize("name", ["chance", "amount", "untested"])
def test_it_fits_and_is_quiet(opened: browser.Browser, pages: dict[str, Path], name: str) -> None:
    for width in WIDTHS:
        opened.open(pages[name], width)
        assert opened.requests() == [pages[name].as_uri()]
        assert opened.complaints() == []
        assert opened.value("document.documentElement.scrollWidth") == width
        assert opened.value("document.title")
        figures = opened.value(FIGURES)
        assert len(figures) == {"chance": 10, "amount": 8, "untested": 0}[name]
        for figure in figures:
            assert figure["width"] > 200, figure
            assert figure["height"] > 100, figure
            assert figure["inside"], figure
            assert figure["texts"] > 0, figure
        assert all(size >= 8.5 for size in opened.value(TEXT_SIZES))
        assert opened.value(OVERLAPS) == []


def test_it_follows_into_the_dark_and_onto_paper(opened: browser.Browser, pages: dict[str, Path]) -> None:
    colours = []
    for dark in (False, True):
        opened.open(pages["chance"], 1280, dark=dark)
        colours.append((opened.value(COLOUR), opened.value("getComputedStyle(document.body).backgroundColor")))
    assert len({colour for pair in colours for colour in pair}) == 4
    opened.open(pages["chance"], 1280, dark=True, print_=True)
    assert opened.value("getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    assert opened.pdf().startswith(b"%PDF")


def test_the_browser_sees_what_it_should(opened: browser.Browser, tmp_path: Path) -> None:
    """A page that asks, complains and is too wide: the tests above would fail on it."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<title>x</title><link rel=icon href='data:,'><img src='missing.png'><div style='width:2000px'>wide</div>"
        "<figure><svg viewBox='0 0 9 9' width=9><text>one</text><text>two</text></svg></figure>"
        "<script>nonsense(</script>"
    )
    opened.open(bad, 390)
    assert any(address.endswith("missing.png") for address in opened.requests())
    assert opened.complaints()
    assert opened.value("document.documentElement.scrollWidth") > 390
    assert opened.value(OVERLAPS) == ["one / two"]
    width, height = struct.unpack(">II", opened.picture()[16:24])
    assert width >= 390
    assert height >= 900
