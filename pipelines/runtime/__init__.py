"""The Ray plumbing that the stages share."""
