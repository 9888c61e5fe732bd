"""A run as a folder that ``transformers`` and ``safetensors`` read."""
