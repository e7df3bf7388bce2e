"""``python -m fieldwright``, which torchrun needs."""

from fieldwright.cli import main

if __name__ == "__main__":
    main()
