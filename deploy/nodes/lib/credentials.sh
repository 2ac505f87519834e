# shellcheck shell=sh
# How Pods show who they are: the kubelet's credential provider, with the token of their own ServiceAccount.
# https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/

readonly NAME=trow-credential-provider
readonly END="# $NAME: end"
# The first kubelet that gives tokens of Pods to providers (KEP-4412), unless this gate is closed.
readonly LEAST_VERSION=1.34
readonly GATE=KubeletServiceAccountTokenForCredentialProviders
readonly CONFIG_VERSION=kubelet.config.k8s.io/v1
# Beside a configuration: what a kubelet did not start with.
readonly REFUSED=trow-refused
# Where the agent puts things on a node whose kubelet has no provider yet.
readonly OWN_FOLDER=/etc/kubernetes/image-credential-provider

# The first line of Trow's entry.
begin() {
    echo "# $NAME: written by the node agent of Trow${NAMESPACE:+ in the namespace $NAMESPACE}, which keeps it as it is"
}

# PROVIDER_CONFIG and PROVIDER_BIN: of the kubelet that runs, or of one that has to be told; PROVIDER_FLAGS: is it told?
find_provider() {
    PROVIDER_CONFIG=$(echo "$KUBELET_FLAGS" | flag image-credential-provider-config)
    PROVIDER_BIN=$(echo "$KUBELET_FLAGS" | flag image-credential-provider-bin-dir)
    PROVIDER_FLAGS=true
    if [ -n "$PROVIDER_CONFIG" ] && [ -n "$PROVIDER_BIN" ]; then
        PROVIDER_BIN=${PROVIDER_BIN%/}
        if [ -d "$TROW_HOST$PROVIDER_CONFIG" ]; then PROVIDER_CONFIG=${PROVIDER_CONFIG%/}/trow.yaml; fi
        return
    fi
    case $KUBELET in
        k3s | rke2) # takes these when it starts, if they are there
            PROVIDER_CONFIG=/var/lib/rancher/credentialprovider/config.yaml
            PROVIDER_BIN=/var/lib/rancher/credentialprovider/bin
            ;;
        *)
            PROVIDER_CONFIG=$OWN_FOLDER/config.yaml
            PROVIDER_BIN=$OWN_FOLDER/bin
            PROVIDER_FLAGS=false
            ;;
    esac
}

apply_credentials() {
    if [ "$PROVIDER" != true ]; then
        off credentials "the credential provider is not asked for"
        return
    fi
    if [ -z "$KUBELET_PID" ]; then
        blocked credentials "no kubelet was found among the processes of the node" "install the credential provider by hand"
        return
    fi
    find_provider
    if ! knows_tokens; then return; fi
    if [ -f "$TROW_HOST$PROVIDER_CONFIG" ] && others | is_taken; then
        blocked credentials "$PROVIDER_CONFIG has an entry $NAME of somebody else, such as another Trow" \
            "take that one out, or set nodes.credentialProvider.enabled=false"
        return
    fi
    # The program comes first: a kubelet that starts in between must find what its configuration names.
    put credentials "$PROVIDER_BIN/$NAME" 755 "$(cat "$TROW_PROVIDER")" || return 0
    if ! merged=$(merge); then
        blocked credentials "$PROVIDER_CONFIG is written in a way that the agent does not change" \
            "add this to its providers: $(provider_json)"
        return
    fi
    if ! has_known_version; then
        blocked credentials "$PROVIDER_CONFIG is of an older version than $CONFIG_VERSION, which knows no tokens of Pods" \
            "write apiVersion: $CONFIG_VERSION into it, and see that its entries are as that has them"
        return
    fi
    if [ "$merged" = "$(cat "$TROW_HOST$PROVIDER_CONFIG.$REFUSED" 2>/dev/null)" ]; then
        tell_of_refusal
        return
    fi
    put credentials "$PROVIDER_CONFIG" "$(mode_of "$PROVIDER_CONFIG")" "$merged" || return 0
    tell_of_kubelet
}

