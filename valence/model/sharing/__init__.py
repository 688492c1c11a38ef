"""Share models: card and file."""
