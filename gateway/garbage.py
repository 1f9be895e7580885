"""How often a gateway looks for cycles among its objects.

Python's own pace, a look every 700 new objects, is a small program's: a gateway has hundreds of
requests under way whose objects are all still needed, and looked through them over and over, which
took a tenth of the time of a delivery. What was imported is never looked through again.
"""

import gc
from typing import Final

PACE: Final = (50_000, 20, 50)
"""New objects before a look at the youngest, such looks before one at the older, and so on. The
first is twice what all attempts under way hold: a delivery leaves no cycle behind, so a look while
they come and go would find nothing. A failed one leaves a handful of objects, without its body."""


def settle() -> None:
    """Call it once, when the program is imported and before it works."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*PACE)
