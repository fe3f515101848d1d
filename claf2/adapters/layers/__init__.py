"""The modules that adapters put into an encoder, and how to merge them into plain weights."""
