"""Floor 0: the records that flow through the house, the error tree, and folders on disk."""
