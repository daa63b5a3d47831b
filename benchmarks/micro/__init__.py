"""Micro-benchmarks: parts of cdaphne beside their counterparts, in one process."""
