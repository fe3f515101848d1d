"""The command line. Each command is a few lines around a function of the Python API."""
