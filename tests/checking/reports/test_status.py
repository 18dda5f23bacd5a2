from __future__ import annotations

from reports import finding

from jaxprim.checking.reports.status import BAD, SIGNS, WORST_FIRST


def test_every_status_has_its_signs_and_each_mark_one_meaning():
    assert set(SIGNS) == set(WORST_FIRST)
    for marks in ([sign.mark for sign in SIGNS.values()], [sign.plain for sign in SIGNS.values()]):
        assert len(set(marks)) == len(SIGNS)
        assert all(len(mark) == 1 for mark in marks)
    assert all(sign.plain.isascii() for sign in SIGNS.values())


def test_what_is_bad_comes_first():
    assert [status for status in WORST_FIRST if not finding(status).ok] == list(BAD) == list(WORST_FIRST[: len(BAD)])
