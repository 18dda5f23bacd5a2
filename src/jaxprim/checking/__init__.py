"""The checker: named questions to one operation, each answered with its evidence. *Checked*, not *proved*."""

from .report import Evidence, Finding, Report
from .run import check

__all__ = ["Evidence", "Finding", "Report", "check"]
