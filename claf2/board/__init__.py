"""The board: the scores of benches as pages, in one file or from a server."""
