"""The networks of ``transformers`` as denoisers."""
