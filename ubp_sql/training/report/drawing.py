"""How figures look, and their way from matplotlib into the page as SVG and into a folder as PNG.

Figures are drawn at the width of a phone, so that their text is as large as the page's everywhere. Colours are those of
the light page; in the SVG they become the page's variables, so a figure follows it into the dark. Text stays text.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Blue and grey stay apart for every kind of colour blindness, and in print; lines differ by their dashes too.
COLOURS = {
    "ink": "#1c2127",
    "muted": "#5a6472",
    "rule": "#dde2e8",
    "grey": "#8d97a5",
    "accent": "#0b61a4",
    "soft": "#c9dcee",
    "paper": "#fefefe",
}
INK, MUTED, RULE, GREY, ACCENT, SOFT, PAPER = COLOURS.values()
DASHED = (0, (4, 3))
WIDTH, HEIGHT = 4.6, 3.3  # inches of 72 SVG units
PNG_DPI = 200

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a feature may be called $x$
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.labelpad": 5.0,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Drawn:
    """A figure of the page.

    name     of its PNG, and of what its SVG refers to
    said     what it shows, in words, for those who do not see it
    """

    name: str
    title: str
    caption: str
    said: str
    svg: str
    png: bytes | None = None


def drawn(
    name: str,
    title: str,
    caption: str,
    said: str,
    draw: Callable[[Axes], None],
    *,
    height: float = HEIGHT,
    width: float = WIDTH,
    png: bool = False,
) -> Drawn:
    """The figure that `draw` fills the axes of."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks: the page's browser has it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03)  # type: ignore[union-attr, call-arg]
        text = io.StringIO()
        FigureCanvasSVG(figure)
        # Without its date a figure is the same in every run.
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        image = None
        if png:
            figure.suptitle(title, color=INK, fontsize=11, fontweight="bold", x=0.02, ha="left")
            FigureCanvasAgg(figure)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=PNG_DPI, facecolor=PAPER, metadata={"Software": None})
            image = buffer.getvalue()
    return Drawn(name, title, caption, said, inlined(text.getvalue(), name, said), image)


_NAMES = {value: name for name, value in COLOURS.items()}
_COLOUR = re.compile("|".join(_NAMES))
_LONG = re.compile(r"(\.\d\d)\d+")
_FONT = re.compile(r"font-family: [^;]*;?")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def inlined(svg: str, name: str, said: str) -> str:
    """matplotlib's file as an element of a page: it scales, has the page's font and colours, and no id comes twice."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - matplotlib wrote it, and escaped what it was given
    needed = {
        found
        for element in root.iter()
        for value in element.attrib.values()
        for found in (*_REFERENCE.findall(value), *([value[1:]] if value.startswith("#") else []))
    }
    for parent in list(root.iter()):
        for child in list(parent):
            # The file's style sheet would be the whole page's; the page has the two lines of it.
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.tag != "text":
            element.text = None
        kept = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if kept.get("id") not in needed:
            kept.pop("id", None)
        element.attrib.clear()
        element.attrib.update({key: _attribute(key, value, name) for key, value in kept.items()})
    root.attrib.clear()
    root.attrib.update(viewBox=_view_box(svg), role="img", **{"aria-label": said})
    return ElementTree.tostring(root, encoding="unicode")


def _view_box(svg: str) -> str:
    found = re.search('viewBox="([^"]*)"', svg)
    if found is None:
        raise ValueError("matplotlib wrote no viewBox")
    return found[1]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value[1:]}"
    value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    value = _COLOUR.sub(lambda found: f"var(--{_NAMES[found[0]]})", value)
    return _LONG.sub(r"\1", _FONT.sub("", value))


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]+")


def label(text: str, most: int = 48) -> str:
    """A name from the database as text of a figure: what XML cannot hold is a space, what is too long is cut."""
    text = " ".join(_CONTROL.sub(" ", text).split())
    return text if len(text) <= most else text[: most - 1] + "…"
