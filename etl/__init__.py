"""Streaming ETL: generators in, exactly-once loads out."""
