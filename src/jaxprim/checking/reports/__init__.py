"""Reports: the answers of a check, as data, text, JSON and HTML.

- `status`: the possible answers, with their marks. `findings`: one answer with its comparisons.
- `report`: all answers of one check, as text and as JSON (with `codec`). `hints`: likely causes of wrong numbers.
- `expected`: failures that a project records in its pyproject.toml.
- `page`: the HTML page, from `report.html.jinja`. `measure`: the data of its pictures. `svg`: the drawing.
"""
