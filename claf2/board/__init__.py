"""The board: a server that stores the cells of benches with their predictions, and shows and compares them.

The database is a cache. A record is what the folder of a cell holds, so a board can be rebuilt from the folders.
"""
