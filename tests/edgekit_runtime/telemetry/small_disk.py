"""The agent on a disk that takes files of `EDGEKIT_TEST_FILE_SIZE` bytes and no more."""

import os
import resource

from edgekit_runtime.__main__ import main

size = int(os.environ["EDGEKIT_TEST_FILE_SIZE"])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
main(["telemetry"])
