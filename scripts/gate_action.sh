#!/usr/bin/env bash
# What action.yml runs: a bench, its report, and the gate. The inputs of the action are environment variables, so that
# no text of a workflow becomes a part of a command.
set -euo pipefail
read -ra bench_options <<<"${OPTIONS:-}"
read -ra gate_options <<<"${GATE_OPTIONS:-}"
if [ -n "${TASKS:-}" ]; then bench_options+=(--tasks "$TASKS"); fi
if [ -z "${UPDATE:-}" ] && [ ! -f "$BASELINE" ]; then
    echo "$BASELINE: no such file; run the workflow once with the input update to record a baseline, and commit it"
    exit 2
fi
claf2 bench run --suite "$SUITE" --models "$MODEL" --seeds "${SEEDS:-1-3}" --out "$OUT" --no-keep "${bench_options[@]}"
claf2 bench report "$OUT" --output "$OUT/report.html"
if [ -n "${UPDATE:-}" ]; then
    claf2 gate "$OUT" --baseline "$BASELINE" --update --reason "$UPDATE"
else
    claf2 gate "$OUT" --baseline "$BASELINE" --junit "$OUT/gate.xml" \
        --markdown "${GITHUB_STEP_SUMMARY:-$OUT/gate.md}" "${gate_options[@]}"
fi
