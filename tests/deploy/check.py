#!/usr/bin/env python3
"""Checks everything under `deploy/` against the program itself.

    check.py               run all checks
    check.py image ...     run some checks: image, compose, kubernetes, observability

The checks need the program (from `cargo build -p hansa`, or at the path in HANSA) and Python 3.10 with pip.
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import setup  # noqa: E402  (a module in this folder)

CHECKS = ["image", "compose", "kubernetes", "observability"]


def main():
    wanted = sys.argv[1:] or [name for name in CHECKS if Path(__file__).with_name(f"{name}.py").exists()]
    setup.use_packages()
    suite = unittest.defaultTestLoader.loadTestsFromNames(wanted)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    passed = result.testsRun - len(result.failures) - len(result.errors)
    print(f"{passed} passed, {result.testsRun - passed} failed")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except setup.servers.Failed as error:
        sys.exit(f"deploy: {error}")
