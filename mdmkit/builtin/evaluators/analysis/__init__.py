"""Analyses: evaluators that show what is learned from what, in pictures."""
