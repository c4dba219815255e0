"""A user's own names, as of files, where they are shown."""


def plain(name: str) -> str:
    r"""A name as matplotlib is to show it: letter by letter, no part of it a formula; ? for what is no letter.

    >>> print(plain("cost_$1$.npy"))
    cost_\$1\$.npy
    """
    return name.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
