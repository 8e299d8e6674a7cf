"""The fork server imports this first: what it then imports stays, and need not be looked through meanwhile."""

import gc

gc.disable()
