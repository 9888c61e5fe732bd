"""Weights from elsewhere as a run: MDLM's own, and what `mdmkit export` made."""
