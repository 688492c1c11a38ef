"""Check that audio files are whole, and decode them to the end."""
