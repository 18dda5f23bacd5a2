from __future__ import annotations

from jaxprim.checking.question import question


def test_the_name_is_that_of_the_function():
    @question("Is it?", group="values")
    def is_it_so(case):
        yield case

    assert (is_it_so.name, is_it_so.speed, is_it_so.departs) == ("is-it-so", "normal", None)


def test_a_question_is_called_as_its_function():
    made = question("Is it?", group="values", speed="fast", departs="jvp")(lambda case: iter([case]))
    assert (made.name, made.sentence, made.group, made.speed, made.departs) == (
        "<lambda>",
        "Is it?",
        "values",
        "fast",
        "jvp",
    )
    assert list(made(5)) == [5]
