#!/usr/bin/env bash
# Put a Chromium without windows into a folder, for the tests of the report: browser.sh FOLDER
# It is npm's @sparticuz/chromium, a build for servers that brings the few libraries it needs; 64 MB are fetched.
set -euo pipefail
folder="${1:?name a folder, such as .venv/browser}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
npm install --prefix "$scratch" --ignore-scripts --no-audit --no-fund --loglevel=error @sparticuz/chromium@147.0.0
node - "$scratch/node_modules/@sparticuz/chromium/bin" "$folder" <<'JS'
const { readFileSync, writeFileSync } = require("node:fs");
const { brotliDecompressSync } = require("node:zlib");
const [from, to] = process.argv.slice(2);
for (const [name, target] of [["chromium.br", "chromium.bin"], ["al2023.tar.br", "libraries.tar"], ["fonts.tar.br", "fonts.tar"]]) {
  writeFileSync(`${to}/${target}`, brotliDecompressSync(readFileSync(`${from}/${name}`)), { mode: 0o755 });
}
JS
for each in libraries fonts; do
    tar --no-same-owner -xf "$folder/$each.tar" -C "$folder"
    rm "$folder/$each.tar"
done
cat >"$folder/fonts.conf" <<XML
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>$folder/fonts</dir>
  <cachedir>$folder/fonts.cache</cachedir>
</fontconfig>
XML
cat >"$folder/chromium" <<'SH'
#!/usr/bin/env bash
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export LD_LIBRARY_PATH="$here/lib" FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/chromium.bin" "$@"
SH
chmod +x "$folder/chromium"
"$folder/chromium" --version
