"""Read corpora in other forms, and write them in the MuSe layout."""
