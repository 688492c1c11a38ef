"""Sound: decoded, cut into segments, levelled, augmented, and turned into log-mel spectrograms."""
