"""What is measured, each quantity once, with its words: to add one, write a file and enter it in `quantities`."""
