"""Scores, curves and comparisons, all computed from histograms."""
