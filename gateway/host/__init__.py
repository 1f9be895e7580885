"""The session host: the child process that holds one WhatsApp socket."""
