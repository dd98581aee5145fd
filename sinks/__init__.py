"""Sinks: where parts are written; usable without `etl`."""
