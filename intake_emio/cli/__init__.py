"""The command line: `emio`."""
