"""Who was logged in when."""

from sandbox.whatsapp.logbook import KEPT, Logbook


def test_a_connection_has_a_begin_and_an_end() -> None:
    """Two lines of a device that overlap are two owners; indexes are never used twice."""
    moments = iter([1.0, 2.0, 3.0])
    book = Logbook(lambda: next(moments))
    first = book.opened("+491", 1)
    second = book.opened("+491", 1)
    book.closed(first)
    assert [(each.index, each.since, each.until) for each in book.lines()] == [
        (0, 1.0, 3.0),
        (1, 2.0, None),
    ]
    assert book.lines(after=0) == [second]


def test_the_oldest_lines_are_forgotten() -> None:
    """A network that runs for long does not grow."""
    book = Logbook(lambda: 0.0)
    for _ in range(KEPT + 1):
        book.opened("+491", 1)
    assert [len(book.lines()), book.lines()[0].index] == [KEPT, 1]
