"""`python -m etl`: the same as the console script `etl`."""

from etl.cli import main

main(prog_name="etl")
