# shellcheck shell=sh
# How the runtime finds the registry: by its name, through an endpoint, and with which authority.

apply_registry() {
    case $RUNTIME in
        containerd) apply_containerd ;;
        cri-o) apply_crio ;;
        docker) apply_docker ;;
        *)
            blocked runtime "no runtime was found among the processes of the node" \
                "set up the runtime by hand: https://github.com/containerd/containerd/blob/main/docs/hosts.md"
            ;;
    esac
}

restore_registry() {
    folders=$(certs_folders)
    for folder in ${folders:-$DEFAULT_FOLDERS}; do forget_hosts "$folder" ''; done
    forget_crio ''
    off registry "what was written is gone, and what was there before is back"
}

# containerd: a hosts.toml for each name, which it reads at each pull.
# https://github.com/containerd/containerd/blob/main/docs/hosts.md

# What containerd 2.2 and later use where nothing is configured.
readonly DEFAULT_FOLDERS="/etc/containerd/certs.d /etc/docker/certs.d"

apply_containerd() {
    state=$(registry_state)
    case $state in
        legacy)
            blocked registry "containerd $RUNTIME_VERSION has registry.mirrors or registry.configs, and with them no config_path" \
                "move them to files below /etc/containerd/certs.d, delete them, $(how_to_set_config_path)"
            return
            ;;
        unset | empty)
            if ! has_default_folders; then
                blocked registry "config_path of containerd $RUNTIME_VERSION is $state" "$(how_to_set_config_path)"
                return
            fi
            ;;
    esac
    case $KUBELET in
        k3s | rke2)
            if [ "$(needed)" = true ]; then apply_rancher; else nothing_needed; fi
            return
            ;;
    esac
    folder=$(certs_folders | head -n 1)
    if [ "$(needed)" != true ]; then
        forget_hosts "$folder" ''
        nothing_needed
        return
    fi
    forget_hosts "$folder" "$HOSTS"
    for host in $HOSTS; do
        write_host "$folder" "$host" || return 0
    done
    ready registry "containerd $RUNTIME_VERSION reads $folder ($state), which leads to ${ENDPOINT:-the name itself}"
}

# The five states of an effective configuration: unset, empty, one, two (or more) folders, or legacy mirrors.
registry_state() {
    if has_legacy; then
        echo legacy
    elif ! echo "$DUMP" | grep -q '^ *\[plugins\..*\.registry\]'; then
        echo unset
    else
        case $(config_path) in
            '') echo empty ;;
            *:*) echo two ;;
            *) echo one ;;
        esac
    fi
}

config_path() {
    echo "$DUMP" | awk '
        /^[ \t]*\[/ { there = ($0 ~ /^[ \t]*\[plugins\.["\047]io\.containerd\.(cri\.v1\.images|grpc\.v1\.cri)["\047]\.registry\]/) }
        there && /^[ \t]*config_path *=/ { gsub(/^[^=]*= *["\047]|["\047] *$/, ""); print; exit }'
}

# Tables of mirrors or of certificates: a dump has the heads of empty tables, too.
has_legacy() {
    echo "$DUMP" | grep -q '^ *\[plugins\..*\.registry\.\(mirrors\|configs\)\.'
}

# The folders with hosts.toml files, one a line, in the order in which containerd looks.
certs_folders() {
    path=$(config_path)
    if [ -z "$path" ] && has_default_folders; then path=/etc/containerd/certs.d:/etc/docker/certs.d; fi
    echo "$path" | tr ':' '\n' | sed '/^$/d'
}

has_default_folders() {
    major=${RUNTIME_VERSION%%.*}
    minor=${RUNTIME_VERSION#*.}
    minor=${minor%%.*}
    [ "${major:-0}" -gt 2 ] || { [ "${major:-0}" -eq 2 ] && [ "${minor:-0}" -ge 2 ]; }
}

how_to_set_config_path() {
    case $RUNTIME_VERSION in
        1.*) table='[plugins."io.containerd.grpc.v1.cri".registry]' ;;
        *) table='[plugins."io.containerd.cri.v1.images".registry]' ;;
    esac
    echo "set config_path = \"/etc/containerd/certs.d\" under $table in /etc/containerd/config.toml, and restart containerd"
}

# Whether the runtime has to be told anything: it finds a name of DNS with a certificate that it trusts by itself.
needed() {
    if [ -n "$ENDPOINT" ] || [ -n "$CA" ]; then echo true; else echo false; fi
}

nothing_needed() {
    ready registry "$RUNTIME $RUNTIME_VERSION needs nothing to reach $AUDIENCE"
}

