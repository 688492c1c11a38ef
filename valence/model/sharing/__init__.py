"""Share models: the head of the card, and one file that holds a model."""
