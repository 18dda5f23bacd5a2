"""Reports as one self-contained HTML page, which opens offline and can be sent as an attachment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxprim.checking.questions import QUESTIONS
from jaxprim.checking.reports import svg
from jaxprim.checking.reports.findings import Evidence, Finding
from jaxprim.checking.reports.report import WHAT_IT_RESTS_ON, Report, Row
from jaxprim.checking.reports.status import SIGNS
from jaxprim.checking.reports.svg import Heat, Lines

if TYPE_CHECKING:
    from jinja2 import Template


# Each question has a page there.
QUESTION_PAGES = "https://github.com/jaxprim/jaxprim/blob/main/docs/checking/questions"


class Drawing(NamedTuple):
    """A drawn picture: its SVG, and a sample of each curve with its name."""

    picture: Lines | Heat
    image: Any
    legend: list[tuple[Any, str]]


def render(reports: Sequence[Report]) -> str:
    """Reports as the text of an HTML file."""
    return _template().render(
        reports=reports,
        signs=SIGNS,
        rests_on=WHAT_IT_RESTS_ON,
        pages=QUESTION_PAGES,
        sentences=sentences(),
        groups=groups,
        drawings=drawings,
        rules_run=rules_run,
    )


def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("jaxprim.checking.reports").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def sentences() -> dict[str, str]:
    """The sentence of each question."""
    return {question.name: question.sentence for question in QUESTIONS}


def groups(report: Report) -> dict[str, list[Row]]:
    """The rows of a report by the group of their question."""
    known = {question.name: question.group for question in QUESTIONS}
    found: dict[str, list[Row]] = {}
    for row in report.rows:
        found.setdefault(known.get(row.question, "other"), []).append(row)
    return found


def drawings(report: Report) -> Iterator[Drawing]:
    """The pictures of a report, drawn. Their text is escaped by `svg`."""
    from markupsafe import Markup

    for picture in report.pictures:
        curves = () if isinstance(picture, Heat) else picture.series
        legend = [(Markup(svg.sample(number)), curve.name) for number, curve in enumerate(curves)]
        yield Drawing(picture, Markup(svg.draw(picture)), legend)


def rules_run(report: Report) -> dict[str, dict[str, tuple[str, bool]]]:
    """The rules that ran in each context, by mode, and whether they are the right ones."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for item in (e for f in report.findings if f.question == "which-rule" for e in _in_a_context(f)):
        mode, _, context = item.against.partition(", ")
        found.setdefault(context, {})[mode] = (str(item.got), item.ok)
    return found


def _in_a_context(finding: Finding) -> Iterator[Evidence]:
    return (item for item in finding.evidence if ", " in item.against)
