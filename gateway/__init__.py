"""Commands in, sockets out; events in, webhooks out: the long-lived process."""
