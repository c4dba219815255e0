"""How far the linear theory carries: from its own equations to SimSiam's recipe, an ingredient at a time."""
