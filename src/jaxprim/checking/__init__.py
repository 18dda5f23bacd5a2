"""The checker: named questions to one operation, each answered with its evidence. *Checked*, not *proved*."""

from jaxprim.checking.reports.report import Evidence, Finding, Report
from jaxprim.checking.run import check, report

__all__ = ["Evidence", "Finding", "Report", "check", "report"]
