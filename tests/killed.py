"""`python tests/killed.py AFTER FLAGS...`: diag.lockstep, killed by SIGKILL once so many of its steps are on file."""

from __future__ import annotations

import os
import signal
import sys

from diag import lockstep
from diag.machine.tensorflow_import import import_tensorflow


def kill_after(num_steps: int) -> None:
    """Have this process killed by then."""
    from diag.engine.recordings.recording import Recording

    write = Recording.step

    def step(self, finished):
        write(self, finished)
        if self.num_steps == num_steps:
            self.writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    Recording.step = step


if __name__ == "__main__":
    import_tensorflow()
    kill_after(int(sys.argv[1]))
    sys.exit(lockstep.main(sys.argv[2:]))
