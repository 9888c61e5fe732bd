"""The components we ship; loaded by dotted name, with no privilege that a plugin lacks."""
