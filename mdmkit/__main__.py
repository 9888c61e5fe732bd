"""``python -m mdmkit``."""

from mdmkit.cli import main

raise SystemExit(main())
