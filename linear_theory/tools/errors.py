"""Whose mistake it was: what a user can mend is told in a sentence, anything else keeps its traceback."""


class BadInput(ValueError):
    """A user's mistake: values, files or settings that make no sense. Its text is one sentence that says what to do.

    A check of the program itself, say of the shapes that an equation returns, raises another error.
    """


class Missing(BadInput):
    """Something that is not there: what, and what to do in training; whoever has another way says that instead."""

    def __init__(self, what: str, remedy: str):
        super().__init__(what, remedy)
        self.what = what

    def __str__(self) -> str:
        return "; ".join(self.args)


class Unshared(BadInput):
    """What the other processes of a run need not have met: the one that did says it, whichever it is."""


def sentence_of(error: Exception) -> str | None:
    """What a user is told of `error`, on one line; None for an error that is the program's own.

    What the system refuses (a file that is not there, a full disk) is told in the system's words.
    """
    if isinstance(error, BadInput):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return None
