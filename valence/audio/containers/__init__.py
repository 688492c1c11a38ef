"""Audio files, byte by byte: whether they are whole, and how they are decoded to their end."""
