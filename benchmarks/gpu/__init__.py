"""What is run on a machine with a GPU, when one is lent; each script writes one object of results."""
