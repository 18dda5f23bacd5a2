"""``python -m jaxprim`` is the command line."""

from jaxprim.cli import main

if __name__ == "__main__":
    main(prog_name="jaxprim")
