#!/bin/bash
# TEST needs: slow timeout: 600
# 40 (or E2E_MANY_COMBOS) seeded random combinations of everything that must not change an answer.
E2E_COMBOS=${E2E_MANY_COMBOS:-40} exec bash "$(dirname "$0")/e2e_schedules.sh"
