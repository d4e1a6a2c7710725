"""Benchmarks: opening and reducing detector files, side by side with the machine's limit and other readers."""
