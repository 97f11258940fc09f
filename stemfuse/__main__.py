"""``python -m stemfuse``."""

from stemfuse.experiments.cli import main

if __name__ == "__main__":
    main()
