"""The trainer: a folder that reads a bundle's lock and prepared rows, trains, and writes events; needs no finetui."""

import logging

# bitsandbytes, where it is installed, reports a missing hub kernel at each start.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