# A kubelet does not start with members that it does not know, and then nothing runs on the node any more.
knows_tokens() {
    if [ "$KUBELET_PID" != "$ASKED_PID" ]; then version=$(kubelet_version) ASKED_PID=$KUBELET_PID; fi
    minor=${version#*.}
    if [ -z "$version" ]; then
        refused="the kubelet has to be of Kubernetes $LEAST_VERSION or newer, and its version is not known"
    elif [ "${version%%.*}" -eq 1 ] && [ "$minor" -lt "${LEAST_VERSION#*.}" ]; then
        refused="the kubelet has to be of Kubernetes $LEAST_VERSION or newer, and it is $version"
    elif is_switched_off; then
        refused="tokens of Pods are switched off in the kubelet"
    else
        return 0
    fi
    forget_entry || return 1
    blocked credentials "$refused" "upgrade it, or leave the feature gate $GATE on; else give Pods imagePullSecrets (nodes.credentialProvider.enabled=false)"
    return 1
}

is_switched_off() {
    configuration=$(echo "$KUBELET_FLAGS" | flag config)
    { echo "$KUBELET_FLAGS" && cat "$TROW_HOST$configuration" 2>/dev/null; } | grep -q "\"\{0,1\}$GATE\"\{0,1\}[=:] *false"
}

has_known_version() {
    [ ! -s "$TROW_HOST$PROVIDER_CONFIG" ] ||
        grep -q "^[ {]*\"\{0,1\}apiVersion\"\{0,1\} *: *[\"']\{0,1\}$CONFIG_VERSION\([\"' ,#].*\)\{0,1\}\$" "$TROW_HOST$PROVIDER_CONFIG" ||
        grep -q "\"apiVersion\" *: *\"$CONFIG_VERSION\"" "$TROW_HOST$PROVIDER_CONFIG"
}

tell_of_kubelet() {
    if [ "$PROVIDER_FLAGS" != true ]; then
        blocked credentials "the kubelet runs without a credential provider" "$(how_to_set_flags)"
    elif [ "$(started_at "$KUBELET_PID")" -ge "$(changed_at "$PROVIDER_CONFIG")" ]; then
        ready credentials "Pods pull with the token of their ServiceAccount, for the audience $AUDIENCE"
    elif [ "$RESTART" = true ] && restart_kubelet; then
        if kubelet_stays; then
            blocked credentials "the kubelet was told to restart, and is not back yet" "wait for the next look"
        else
            go_back
        fi
    else
        blocked credentials "the kubelet runs with an older $PROVIDER_CONFIG" \
            "run \`$(restart_command)\` on the node, or set nodes.restartKubelet"
    fi
}

how_to_set_flags() {
    flags="--image-credential-provider-config=$PROVIDER_CONFIG --image-credential-provider-bin-dir=$PROVIDER_BIN"
    case $KUBELET in
        microk8s) echo "add $flags to /var/snap/microk8s/current/args/kubelet, and run \`$(restart_command)\`" ;;
        *) echo "start it with $flags (kubeadm: KUBELET_EXTRA_ARGS in /etc/default/kubelet), and run \`$(restart_command)\`" ;;
    esac
}

restart_command() {
    case $KUBELET in
        microk8s) echo "snap restart microk8s.daemon-kubelite" ;;
        k3s | rke2)
            case $(processes "$KUBELET*" | head -n 1) in
                *-agent) echo "systemctl restart $KUBELET-agent" ;;
                *) [ "$KUBELET" = k3s ] && echo "systemctl restart k3s" || echo "systemctl restart rke2-server" ;;
            esac
            ;;
        *) echo "systemctl restart kubelet" ;;
    esac
}

# Once for each configuration: a kubelet that does not come back is not restarted again and again.
restart_kubelet() {
    now=$(changed_at "$PROVIDER_CONFIG")
    [ "$(cat "$RESTARTED" 2>/dev/null)" != "$now" ] || return 1
    echo "$now" >"$RESTARTED"
    on_node_restart
}

