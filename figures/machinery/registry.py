"""Every picture there is: where its data come from, how it is drawn, and what its caption says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from stopgrad.experiments import tian2021
from stopgrad.figures.machinery import arms, data
from stopgrad.figures.machinery.runs import FromRuns
from stopgrad.linear_theory.predictors.rules import SET_RULES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Recorded:
    """Data that an experiment leaves in a file: `path` under the results' folder, and the command that makes it."""

    path: str
    made_by: str
    read: Callable[[Path], "xr.Dataset"] = data.read


@dataclass(frozen=True)
class Picture:
    """What a figure is: where its data come from, how it is drawn, and what its caption says."""

    compute: Callable[[], "xr.Dataset"] | Recorded | FromRuns
    draw: Callable[["xr.Dataset"], "Figure"]
    title: str
    source: str
    text: str


class function:  # a class, so that it can be handed to another process
    """The function ROOM.MODULE.NAME of this wing, whose module is imported when it is first called.

    What draws and computes takes seconds to import, and a list of figures needs none of it.
    """

    def __init__(self, name: str):
        module, _, self.__qualname__ = name.rpartition(".")  # what the origin of its outcome goes by, with the module
        self.__module__ = f"stopgrad.figures.{module}"

    def __call__(self, *args, **named):
        return getattr(import_module(self.__module__), self.__qualname__)(*args, **named)


TIAN = "Tian, Chen & Ganguli 2021 (arXiv 2102.06810), Figure"
THEORY = "computed here; theory of Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
DIGITS = "scikit-learn's digits; Lemma 1 of Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
NETWORKS = "trained here; beside Tian, Chen & Ganguli 2021 (arXiv 2102.06810)"
LINEAR_DIGITS = Recorded("linear_digits/linear_digits.nc", "python -m experiments linear-digits")

TABLES = arms.read_tables(Path(tian2021.__file__).with_name("tables.json"))
RULES = arms.rules_table(SET_RULES, TABLES.values())
TABLE_TEXT = """Left: the paper's Top-1 accuracy of a linear classifier, in per cent, mean and standard deviation of 5
runs. Right, under the name of its arm of the suite: what runs of that setting measured here, on the data and for the
length that the scale stands for: not the paper's numbers, but their order may be held against the paper's. Circles:
seeds. Diamonds: mean with the 95 % interval of Student's t; numbers: mean and half that interval.

Modes of F: exp of the entropy of the normalised eigenvalues of F = E[z z^T], the embeddings' mean direction included;
1 is complete collapse in direction, a fall is dimensional collapse. Trace of F: the embeddings' squared norm, where the
squared error collapses; the loss of the papers does not see it. Accuracy is shown from the scale cifar on. 'Not in the
suite': no run is planned for that cell at this scale; 'not measured': none has finished; 'not finite': all diverged."""

