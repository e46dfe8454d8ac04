#!/bin/bash
# TEST needs: slow mpirun timeout: 900
# Stopped and dead ranks of every kind.
E2E_ALL=1 exec bash "$(dirname "$0")/e2e_peers.sh"
