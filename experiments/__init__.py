"""Suites, the main job and benchmarks: what is run, recorded and judged."""
