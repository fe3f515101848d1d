"""Search in collections of passages: by terms (BM25), by vectors, or by both."""