on_node_restart() {
    # systemctl takes the root of a container for a machine that is being installed, and does nothing then.
    # shellcheck disable=SC2046  # it is a command with arguments
    SYSTEMD_IGNORE_CHROOT=1 on_node $(restart_command) >&2 || : # what came of it is seen by its process
}

# Whether the kubelet lives on with its configuration: with one that it does not understand it ends within a second, and
# is started again and again.
kubelet_stays() {
    seen='' steady=0 left=$TROW_KUBELET_SECONDS
    while [ "$steady" -lt "$TROW_STEADY_SECONDS" ]; do
        if [ "$left" -le 0 ]; then return 1; fi
        sleep 1
        left=$((left - 1))
        find_kubelet
        if [ -n "$KUBELET_PID" ] && [ "$KUBELET_PID" = "$seen" ]; then steady=$((steady + 1)); else steady=0; fi
        seen=$KUBELET_PID
    done
}

# Without a kubelet nothing runs on the node any more: it gets the configuration without Trow's entry, and what it did not
# start with is written down, so that it is not tried again.
go_back() {
    if ! has_others; then
        blocked credentials "the kubelet does not come back" "see its log: journalctl --unit kubelet"
        return
    fi
    put credentials "$PROVIDER_CONFIG.$REFUSED" 600 "$merged" || return 0
    forget_entry || return 0
    on_node_restart
    tell_of_refusal
}

tell_of_refusal() {
    blocked credentials "the kubelet did not start with Trow's entry in $PROVIDER_CONFIG, which was taken out again" \
        "see why in its log (journalctl --unit kubelet); to try again, delete $PROVIDER_CONFIG.$REFUSED on the node"
}

mode_of() { # PATH
    stat -c %a "$TROW_HOST$1" 2>/dev/null || echo 644
}

# The configuration with Trow's entry in it, and all others as they are; 1 where that cannot be done safely.
merge() {
    if [ ! -s "$TROW_HOST$PROVIDER_CONFIG" ]; then
        echo "apiVersion: kubelet.config.k8s.io/v1"
        echo "kind: CredentialProviderConfig"
        echo "providers:"
        provider_yaml
    elif is_json; then
        merge_json
    else
        merge_yaml
    fi
}

is_json() {
    [ "$(tr -d ' \t\r\n' <"$TROW_HOST$PROVIDER_CONFIG" | cut -c 1)" = "{" ]
}

# Whether somebody else's entry has the name.
is_taken() {
    grep -q "$NAME"
}

merge_yaml() {
    others=$(without_yaml)
    if [ "$(echo "$others" | grep -c '^providers: *\(#.*\)\{0,1\}$')" != 1 ]; then return 1; fi
    indent=$(echo "$others" | sed -n '/^providers:/,$s/^\( *\)- .*/\1/p' | head -n 1)
    entry=$(provider_yaml | sed "s/^/$indent/")
    echo "$others" | while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in providers:*) printf '%s\n' "$entry" ;; esac
    done
}

without_yaml() {
    awk -v begin="$(begin)" -v end="$END" '
        { line = $0; sub(/^ */, "", line) }
        line == begin { inside = 1 }
        !inside { print }
        line == end { inside = 0 }' "$TROW_HOST$PROVIDER_CONFIG"
}

provider_yaml() {
    begin
    echo "- name: $NAME"
    echo "  apiVersion: credentialprovider.kubelet.k8s.io/v1"
    echo "  matchImages: [$(quoted_hosts)]"
    echo '  defaultCacheDuration: "0s"'
    echo "  args: [$(quoted_hosts)]"
    echo "  tokenAttributes:"
    echo "    serviceAccountTokenAudience: \"$AUDIENCE\""
    echo "    cacheType: Token"
    echo "    requireServiceAccount: true"
    echo "$END"
}

