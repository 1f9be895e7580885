"""`zapgate chaos`: gateways that die, freeze and lose sight of everything, under traffic.

What must hold whatever happens: each session is back soon, no command and no event is lost, nothing
is doubled in silence, and no device ever has two owners.
"""
