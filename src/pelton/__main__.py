"""`python -m pelton` is the `pelton` command."""

from pelton.cli.main import main

main()
