"""What is made of the answers.

- `status`: the answers that there are, with their marks. `findings`: one answer, and the comparisons it rests on.
- `report`: all answers of one check, as text and as JSON (with `codec`). `hints`: likely causes of wrong numbers.
- `expected`: failures that a project records in its pyproject.toml.
- `page`: the HTML page, filled into `report.html.jinja`. `measure`: what its pictures show. `svg`: drawing them.
"""
