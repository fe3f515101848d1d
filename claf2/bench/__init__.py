"""What many models score on many tasks: measured, compared, and shown."""
