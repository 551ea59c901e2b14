"""`python -m selftaught` is `selftaught`."""

from selftaught.cli import main

main()
