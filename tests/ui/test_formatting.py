"""Numbers as people read them, and text that stays text."""

import re

import pytest
from markdown_it import MarkdownIt

from kdcore.ui import formatting


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "**bold** _thin_ `code` ~gone~ # title",
        "[link](http://example.com) ![picture](http://example.com/x.png) http://example.com www.example.com",
        "1. list - list + list > quote | table | $x^2$ :material/home: :red[red] &amp; a -> b",
        "-5 points (95 % interval -1.2 to +3.4)",
    ],
)
def test_text_is_shown_as_it_was_typed(text):
    """markdown-it is the parser of another project; what it makes of the escaped text is the text itself."""
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(formatting.plain(text))
    shown = re.fullmatch(r"<p>(.*)</p>\n", html).group(1)
    assert "<" not in shown
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, character)
    assert shown == text


def test_a_title_is_one_line():
    assert formatting.plain("a\n\n# b") == r"a \# b"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (601, "10 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, words):
    assert formatting.duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [
        (1, "study", "1 study"),
        (3, "study", "3 studies"),
        (0, "scene", "0 scenes"),
        (1200, "class", "1,200 classes"),
        (2, "day", "2 days"),
    ],
)
def test_counts(number, unit, words):
    assert formatting.count(number, unit) == words


def test_shares_points_and_sizes():
    assert formatting.percent(0.8734) == "87.3\u00a0%"
    assert formatting.percent(None) == "–"
    assert formatting.points(1.25) == "+1.2"
    assert formatting.points(-0.04) == "+0.0"  # no minus zero
    assert formatting.parameters(24_400_000) == "24.4 M"
    assert formatting.parameters(150_000) == "150 k"
    assert formatting.times(40.7) == "41 times"
    assert formatting.times(3.24) == "3.2 times"
    assert formatting.megabytes(53_500_000) == "53.5 MB"
    assert formatting.megabytes(12_400) == "12 kB"
    assert formatting.megabytes(30) == "1 kB"
