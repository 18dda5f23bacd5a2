"""The page is one well-formed file that needs no other, says in words what it shows in colours, and escapes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from reports import everything, finding

from jaxprim import Report
from jaxprim.checking.reports import svg
from jaxprim.checking.reports.page import render, rules_run
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.reports.svg import Heat, Lines, Series

VOID = {"meta"}
LINES = Lines(
    "steps", "c", "x", "step", "error", (Series("a & b", (0.1, 0.01), (1e-3, 0.0)), Series("c", (1.0,), (2.0,)))
)


class Tags(HTMLParser):
    """Every tag with its attributes; raises where an end tag is not that of the innermost element."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def tags():
    return Tags(everything().html()).found


def test_it_needs_no_other_file(tags):
    text = everything().html()
    assert not re.search(r"https?://|url\(|@import", re.sub(r'<a href="https://[^"]*">', "<a>", text))
    assert [tag for tag, attrs in tags if tag in ("script", "link", "img") or "src" in attrs] == []


def test_it_follows_light_and_dark():
    assert "prefers-color-scheme: dark" in everything().html()


def test_every_reference_has_its_target(tags):
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = [attrs["href"].removeprefix("#") for tag, attrs in tags if tag == "a" and attrs["href"].startswith("#")]
    used += [name for _, attrs in tags for name in attrs.get("aria-labelledby", "").split()]
    assert set(used) <= set(ids)


def test_a_screen_reader_hears_what_the_eye_sees(tags):
    pictures = [attrs for tag, attrs in tags if tag == "svg" and "aria-hidden" not in attrs]
    assert pictures
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in pictures)
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")


def test_what_scrolls_is_reached_by_keyboard(tags):
    assert [attrs for _, attrs in tags if attrs.get("role") == "region" and attrs.get("tabindex") != "0"] == []


def test_text_of_the_author_is_escaped():
    bad = finding("fail", [Evidence("vjp", "<script>alert(1)</script>", ok=False)], reason="a < b")
    text = Report("<b>op</b>", 0, (bad,)).html()
    assert "<script>" not in text
    assert "<b>op" not in text


def test_several_reports_have_an_index():
    found = Tags(render([everything(), Report("other", 0, (finding(),))])).found
    links = [attrs["href"] for tag, attrs in found if tag == "a"]
    assert links[:3] == ["#content", "#report-1", "#report-2"]


def test_which_rule_ran_where():
    evidence = [
        Evidence("jvp", "forward mode, jit", "the rules that ran", got="jvp x 1"),
        Evidence("vjp", "reverse mode, jit", "the rules that ran", got="jvp x 1", ok=False),
    ]
    report = Report("op", 0, (finding("fail", evidence, "which-rule"),))
    assert rules_run(report) == {"jit": {"forward mode": ("jvp x 1", True), "reverse mode": ("jvp x 1", False)}}
    assert "Which rule ran where" in report.html()


def test_curves():
    root = ElementTree.fromstring(svg.draw(LINES))
    curves = [element.get("points") for element in root.iter("polyline")]
    (x0, y0), (x1, y1) = [map(float, point.split(",")) for point in curves[0].split()]
    assert x1 < x0  # 0.01 is left of 0.1
    assert y1 > y0  # zero is drawn below what is not
    assert root.find("title").text == "steps"
    assert "a & b: between 0.0e+00 and 1.0e-03" in root.find("desc").text


def test_a_matrix():
    heat = Heat("jacobian", "c", "x", ("y[0]", "y[1]"), ("x[0]",), ((0.0,), (float("nan"),)))
    root = ElementTree.fromstring(svg.draw(heat))
    cells = [(cell.find("title").text, float(cell.get("fill-opacity"))) for cell in root.iter("rect")]
    assert cells == [("y[0] by x[0]: 0.00e+00", 0.0), ("y[1] by x[0]: nan", 1.0)]


def test_shades_follow_the_logarithm():
    assert [round(svg.shade(v), 3) for v in (0, 1e-9, 10**-4.5, 1, 50, float("inf"))] == [0, 0, 0.5, 1, 1, 1]


@pytest.mark.parametrize(("power", "text"), [(0, "1"), (-12, "10⁻¹²"), (3, "10³")])
def test_powers_of_ten(power, text):
    assert svg.power_of_ten(power) == text
