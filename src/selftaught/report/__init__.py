"""A recorded run as something to read or to compute with: a page, tables, a tracker's entry.

Everything here is a read of the store. Numbers come from `selftaught.runs.recall`, so they are
those that the run itself printed.
"""
