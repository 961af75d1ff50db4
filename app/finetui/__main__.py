"""The command `finetui`, and `python -m finetui`."""

import os
import signal


def main() -> None:
    """Run the command line of this process; Ctrl+C ends it quietly also while it is still being loaded."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from finetui.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
