"""The harness's own command with the model ``mdmkit`` registered: ``python -m mdmkit_lm_eval``."""

from __future__ import annotations

import sys

from mdmkit import MdmkitError


def main() -> int:
    """Do what ``lm-eval`` does; what a user can mend is said without a traceback."""
    from lm_eval.__main__ import cli_evaluate

    import mdmkit_lm_eval.model  # noqa: F401 - registers the model

    try:
        cli_evaluate()
    except MdmkitError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is the place that prints
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
