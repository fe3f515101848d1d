"""Serving: finished runs and exports behind an HTTP interface, which answers as they were scored."""
