"""`python -m pharos`."""

from pharos.doors.cli import main

main()
