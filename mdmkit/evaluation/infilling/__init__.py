"""Text with gaps: how it is written, what it is in tokens, and how long its gaps are to be."""
