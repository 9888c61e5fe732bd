"""A checkpoint and an evaluator to numbers with errors and provenance; a checkpoint to text."""
