"""REST in, commands out: a stateless Litestar app."""