write_host() { # FOLDER HOST
    # containerd looks for this folder first.
    other=$1/$(echo "$2" | sed 's/:\([0-9]*\)$/_\1_/')
    if [ "$other" != "$1/$2" ] && [ -e "$TROW_HOST$other" ]; then
        blocked registry "$other is there, and containerd would not look further" "remove it, or rename it to $1/$2"
        return 1
    fi
    is_free registry "$1/$2/hosts.toml" || return 1
    if [ -n "$CA" ]; then
        put registry "$1/$2/trow-ca.crt" 644 "$(cat "$CA")" || return 1
    else
        restore_file "$1/$2/trow-ca.crt"
    fi
    put registry "$1/$2/hosts.toml" 644 "$(hosts_toml "$1" "$2")"
}

hosts_toml() { # FOLDER HOST
    mark
    echo "server = \"${ENDPOINT:-https://$2}\""
    echo 'capabilities = ["pull", "resolve"]'
    if [ -n "$CA" ]; then echo "ca = \"$1/$2/trow-ca.crt\""; fi
}

# Take away what was written for names that are no longer those of the registry. An agent that was killed on its way may
# have left the authority alone.
forget_hosts() { # FOLDER NAMES-THAT-STAY
    for place in "$TROW_HOST$1"/*/; do
        place=${place#"$TROW_HOST"}
        place=${place%/}
        if is_listed "${place##*/}" "$2" || [ -n "$(other_agent "$place/hosts.toml")" ]; then continue; fi
        if [ ! -e "$TROW_HOST$place/trow-ca.crt" ] && ! is_ours "$place/hosts.toml"; then continue; fi
        restore_file "$place/hosts.toml"
        restore_file "$place/trow-ca.crt"
        rmdir "$TROW_HOST$place" 2>/dev/null || :
    done
}

is_listed() { # NAME NAMES
    echo "$2" | grep -qxF "$1"
}

# k3s and rke2 make the files of containerd themselves, from one of their own, when they start.
# https://docs.k3s.io/installation/private-registry

apply_rancher() {
    file=/etc/rancher/$KUBELET/registries.yaml
    for host in $HOSTS; do
        if ! grep -qF "$host" "$TROW_HOST$file" 2>/dev/null; then
            blocked registry "$KUBELET makes the configuration of containerd from $file, which does not name $host" \
                "put \"mirrors: {'$host': {endpoint: ['${ENDPOINT:-https://$host}']}}\" into $file${CA:+, with its authority as tls.ca_file of that name under configs}, and restart $KUBELET"
            return
        fi
    done
    ready registry "$KUBELET has $AUDIENCE in $file"
}

# CRI-O: a drop-in for each name. https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md

apply_crio() {
    if [ "$(needed)" != true ]; then
        forget_crio ''
        nothing_needed
        return
    fi
    forget_crio "$HOSTS"
    note=
    for host in $HOSTS; do
        drop_in=$(crio_file "$host")
        location=${ENDPOINT:-https://$host}
        is_free registry "$drop_in" || return 0
        put registry "$drop_in" 644 "$(drop_in_of "$host" "$location")" || return 0
        if [ -n "$CA" ]; then
            put registry "$(crio_authority "${location#*://}")" 644 "$(cat "$CA")" || return 0
        fi
        pid=$(processes 'crio' | sed -n '1s/ .*//p')
        if [ "$(started_at "$pid")" -lt "$(changed_at "$drop_in")" ]; then
            note="; CRI-O without auto_reload_registries reads it after \`systemctl reload crio\`"
        fi
    done
    ready registry "CRI-O reads ${drop_in%/*}, which leads to ${ENDPOINT:-the name itself}$note"
}

crio_file() { # HOST
    echo "/etc/containers/registries.conf.d/50-trow-$(echo "$1" | tr ':' '-').conf"
}

drop_in_of() { # HOST URL
    mark
    echo "[[registry]]"
    echo "prefix = \"$1\""
    echo "location = \"${2#*://}\""
    if [ "${2%%:*}" = http ]; then echo "insecure = true"; fi
}

crio_authority() { # LOCATION; CRI-O looks by its host
    echo "/etc/containers/certs.d/${1%%/*}/trow-ca.crt"
}

forget_crio() { # NAMES-THAT-STAY
    for file in "$TROW_HOST"/etc/containers/registries.conf.d/50-trow-*.conf; do
        path=${file#"$TROW_HOST"}
        if [ ! -e "$file" ] || ! is_ours "$path" || [ -n "$(other_agent "$path")" ] || is_listed "$(sed -n 's/^prefix = "\(.*\)"$/\1/p' "$file")" "$1"; then continue; fi
        authority=$(crio_authority "$(sed -n 's/^location = "\(.*\)"$/\1/p' "$file")")
        restore_file "$authority"
        rmdir "$TROW_HOST${authority%/*}" 2>/dev/null || :
        restore_file "$path"
    done
}

apply_docker() {
    if [ "$(needed)" != true ]; then
        nothing_needed
        return
    fi
    blocked registry "the runtime is Docker, which the agent does not set up" \
        "add \"$AUDIENCE\" to insecure-registries in /etc/docker/daemon.json where it has no TLS, or put its authority into /etc/docker/certs.d/$AUDIENCE/ca.crt"
}
