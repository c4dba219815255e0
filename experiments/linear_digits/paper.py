"""The main job on real images, a study that is no paper: it has pictures, and neither suite nor claims of its own."""

from stopgrad.experiments.claims.paper import Paper

PAPER = Paper(key="linear-digits", citation="A linear network on digits", title="Lemma 1 against a trained network")
