"""`python -m kdcore` is the `kdcore` command."""

from kdcore.cli import app

if __name__ == "__main__":  # a process that is spawned imports this file, too
    app(prog_name="kdcore")
