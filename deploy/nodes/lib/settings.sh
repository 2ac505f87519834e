# shellcheck shell=sh
# The settings, which people wrote: they are understood, or nothing is done.

readonly NAME_OF_HOST='[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?'
readonly URL="https?://($NAME_OF_HOST|\\[[0-9a-fA-F:.]+\\](:[0-9]{1,5})?)(/[a-zA-Z0-9/_-]*)?"

# HOSTS are the names, AUDIENCE the first one, ENDPOINT a URL or empty, CA a file or empty; 1 where one is wrong.
read_settings() {
    HOSTS=$(setting hosts | sed 's/^[ \t]*//; s/[ \t\r]*$//; /^$/d')
    AUDIENCE=$(printf '%s\n' "$HOSTS" | head -n 1)
    ENDPOINT=$(setting endpoint | sed "s|\$(NODE_IP)|$(bracketed "$NODE_IP")|g; s|\$(SERVICE_HOST)|$(bracketed "$SERVICE_HOST")|g")
    PROVIDER=$(setting credentialProvider)
    RESTART=$(setting restartKubelet)
    CA=
    if [ -s "$TROW_SETTINGS/ca.crt" ]; then CA=$TROW_SETTINGS/ca.crt; fi
    if [ -z "$HOSTS" ]; then
        wrong "there is no name of a registry" "set nodes.hosts"
        return 1
    fi
    bad=$(printf '%s\n' "$HOSTS" | grep -v -x -E "$NAME_OF_HOST" | head -n 1)
    if [ -n "$bad" ]; then
        wrong "$bad is no name of a registry" "write it as registry.example.com or registry.example.com:5000"
        return 1
    fi
    if [ -n "$ENDPOINT" ] && [ "$(printf '%s\n' "$ENDPOINT" | grep -c -v -x -E "$URL")" != 0 ]; then
        wrong "$ENDPOINT is no URL" "set nodes.endpoint to http://HOST:PORT or https://HOST:PORT"
        return 1
    fi
    if [ -n "$CA" ] && { ! grep -q 'BEGIN CERTIFICATE' "$CA" || grep -q 'PRIVATE KEY' "$CA"; }; then
        wrong "ca.crt holds something else than certificates" "put certificates in PEM form into it, and no key"
        return 1
    fi
}

setting() { # NAME
    if [ -f "$TROW_SETTINGS/$1" ]; then cat "$TROW_SETTINGS/$1"; fi
}

wrong() { # WHAT FIX
    blocked registry "$1" "$2"
}

# An address as it stands in a URL.
bracketed() { # ADDRESS
    case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac
}
