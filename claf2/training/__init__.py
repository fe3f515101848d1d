"""Training: from a prepared run to changed weights. ``loop.fit`` is the only place where weights change."""
