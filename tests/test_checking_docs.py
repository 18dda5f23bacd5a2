"""The pages about checking are complete: every question, option and exit code, and the file that the pictures show."""

from __future__ import annotations

import re

import pages
import pytest
from click.testing import CliRunner

from jaxprim import cli
from jaxprim.checking.questions import QUESTIONS

FOLDER = pages.ROOT / "docs" / "checking"
README = (FOLDER / "README.md").read_text()
QUESTIONS_FOLDER = FOLDER / "questions"
QUESTIONS_PAGE = (QUESTIONS_FOLDER / "README.md").read_text()
# How thorough a check must be to ask a question, as its page says it.
ASKED = {
    "fast": "Asked by every check.",
    "normal": "Asked by every check except with `--fast`.",
    "thorough": "Asked only with `--thorough`.",
}
# These measure: a rule that is right may be dear.
MEASURED = ("kernel-runs", "residuals")


def test_the_index_has_every_question_in_order_under_its_group():
    group, found = "", []
    for title, name, link, sentence, speed in re.findall(
        r"^## (.*)$|^\| \[(.+)\]\((.+)\) \| (.*) \| (\w+) \|$", QUESTIONS_PAGE, re.MULTILINE
    ):
        group = title.lower() or group
        if name:
            found.append((name, link, sentence, speed, group))
    assert found == [(q.name, f"{q.name}.md", q.sentence, q.speed, q.group) for q in QUESTIONS]


def test_every_question_has_a_page_and_every_page_a_question():
    assert {path.stem for path in QUESTIONS_FOLDER.glob("*.md")} == {"README", *(q.name for q in QUESTIONS)}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_page_says_what_the_table_says_and_shows_a_wrong_rule(question):
    text = (QUESTIONS_FOLDER / f"{question.name}.md").read_text()
    head = f"# {question.name}\n\n*{question.sentence}*\n\n{ASKED[question.speed]}\n\n"
    assert text[: len(head)] == head
    example = "An expensive rule that it reveals" if question.name in MEASURED else "A wrong rule that it catches"
    headings = re.findall(r"^## (.*)$", pages.prose(text), re.MULTILINE)
    assert headings == ["Why it matters", "What it compares", example, "What it cannot see"]
    text = text[text.index(example) : text.index("What it cannot see")]
    code, output, *_ = (block for block in pages.blocks(text) if block.info[0] in ("python", "output"))
    assert question.name in re.search(r"only=(.*)\)", code.text)[1]
    assert output.info == ("output",)
    assert output.text.strip()


@pytest.mark.parametrize("command", ["check", "fuzz"])
def test_every_option_is_told(command):
    names = [name for option in cli.main.commands[command].params for name in option.opts if name.startswith("--")]
    assert [name for name in names if f"`{name}" not in README and f" {name}" not in README] == []


def test_every_exit_code_is_told_as_the_command_line_has_it():
    told = re.findall(r"^\| (\d) \| (.*) \|$", README, re.MULTILINE)
    assert re.findall(r"^  (\d)  (.*)$", cli.check.EXIT_CODES, re.MULTILINE) == [
        (n, text.replace("`", "")) for n, text in told
    ]


def test_the_page_opens_with_the_file_that_the_pictures_show():
    (first, *_) = pages.blocks(README)
    assert first.text == (FOLDER / "gaussian.py").read_text()


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ("terminal-start", "elsewhere"),
        ("terminal", "factor 1/4, and x has 4 elements: a mean where a sum belongs"),
        ("terminal-passing", "questions pass"),
    ],
)
def test_the_pictures_of_the_terminal_show_that_report_and_load_nothing(picture, text):
    svg = (FOLDER / f"{picture}.svg").read_text().replace("&#160;", " ")
    assert text in svg
    assert re.findall(r"https?://[^\"' )]*", svg.replace("http://www.w3.org/2000/svg", "")) == []


def test_help_tells_what_the_marks_mean():
    text = CliRunner().invoke(cli.main, ["check", "--help"]).output
    assert "✗  fail " in text
