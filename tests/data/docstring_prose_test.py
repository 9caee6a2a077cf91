import pytest

from spanbert_jax.data.docstring_prose import prose

NUMPY_STYLE = """
    Return the mean of the values.

    The mean is taken over `axis`, see :func:`~numpy.average` and :ref:`the guide <guide>`. It is
    *never* negative for ``abs`` [1]_.

    Parameters
    ----------
    a, b : array_like, optional
        Values to be averaged
        over the axis.
    axis : {None, int}
        The axis, or None for all.

    Returns
    -------
    mean : ndarray
        The mean of the values.

    .. versionadded:: 1.7.0

    .. warning:: Empty arrays give not a number.

    .. math:: \\\\sum_i x_i

    References
    ----------
    .. [1] A. Author, "A book that is on the subject", 1999.

    Examples
    --------
    The mean of a list is found as follows.

    >>> np.mean([1, 2])
    1.5

    Both are equal::

        x = np.mean([1, 2])
        the code above is dropped

    This is the last line of all.
    """

GOOGLE_STYLE = """Loads the image from a file.

```python
the code of a fence is dropped
```

Args:
  path: The path of the file, which
    must exist.
  size (int): The size to which the image is cut.

Returns:
  The image, or None if there is none.

Raises:
  ValueError: If the file is damaged.
"""

MIXED = """Rows and lists.

=====  =====
the a  of it
=====  =====
the b  of it
=====  =====

+-----+-----+
| the | row |
+-----+-----+

| the | markdown |
|-----|----------|
| is  | dropped  |

- The first item goes on
  in the next line.
- The second item is short.

:param x: the value that is read from the file
:type x: int

    x = the_code(of, a, block)

See the [manual](http://a.b/c) for more of it.

from os import path
"""


@pytest.mark.parametrize(
    ("documentation", "expected"),
    [
        (
            NUMPY_STYLE,
            [
                ["Return the mean of the values."],
                ["The mean is taken over axis, see average and the guide.", "It is never negative for abs."],
                ["Values to be averaged over the axis."],
                ["The axis, or None for all."],
                ["The mean of the values."],
                ["Empty arrays give not a number."],
                ["The mean of a list is found as follows."],
                ["Both are equal:"],
                ["This is the last line of all."],
            ],
        ),
        (
            GOOGLE_STYLE,
            [
                ["Loads the image from a file."],
                ["The path of the file, which must exist."],
                ["The size to which the image is cut."],
                ["The image, or None if there is none."],
                ["If the file is damaged."],
            ],
        ),
        (
            MIXED,
            [
                ["Rows and lists."],
                ["The first item goes on in the next line."],
                ["The second item is short."],
                ["the value that is read from the file"],
                ["See the manual for more of it."],
            ],
        ),
    ],
    ids=["numpy", "google", "mixed"],
)
def test_prose_is_kept_and_the_rest_dropped(documentation, expected):
    assert prose(documentation) == expected


@pytest.mark.parametrize(
    "line",
    [
        ">>> print('of the')",
        "def of(the): a",
        "import the.of",
        "x = the + of",
        "for the in of:",
        "for i in range(the):",
        "call(the='of', a=1)",
        "(M, N) the_array[0] {of}",
        "$ python the.py --of=a",
        "template of the %(name)s",
        "the :: of a",
        "of",
        "",
    ],
)
def test_code_alone_leaves_nothing(line):
    assert prose(line) == []
