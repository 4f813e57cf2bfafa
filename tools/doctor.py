#!/usr/bin/env python
"""Show what a bug report needs: versions, GPU, memory, data sets; and for what is wrong, the line that mends it.

    python tools/doctor.py

Exit status 0: nothing serious; 1: something that keeps training from running.
"""

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", default="configs/datasets.yaml", help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        from reg_d2.engine.doctor import as_text, examine
    except ImportError as error:
        print(
            f"error: {sys.executable} cannot import reg_d2: {error}\n  make setup && . .venv/bin/activate",
            file=sys.stderr,
        )
        return 1
    lines = examine(args.catalog)
    print(as_text(lines))
    return int(any(line.serious for line in lines))


if __name__ == "__main__":
    sys.exit(main())
