"""`python -m gateway`, and the command `darkroom`."""

import gc

gc.disable()  # what is imported lives on: a sixth of a start went on looking for garbage. The command turns it on again

from gateway.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
