"""Stores: where checkpoints live."""
