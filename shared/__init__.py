"""What both planes speak: the things, the commands, the events, the rows and the queues."""
