"""`python -m zoo` is `zoo`, also for launchers that start modules, as torchrun does."""

from zoo.cli import main

if __name__ == "__main__":
    main()