# JSON has no comments, so that a line of its own is what is known again.
merge_json() {
    others=$(without_json)
    if [ "$(echo "$others" | grep -o '"providers" *: *\[' | wc -l)" -ne 1 ]; then return 1; fi
    echo "$others" | awk -v entry="$(provider_json)" '
        { text = text $0 "\n" }
        END {
            match(text, /"providers"[ \t]*:[ \t]*\[[ \t\n]*/)
            rest = substr(text, RSTART + RLENGTH)
            head = substr(text, 1, RSTART + RLENGTH - 1)
            sub(/[ \t\n]*$/, "", head)
            printf "%s\n%s%s\n%s", head, entry, (rest ~ /^\]/ ? "" : ","), rest
        }'
}

without_json() {
    awk -v entry="$(json_head)" 'index($0, entry) != 1' "$TROW_HOST$PROVIDER_CONFIG"
}

# By which an entry is known again; the variable is for nobody else.
json_head() {
    printf '{"name":"%s",' "$NAME"
    if [ -n "$NAMESPACE" ]; then printf '"env":[{"name":"TROW_NAMESPACE","value":"%s"}],' "$NAMESPACE"; fi
}

provider_json() {
    json_head
    printf '"apiVersion":"credentialprovider.kubelet.k8s.io/v1","matchImages":[%s],' "$(quoted_hosts)"
    printf '"defaultCacheDuration":"0s","args":[%s],' "$(quoted_hosts)"
    printf '"tokenAttributes":{"serviceAccountTokenAudience":"%s","cacheType":"Token","requireServiceAccount":true}}\n' "$AUDIENCE"
}

quoted_hosts() {
    echo "$HOSTS" | sed 's/.*/"&"/' | paste -s -d , -
}

# Whether the kubelet has flags that lead to no other configuration than that of the agent.
is_the_only_one() {
    named=$(echo "$KUBELET_FLAGS" | flag image-credential-provider-config)
    [ -n "$named" ] || return 1
    if [ ! -d "$TROW_HOST$named" ]; then return 0; fi
    for other in "$TROW_HOST$named"/*.json "$TROW_HOST$named"/*.yaml "$TROW_HOST$named"/*.yml; do
        if [ -e "$other" ] && [ "${other##*/}" != trow.yaml ]; then return 1; fi
    done
}

# A kubelet whose flags name a configuration does not start without one, nor with one that names no provider.
restore_credentials() {
    find_provider
    if [ ! -e "$TROW_HOST$PROVIDER_CONFIG" ]; then
        restore_file "$PROVIDER_BIN/$NAME"
        off credentials "there is no credential provider of Trow"
        return
    fi
    if others | is_taken && ! has_own; then
        off credentials "the credential provider is somebody else's"
        return
    fi
    if ! has_others; then
        if is_the_only_one; then
            blocked credentials "the kubelet does not start without $PROVIDER_CONFIG, so that it is still there" \
                "start the kubelet without --image-credential-provider-config and --image-credential-provider-bin-dir, and delete ${PROVIDER_CONFIG%/*}"
            return
        fi
        rm -f "$TROW_HOST$PROVIDER_CONFIG"
        sync "$TROW_HOST${PROVIDER_CONFIG%/*}"
    else
        forget_entry || return 0
    fi
    rm -f "$TROW_HOST$PROVIDER_CONFIG.$KEPT" "$TROW_HOST$PROVIDER_CONFIG.$REFUSED"
    restore_file "$PROVIDER_BIN/$NAME"
    off credentials "the credential provider is gone; the kubelet forgets it when it starts the next time"
}

others() {
    if is_json; then without_json; else without_yaml; fi
}

has_own() {
    if is_json; then
        grep -qF "$(json_head)" "$TROW_HOST$PROVIDER_CONFIG"
    else
        grep -qF "$(begin)" "$TROW_HOST$PROVIDER_CONFIG"
    fi
}

has_others() {
    others | grep -q '"name"\|name:'
}

# Take Trow's entry out of a configuration that has others; 1, after a line of the report, where that cannot be done.
forget_entry() {
    if [ ! -e "$TROW_HOST$PROVIDER_CONFIG" ] || ! has_own || ! has_others; then return 0; fi
    put credentials "$PROVIDER_CONFIG" "$(mode_of "$PROVIDER_CONFIG")" "$(others)"
}
