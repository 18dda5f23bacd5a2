"""The checker asks named questions about one operation. Each answer comes with evidence: *checked*, not *proved*.

`run` has its front door, `check` and `report`. This file imports nothing, because the command line shows the marks of a
report in its help, which imports no JAX.
"""
