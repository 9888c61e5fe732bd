"""Plugins to start from: an installable distribution with a component that works.

``templates/`` has a module for each hook, ``files/`` what stands around it.
"""
