"""What adapters put into an encoder: the modules, and how they become plain weights again."""
