#!/usr/bin/env bash
# hawker beside servers of others under the same load, as one table. What is missing is installed into .tools/.
#
#   tools/compare.sh [arguments of the bench fanout]
set -euo pipefail
cd "$(dirname "$0")/.."

for server in xiu@0.14.0 moq-relay@0.14.18; do
    [[ -x .tools/bin/${server%@*} ]] || cargo install --locked --root .tools "$server" ||
        echo "compare: $server can't be had; the table says so" >&2
done
if [[ ! -e /usr/lib/nginx/modules/ngx_rtmp_module.so ]]; then
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends nginx libnginx-mod-rtmp ||
        echo "compare: nginx-rtmp can't be had; the table says so" >&2
fi
# What viewers that read in turns let a server's kernel merge, viewers on the network don't: so all read at once.
exec cargo bench --locked --bench fanout -- --peers .tools/bin --prompt "$@"
