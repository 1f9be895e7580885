"""A laptop-sized world: embedded AWS and a WhatsApp Web server. Never in a production image."""
