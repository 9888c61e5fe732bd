"""How fast a recipe trains here, against what this machine can do."""
