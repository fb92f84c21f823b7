#!/bin/sh
# The command line, callable from any folder. `make` puts this beside the virtual environment's python.
here=$(cd -- "$(dirname -- "$0")" && pwd)
root=${EVERGRANT_ROOT:-${here%/*/*}}
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$here/python" -m evergrant "$@"
