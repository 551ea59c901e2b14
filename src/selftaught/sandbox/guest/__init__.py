"""The part of the sandbox that runs inside it.

Nothing here may import more than the standard library and its own siblings: the folder is run as
a program (`python guest/`) by an interpreter that never sees the rest of the package.
"""
