"""Queries that are understood and refused. Clients know a refusal by its code and its text."""

TEXTS = {
    400: "bad-request",
    401: "not-authorized",
    403: "forbidden",
    404: "item-not-found",
    405: "not-allowed",
    406: "not-acceptable",
    409: "conflict",
    419: "resource-limit",
}


class RefusedError(Exception):
    """A query answered with an error of `code`, one of `TEXTS`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code} {TEXTS[code]}")
        self.code = code
        self.text = TEXTS[code]
