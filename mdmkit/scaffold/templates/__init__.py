"""A small, complete plugin for each hook: what ``mdmkit plugins new`` starts from.

Each is a module as an author writes it, with public names only, and works as it stands. The pages
of ``docs/plugins/`` show them. ``Example``, ``example`` and their like are what a scaffold renames,
so these words stand for nothing else here.
"""
