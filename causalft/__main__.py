"""``python -m causalft``: the command where ``causalft`` itself is not on the path."""

from causalft.cli import main

if __name__ == "__main__":
    main(prog_name="causalft")
