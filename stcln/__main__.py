"""`python -m stcln`."""

from stcln.cli import main

if __name__ == "__main__":
    main()
