"""What is trained, selected and tested on: splits, their units, and what leaks between them."""
