"""The OS boundary around every generated program.

`guest/` runs inside; everything else here runs in the host. What is covered and what is not is
listed in docs/explanation/threat-model.md.
"""
