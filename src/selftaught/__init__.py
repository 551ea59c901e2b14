"""selftaught: the Self-Taught Optimizer as an honest laboratory."""
