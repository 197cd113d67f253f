"""The report: one summary as a page, tables and a plot."""
