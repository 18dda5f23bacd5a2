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
QUESTIONS_PAGE = (FOLDER / "questions.md").read_text()
# A heading with the name, then what the question asks, and how thorough a check must be to ask it.
ENTRIES = re.findall(r"^### (\S+)\n\n\*(.*?)\*(?: (Fast|Thorough)\.)?\n\n\S", QUESTIONS_PAGE, re.MULTILINE)


def test_every_question_has_its_entry_in_order():
    speeds = {"fast": "Fast", "normal": "", "thorough": "Thorough"}
    assert [(question.name, question.sentence, speeds[question.speed]) for question in QUESTIONS] == ENTRIES


def test_entries_stand_under_their_group():
    headings = re.findall(r"^(##|###) (.*)$", QUESTIONS_PAGE, re.MULTILINE)
    group, found = "", {}
    for level, title in headings:
        group, found = (title.lower(), found) if level == "##" else (group, {**found, title: group})
    assert found == {question.name: question.group for question in QUESTIONS}


@pytest.mark.parametrize("command", ["check", "fuzz"])
def test_every_option_is_told(command):
    names = [name for option in cli.main.commands[command].params for name in option.opts if name.startswith("--")]
    assert [name for name in names if f"`{name}" not in README and f" {name}" not in README] == []


def test_every_exit_code_is_told_as_the_command_line_has_it():
    told = re.findall(r"^\| (\d) \| (.*) \|$", README, re.MULTILINE)
    assert re.findall(r"^  (\d)  (.*)$", cli.EXIT_CODES, re.MULTILINE) == [
        (n, text.replace("`", "")) for n, text in told
    ]


def test_the_page_opens_with_the_file_that_the_pictures_show():
    (first, *_) = pages.blocks(README)
    assert first.text == (FOLDER / "gaussian.py").read_text()


def test_the_picture_of_the_terminal_shows_that_report_and_loads_nothing():
    svg = (FOLDER / "terminal.svg").read_text().replace("&#160;", " ")
    assert "factor 1/4, and x has 4 elements: a mean where a sum belongs" in svg
    assert re.findall(r"https?://[^\"' )]*", svg.replace("http://www.w3.org/2000/svg", "")) == []


def test_help_tells_what_the_marks_mean():
    text = CliRunner().invoke(cli.main, ["check", "--help"]).output
    assert "✗  fails" in text
