"""The experiment that this project began with: where the memory of a container goes that only writes files."""
