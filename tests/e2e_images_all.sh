#!/bin/bash
# TEST needs: slow mpirun timeout: 900
# Images in all layouts, all rows of the file that ships.
E2E_ALL=1 exec bash "$(dirname "$0")/e2e_images.sh"
