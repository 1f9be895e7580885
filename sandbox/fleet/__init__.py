"""A fleet's day without sockets: the real rules of the leases on a table that counts requests."""
