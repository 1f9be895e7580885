"""Runs inside the emulator's environment: ends with its parent, then becomes the emulator.

Executed by path, so it imports nothing of ours. Linux sends the signal when the parent is gone;
elsewhere the parent's orderly stop has to do.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went between the fork and the line above
        sys.exit(1)
    sys.argv = ["ministack"]
    runpy.run_module("ministack", run_name="__main__")
