"""The process `etl`, and `python -m etl`, which is the same.

To import the rest takes some tenths of a second, in which a signal must not end the process by itself: so signals are
handled before anything is imported. (Before that stands the interpreter's own start, in which nothing can be done.)
"""

import atexit

from etl import interrupts

AGAIN = 75  # etl.commands.AGAIN, which is not to be imported yet


def main() -> None:
    """Run the command line; from the first line to the last, a signal ends the process with a code that is right."""
    interrupts.leave_at_once(AGAIN, "nothing was begun; run it again")
    atexit.register(interrupts.ignore)  # the first one to be registered is the last one to be called

    from etl.cli import main as command_line

    try:
        command_line(prog_name="etl")
    except SystemExit as ended:
        interrupts.leave_at_once(ended.code if isinstance(ended.code, int) else bool(ended.code), "")
        raise


if __name__ == "__main__":
    main()
