"""Runs on the host: training in one call, the checker, an agent step by step, transcripts, curves and evaluation."""
