"""`python -m scaling`, and the command `scaling`."""

import sys

from scaling.processes import signals


def main() -> None:
    """Listen for signals before anything else is imported, and until the process has ended."""
    signals.listen()
    try:
        from scaling.cli import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(signals.INTERRUPTED)
    finally:
        signals.outlast()


if __name__ == "__main__":
    main()
