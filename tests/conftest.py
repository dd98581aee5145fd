"""Shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# How long a case takes says nothing on a machine that others use too: a time is never asserted.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
