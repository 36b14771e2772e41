"""Floor 9: the verbs of the command line. They open, call and print."""
