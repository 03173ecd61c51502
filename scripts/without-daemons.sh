#!/usr/bin/env bash
# without-daemons.sh COMMAND...: run COMMAND while Debian packages may not start daemons.
#
# The packages of kamailio and rtpengine start their daemons when installed; here they are only programs. Debian asks
# /usr/sbin/policy-rc.d before it starts anything, and 101 forbids it. The file is removed afterwards, also when COMMAND
# fails or is interrupted. One that is there already is an administrator's decision and stays as it is.
set -uo pipefail

policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
mark="# temporary, by mediactl's setup: programs are being installed, no daemon shall start"

if [[ -e $policy ]] && ! grep -qxF "$mark" "$policy"; then
    echo "setup: $policy is there already and stays; it decides whether daemons start"
else
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy" || {
        echo "setup: cannot write $policy: run this as root" >&2
        exit 1
    }
fi
"$@"
