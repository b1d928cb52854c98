"""``python -m offnominal``: the command line where the script is not on the path."""

from offnominal.cli import main

if __name__ == "__main__":
    main()
