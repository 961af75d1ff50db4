"""`python -m finetui`: the same as the command `finetui`."""

from finetui.cli.main import main

if __name__ == "__main__":
    main()
