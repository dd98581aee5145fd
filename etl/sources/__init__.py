"""Sources, first ones."""
