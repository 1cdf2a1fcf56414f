"""`python -m gateway`, and the command `darkroom`."""

import gc
import sys

gc.disable()  # what is imported lives on: a sixth of a start went on looking for garbage. The command turns it on again

# httpx brings a command line of its own, structlog drawings of tracebacks that are turned off here: with rich they
# take a twentieth of a start. None makes an import fail like that of a module not installed, which both expect.
_UNWANTED = [name for name in ("httpx._main", "rich") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_UNWANTED))  # type: ignore[arg-type]
import httpx  # noqa: E402, F401
import structlog  # noqa: E402, F401

for _name in _UNWANTED:
    del sys.modules[_name]

from pydantic import BaseModel  # noqa: E402

# Each model is built when it is first used: FastAPI's of OpenAPI and our schemas cost a tenth of a start.
BaseModel.model_config["defer_build"] = True

from gateway.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
