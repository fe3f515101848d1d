"""Where finished runs and models are kept, besides the folder in which they were made."""
