"""Runs seen from outside, by their files alone: none is opened, and torch is not loaded."""
