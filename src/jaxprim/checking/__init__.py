"""The checker: named questions to one operation, each answered with its evidence. *Checked*, not *proved*."""

from jaxprim.checking.report import Evidence, Finding, Report
from jaxprim.checking.run import check

__all__ = ["Evidence", "Finding", "Report", "check"]
