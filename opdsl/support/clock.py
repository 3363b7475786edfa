"""When this process began to load the package. `opdsl.support.digests` asks whether its files have changed since."""

import time

LOADED = time.time()
