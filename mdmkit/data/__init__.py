"""From text to blocks: corpora, tokenizers, tokens on disk, blocks ``[B, L]`` and their order."""
