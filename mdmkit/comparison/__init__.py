"""Runs compared: curves, speed-ups, differences, and how sure one can be of them."""
