"""Hugging Face for mdmkit: published weights in, runs out."""

MDMKIT_API = 1
