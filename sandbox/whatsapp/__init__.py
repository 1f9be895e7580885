"""A WhatsApp Web server that the real neonize connects to."""
