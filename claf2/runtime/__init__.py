"""Runtime: processes, devices, precision, randomness and files. It knows nothing about tasks or other packages."""