FIGURES = {
    "overview": Picture(
        FromRuns("tian2021", tuple(arms.OVERVIEW), function("shared.overview.compute_overview")),
        function("shared.overview.draw_overview"),
        "What keeps a Siamese network without negatives from collapsing",
        f"{NETWORKS}, Lemma 1, Theorems 2 and 3, Observation 5",
        """Left: one mode of the linear theory under Lemma 1 (X = 1, X' = 0.1, W_p = W = 0.5 at the start; without
        predictor W_p = 1), its size relative to the start, at the weight decay of the networks and at 1.5 times the
        critical one. Middle: the same four settings of a ResNet trained with the squared error; trace of F = E[z z^T]
        over its start, geometric mean and range of the seeds. Its data have many modes of unknown variance: the curves
        are to be compared in kind, not in rate. Right: alignment of the predictor with the eigenvectors of F behind the
        mean direction, for the network with stop-gradient and predictor; mean and range of the seeds.""",
    ),
    "tian-fig2": Picture(
        FromRuns("tian2021", tuple(arms.FIG2), function("tian2021.runs.compute_fig2")),
        function("tian2021.runs.draw_fig2"),
        "Do the eigenspaces of F and the predictor align in a real network?",
        f"{NETWORKS}, Figure 2",
        """Networks with an EMA target and a linear predictor over training: above as the gradient leaves W_p, below
        with W_p made symmetric after every step. Columns: eigenvalues s_j of the embeddings' uncentred correlation F
        (logarithmic), the predictor along the same eigenvectors, p_j = u_j^T W_p u_j (an eigenvalue of W_p where the
        two align), the cosine of u_j and W_p u_j, and how far W_p is from symmetric and positive: the norm of its
        skew part over its own norm, and the share of the negative ones in the sum of |eigenvalues| of its
        symmetric part. The first three columns are one seed, the last one all: mean and range.

        Dotted: the first mode; F is not centred, so it is the embeddings' mean. The paper's runs are BYOL on STL-10,
        ResNet-18, 100 epochs; these are at the scale named below.""",
    ),
    "tian-fig3": Picture(
        function("tian2021.theory.compute_fig3"),
        function("tian2021.theory.draw_fig3"),
        "Phase portraits of one mode",
        f"{TIAN} 3",
        """Flow of the predictor's eigenvalue p and the features' eigenvalue s (Eq. 11-12) for four weight decays.
        Thin lines with arrows: trajectories. Dashed: the invariant parabola. Shaded: the initial states that collapse,
        bounded by the true separatrix, the stable manifold of the saddle, which the paper does not draw: off the
        parabola the basin is not p < p-. Without weight decay whole lines are fixed (s = 0 is unstable where drawn
        hollow) and collapse means s -> 0 with p at rest anywhere. Above the critical weight decay all states collapse.

        The paper does not state sigma^2; here it is 0.1. The panel eta = 0.1 is added, since at 0.01 the saddle lies
        so near the collapsed state that it needs the inset.""",
    ),
    "tian-fig4": Picture(
        function("tian2021.theory.compute_fig4"),
        function("tian2021.theory.draw_fig4"),
        "Speed of p on the invariant parabola",
        f"{TIAN} 4",
        """dp/dt on the parabola s = p^2/alpha_p (Eq. 16) without weight decay, at half the critical weight decay and
        above it. Triangles show where p moves. Without weight decay the collapsed state repels from above and attracts
        from below; any weight decay makes it stable; above the critical one nothing else is left.""",
    ),
    "tian-fig5": Picture(
        function("tian2021.theory.compute_fig5"),
        function("tian2021.theory.draw_fig5"),
        "Weight decay and EMA rate in time",
        f"{TIAN} 5",
        """One mode with a dynamic target ratio (Eq. 11-13), started on the parabola with tau(0) = 0. Columns: the
        eigenvalue K of the alignment operator, p, s and tau. Above: five weight decays; below: five EMA rates. Weight
        decay keeps K away from negative values and, too strong, collapses the mode; a slow target does the first as
        well but delays growth. While a mode collapses tau exceeds 1: W shrinks faster than its average forgets, and
        tau tends to beta/(beta - eta).

        The paper's unit map: learning rate 0.01 and EMA momentum 0.996 give beta = 0.4, and a weight decay of 0.0004
        that multiplies the weights outright (w -= 0.0004 w) gives eta = 0.04. PyTorch's coupled weight_decay=4e-4
        (w -= lr 0.0004 w) is eta = 4e-4, a hundred times less: unless decay was decoupled, eta = 0.04 is not what the
        paper's networks were trained with. p(0) and sigma^2 are not stated in the paper; here they are 0.1 and 0.1.""",
    ),
    "tian-fig6": Picture(
        FromRuns("tian2021", arms.arms_fig6(), function("tian2021.runs.compute_fig6"), ends=True),
        function("tian2021.runs.draw_fig6"),
        "Does a faster predictor replace EMA for a symmetric one?",
        f"{NETWORKS}, Figure 6",
        """Networks with a symmetric linear predictor and no EMA target against alpha_p, the predictor's learning rate
        over the encoder's. Circles: seeds; diamonds: mean with the 95 % interval of Student's t. Lines: means of the
        predictor that is not kept symmetric, without EMA, and of the symmetric one with EMA.

        The paper shows accuracy (STL-10 and CIFAR-10, 100 epochs). At the small scales accuracy says little, and the
        panels are the two ways to collapse: in direction, the effective number of modes of F = E[z z^T] (exp of the
        entropy of its normalised eigenvalues; 1 is complete collapse), and in norm, the trace of F over its start.""",
    ),
    "tian-fig7": Picture(
        function("tian2021.networks.compute_fig7"),
        function("tian2021.networks.draw_fig7"),
        "Is the target proportional to the online network (assumption A1)?",
        f"{TIAN} 7",
        """Cosine of W_a and W (Frobenius inner product) under Lemma 1 with an EMA target, W_a(0) = 0, X = I and
        X' = sigma^2 I. Lines: mean over 10 initialisations; bands: their range. A1 holds exactly at 1.

        The paper gives sigma = 0.03 without saying of what. Upper row: the augmentation's standard deviation, with
        initial weights of variance 1/n. Lower row: the initial weights' standard deviation, with sigma^2 = 0.1.""",
    ),
    "tian-fig8": Picture(
        function("tian2021.networks.compute_fig8"),
        function("tian2021.networks.draw_fig8"),
        "Does a free predictor become symmetric (assumption A3)?",
        f"{TIAN} 8",
        """Frobenius norms of the symmetric and the skew part of W_p under Eq. 62, not symmetrised, with
        F = W_p^T W_p (Theorem 1's balance at alpha_p = 1) and a fixed tau. Lines: mean over 10 initialisations with
        weights of variance 1/n; bands: their range. The skew part (logarithmic axis, mean only: single runs spread
        over decades) falls throughout in all of them; so does the symmetric part where tau is too small for the weight
        decay.""",
    ),
    "tian-fig9": Picture(
        function("tian2021.networks.compute_fig9"),
        function("tian2021.networks.draw_fig9"),
        "Do the eigenspaces of F and W_p align (Theorem 3)?",
        f"{TIAN} 9",
        """Misalignment of F and W_p under the symmetrised flow (Eq. 7-8) at fixed tau: the norm of their commutator,
        which Theorem 3 bounds, and the same divided by the norms of F and W_p. Lines: geometric mean over 10
        initialisations; bands: their range. Logarithmic axis, cut at 1e-7.

        The absolute norm shoots up for small eta and large tau, because F and W_p grow; the mean of the scale-free one
        falls throughout, though not in every single run. Where everything collapses (largest eta, smallest tau) the
        absolute norm vanishes although the eigenspaces do not align: the scale-free one stays.""",
    ),
    "tian-fig10": Picture(
        function("tian2021.theory.compute_fig10"),
        function("tian2021.theory.draw_fig10"),
        "One-dimensional network: why the predictor matters",
        f"{TIAN} 10",
        """Fields of the scalar network (Eq. 104-106), no weight decay, lambda_s = 1, lambda_d = 1/2. Left: predictor
        against encoder with the target held at 1; a curve of stable fixed points. Middle: predictor tied to the
        encoder; from w > 0 all reach (1/2, 1/2), from w <= 0 all collapse. Right: no predictor; all collapse.""",
    ),
    **{
        f"tian-{name}": Picture(
            FromRuns(
                "tian2021",
                arms.arms_of([table]),
                partial(function("shared.tables.compute_table"), table=table),
                ends=True,
            ),
            function("shared.tables.draw_table"),
            f"Table {name.removeprefix('table')}: {table['title']}",
            f"{NETWORKS}, Table {name.removeprefix('table')}",
            TABLE_TEXT,
        )
        for name, table in TABLES.items()
    },
    "set-predictors": Picture(
        FromRuns(
            "tian2021", arms.arms_of([RULES]), partial(function("shared.tables.compute_table"), table=RULES), ends=True
        ),
        function("shared.tables.draw_table"),
        RULES["title"],
        f"{NETWORKS} (where it has a number), and whatever rule was added here",
        TABLE_TEXT,
    ),
    "linear-digits-modes": Picture(
        LINEAR_DIGITS,
        function("theory.linear_digits.draw_modes"),
        "Lemma 1 against a linear network trained on digits",
        DIGITS,
        """The leading eigenvalues of F = W X W^T while a linear Siamese network is trained by SGD on augmented images.
        Lines: Lemma 1, integrated with the X and X' measured under these augmentations; nothing is fitted. Markers:
        the network, one shape a seed. One panel each for the four ways to have or not have stop-gradient and predictor;
        logarithmic axes where a mode spans more than two decades.

        The gap is the worst over all times, the leading three modes and all seeds, relative to the mode at that moment
        and (in brackets) to its largest value.""",
    ),
    "linear-digits-alignment": Picture(
        LINEAR_DIGITS,
        function("theory.linear_digits.draw_alignment"),
        "Does the predictor align on digits?",
        DIGITS,
        """cos(u_j, W_p u_j) of the leading eigenvectors u_j of F over time, for the two networks that have a predictor.
        Lines: Lemma 1. Markers: the network trained by SGD, one shape a seed. The predictor starts neither symmetric
        nor aligned with F; at 1 the eigenvector of F is one of the predictor as well.""",
    ),
    "linear-digits-images": Picture(
        LINEAR_DIGITS,
        function("theory.linear_digits.draw_images"),
        "What the leading modes see",
        DIGITS,
        """The network with stop-gradient and predictor after training, first seed. Above: how an image changes with a
        mode (Lemma 1 and SGD on one scale of colour), and the leading right singular vectors of W, the filters through
        which it looks. Below: digits, two views of each, the mean over all views, and what a linear regression recovers
        of that mean from the leading modes of the first view. Shifts and noise differ between the views; the modes keep
        what the views share.""",
    ),
    "talk-decay-augmentation": Picture(
        function("theory.talks.compute_decay_augmentation"),
        function("theory.talks.draw_decay_augmentation"),
        "How much weight decay do augmentations leave room for?",
        f"{THEORY}, Eq. 11-12 and 16",
        """The fate of one mode at fixed tau, started at p0 on the invariant parabola, for every weight decay and
        augmentation strength. Colours: simulated. Solid: theory, eta = x p0 (tau - (1 + sigma^2) p0), where the start
        lies on the unstable fixed point p-. Dotted: the critical weight decay tau^2 x/(4(1 + sigma^2)), which the first
        line meets as a tangent; between the two the same hyperparameters keep a mode that starts with a larger p0.

        Right: time until p and the square root of s stay within 1 % of their limit (of tau/a). It diverges at the
        border, where the start rests on the unstable fixed point, most widely at the critical weight decay.""",
    ),
    "talk-ema-decay": Picture(
        function("theory.talks.compute_ema_decay"),
        function("theory.talks.draw_ema_decay"),
        "A slow target lowers the weight decay that a mode survives",
        f"{THEORY}, Eq. 11-13",
        """The fate of one mode whose target starts at zero, tau(0) = 0, and follows the online network at the rate beta
        ((1 - momentum)/learning rate). Colours: simulated. Dashed: the border between
        simulated fates, from a scan finer than the picture's. Dotted: that of the same start with tau = 1 throughout,
        which a fast target tends to.

        While tau is small nothing holds p and s up against the decay; the slower the target, the longer. Right: time
        until p and the square root of s stay within 1 % of their limit.""",
    ),
    "talk-directpred-spectrum": Picture(
        function("theory.talks.compute_directpred_spectrum"),
        function("theory.talks.draw_directpred_spectrum"),
        "Which modes does DirectPred's epsilon bring to life?",
        f"{THEORY}, Eq. 12 and 18",
        """W_p is set from the features' spectrum: p = sqrt(q) + epsilon q_max with q = (1 + sigma^2) s. A leading mode
        of input variance 1 lives; all others start near zero, and the picture says which of them, by their input
        variance x, grow. Modes meet in q_max alone, so any spectrum may be read off the horizontal axis. Colours:
        simulated; alive is a tenfold growth, collapsed a tenfold decay of sqrt(s), undecided (under the line) neither.
        Line: theory, epsilon q_max = p- below and p+ above, p- and p+ being those of the mode itself and q_max that of
        the settled leading mode. Below x = 4 eta (1 + sigma^2)/tau^2, where the two branches meet, no epsilon helps.

        Right: s of the mode at the end. Epsilon pays for every mode it wakes: all features shrink with it.""",
    ),
}
"""Every figure: a new one is one entry here."""
