#!/usr/bin/env bash
# Installs what this machine lacks; a second run finds nothing to do. Debian 12 or later.
#
#   tools/setup.sh build   what `make run` needs
#   tools/setup.sh fuzz    what `make fuzz` needs
#   tools/setup.sh         what `make test` needs too
#
# Inside the tree it fills .tools/ (cargo), .venv/ (PyPI) and node_modules/ (npm).
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in "cargo: Rust 1.95, https://rustup.rs" "npm: Node 20, https://nodejs.org"; do
    command -v "${tool%%:*}" >/dev/null || { echo "setup: ${tool%%:*} is missing; install ${tool#*: }" >&2; exit 1; }
done

# A linker, and what aws-lc-rs is built with.
debian=(gcc libc6-dev cmake)
# The foreign software that the tests publish and play with.
[[ ${1:-} != fuzz ]] || debian+=(g++)
[[ -n ${1:-} ]] || debian+=(
    curl
    iproute2
    ffmpeg rtmpdump
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav
    nginx libnginx-mod-rtmp
    obs-studio xvfb xauth libgl1-mesa-dri
    vlc-bin vlc-plugin-base
    chromium
    python3-venv
)

installed() { dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in "${debian[@]}"; do
    installed "$package" || missing+=("$package")
done
if ((${#missing[@]})); then
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

[[ ${1:-} != build ]] || exit 0

# Built without optimisation: a few minutes less, and neither tool is ever the slow part.
cargo_tool() {
    command -v "$1" >/dev/null || cargo install "$1" --locked --root .tools --debug --config 'profile.dev.debug=false'
}
export PATH="$PWD/.tools/bin:$PATH"
[[ ${1:-} != fuzz ]] || { cargo_tool cargo-fuzz; exit 0; }
cargo_tool cargo-nextest
cargo_tool cargo-deny

if ! cmp -s tests/peers/requirements.txt .venv/requirements.txt; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --requirement tests/peers/requirements.txt
    cp tests/peers/requirements.txt .venv/
fi

# The newest file npm writes tells whether the lock file is newer than what it locked.
git ls-files '*package-lock.json' | while read -r lock; do
    folder=$(dirname "$lock")
    [[ $folder/node_modules/.package-lock.json -nt $lock ]] || npm --prefix "$folder" ci --no-audit --no-fund
done
