"""Conformance suites and test tools for sinks, stores and jobs; public."""
