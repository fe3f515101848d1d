#!/usr/bin/env bash
# Check that a tag names the version of the package, and that the changelog and the citation know it: check_release.sh TAG
set -euo pipefail
tag="${1:?name a tag, such as v0.2.0}"
version="${tag#v}"
cd "$(dirname "$0")/.."
fail() {
    echo "$1" >&2
    exit 1
}
[ "$tag" != "$version" ] || fail "$tag: a release's tag begins with v"
grep -qxF "__version__ = \"$version\"" claf2/__init__.py || fail "claf2/__init__.py: __version__ is not $version"
grep -qE "^## \[${version//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
    fail "CHANGELOG.md: no heading '## [$version] - YEAR-MONTH-DAY'"
grep -qxF "version: $version" CITATION.cff || fail "CITATION.cff: version is not $version"
