"""What Zhang et al. 2022 claim of accuracies: the order of the arms under a linear probe, from scale cifar on.

The paper's numbers are of CIFAR-100 after 1000 epochs, where 1 % is chance.
"""

from stopgrad.experiments.claims.kinds import more_accurate
from stopgrad.experiments.zhang2022 import sentences

ACCURACIES = tuple(
    more_accurate(f"accuracy-{name}", place, statement, sentences.as_an_accuracy, better, worse, above)
    for name, place, statement, better, worse, above in (
        (
            *("naive", "Table 2"),
            "Without predictor accuracy is lost (1 against 66.62 %).",
            *("simsiam", "naive", 5.0),
        ),
        (
            *("mirror", "Table 2"),
            "Mirror SimSiam loses its accuracy (1 against 66.62 %).",
            *("simsiam", "mirror", 5.0),
        ),
        (
            *("fresh-views", "Table 1"),
            "The mean of ten fresh views loses its accuracy (1 against 46.57 %).",
            *("moving-average", "fresh-views-10", 5.0),
        ),
        (
            *("centre", "Table 4"),
            "The centre of the extra gradient alone is clearly worse (48.08 against 66.62 %).",
            *("simsiam", "keep-centre", 2.0),
        ),
        (
            *("residual", "Table 4"),
            "The residual of the extra gradient alone is as good (66.15 against 66.62 %).",
            *("keep-residual", "simsiam", -2.0),
        ),
        (
            *("triplet", "Table 3"),
            "The centre of the triplet's extra gradient alone is better than both parts (47.41 against 36.21 %).",
            *("triplet-centre", "triplet-both", 1.0),
        ),
    )
)
