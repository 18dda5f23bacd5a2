"""The checker asks named questions about one operation. Each answer comes with evidence: *checked*, not *proved*."""

from jaxprim.checking.questions import Speed
from jaxprim.checking.reports.report import Evidence, Finding, Report
from jaxprim.checking.run import check, report

__all__ = ["Evidence", "Finding", "Report", "Speed", "check", "report"]
