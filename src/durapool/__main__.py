"""``python -m durapool``: the same as the command ``durapool``."""

from durapool.cli import main

if __name__ == "__main__":
    main()
