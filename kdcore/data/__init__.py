"""Imagery and labels: scenes, collections, splits, batches and the demo area."""
