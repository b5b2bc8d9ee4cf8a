"""`python -m probgen`."""

from probgen.cli import main

raise SystemExit(main())
