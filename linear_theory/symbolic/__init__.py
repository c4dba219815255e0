"""The equations derived with SymPy from the flows themselves."""
