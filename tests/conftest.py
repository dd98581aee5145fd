"""Shared by all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long a case takes says nothing on a machine that others use too: a time is never asserted.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

# A shell that starts a command in the background has it ignore SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
