"""Runs a module as a child that ends with its parent: `leash.py PARENT_PID SIGNAL MODULE [ARG …]`.

Executed by path, in whichever environment the module lives, so it imports nothing of ours. Linux
sends the signal when the parent is gone; elsewhere the parent's orderly stop has to do.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, number, module = int(sys.argv[1]), signal.Signals[sys.argv[2]], sys.argv[3]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it went between the fork and the line above
        sys.exit(1)
    sys.argv = [module, *sys.argv[4:]]
    # What `python -m` would have put first: the folder it was started in, not this file's.
    sys.path[0] = os.getcwd()  # noqa: PTH109 - a string, as sys.path wants it
    runpy.run_module(module, run_name="__main__", alter_sys=True)
