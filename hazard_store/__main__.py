"""``python -m hazard_store`` is ``hazard-store``."""

from hazard_store.cli import main

if __name__ == "__main__":
    main()
