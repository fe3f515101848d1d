#!/usr/bin/env bash
# Fetch the bundled libraries again, from npm. To take a newer version, change the number here and in README.md.
set -euo pipefail
cd "$(dirname "$0")"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
npm install --prefix "$scratch" --ignore-scripts --no-audit --no-fund --loglevel=error datatables.net@3.1.5 chart.js@4.6.1
from="$scratch/node_modules"
cp "$from/datatables.net/js/dataTables.min.js" datatables.min.js
cp "$from/datatables.net/License.txt" datatables.LICENSE.txt
# The source map is not bundled.
sed '/^\/\/# sourceMappingURL=/d' "$from/chart.js/dist/chart.umd.min.js" >chart.min.js
cp "$from/chart.js/LICENSE.md" chart.LICENSE.txt
