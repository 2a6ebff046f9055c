"""`python -m orchestrator`."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # As `main` does, before the first import.
    gc.disable()
    from orchestrator.cli import main

    main()
