# shellcheck shell=sh
# What runs on the node: its container runtime and its kubelet, as their own processes tell.

# Run a program of the node.
on_node() {
    if [ -n "$TROW_HOST" ]; then chroot "$TROW_HOST" "$@"; else "$@"; fi
}

# The arguments of a process, one a line.
arguments() { # PID
    tr '\0' '\n' <"$TROW_HOST/proc/$1/cmdline" 2>/dev/null
}

# The value of a flag among lines of arguments on standard input; the last one counts.
flag() { # NAME [SHORT NAME]
    awk -v long="--$1" -v short="-${2:-$1}" '
        next_is_it { value = $0; next_is_it = 0; next }
        $0 == long || $0 == short { next_is_it = 1; next }
        index($0, long "=") == 1 { value = substr($0, length(long) + 2) }
        index($0, short "=") == 1 { value = substr($0, length(short) + 2) }
        END { print value }'
}

# Whether a process is one of the node itself, and root's. Any Pod may call a process as it likes and give it any
# arguments, but it is in a PID namespace below that of the node, and the kernel tells.
is_of_node() { # PID
    awk '$1 == "Uid:" { root = ($2 == 0) } $1 == "NSpid:" { top = (NF == 2) } END { exit !(root && top) }' \
        "$TROW_HOST/proc/$1/status" 2>/dev/null
}

# The processes of the node with a name, as "PID NAME" a line.
processes() { # PATTERN of case
    for status in "$TROW_HOST"/proc/[0-9]*/comm; do
        name=
        { read -r name <"$status"; } 2>/dev/null || continue
        # shellcheck disable=SC2254  # it is a pattern
        case $name in
            containerd-*) ;; # a shim
            $1)
                pid=${status%/comm} pid=${pid##*/}
                if is_of_node "$pid"; then echo "$pid $name"; fi
                ;;
        esac
    done
}

# Seconds since 1970 at which a process began; 0 where that cannot be told.
started_at() { # PID
    boot=$(sed -n 's/^btime //p' "$TROW_HOST/proc/stat" 2>/dev/null)
    # The name of the process, in brackets, may have spaces in it; the kernel counts in hundredths of seconds.
    ticks=$(sed 's/^.*) //' "$TROW_HOST/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20)
    echo $((${boot:-0} + ${ticks:-0} / 100))
}

changed_at() { # PATH
    stat -c %Y "$TROW_HOST$1" 2>/dev/null || echo 0
}

# The kubelet: KUBELET is what it is part of, KUBELET_PID its process, KUBELET_FLAGS its flags, one a line.
find_kubelet() {
    KUBELET='' KUBELET_PID='' KUBELET_FLAGS=''
    if [ -f "$TROW_HOST/var/snap/microk8s/current/args/kubelet" ]; then
        KUBELET=microk8s
        KUBELET_PID=$(processes 'kubelite' | sed -n '1s/ .*//p')
        KUBELET_FLAGS=$(tr -s ' ' '\n' <"$TROW_HOST/var/snap/microk8s/current/args/kubelet")
        return
    fi
    for distribution in k3s rke2; do
        KUBELET_PID=$(processes "$distribution*" | sed -n '1s/ .*//p')
        if [ -n "$KUBELET_PID" ]; then
            KUBELET=$distribution
            KUBELET_FLAGS=$(arguments "$KUBELET_PID")
            return
        fi
    done
    for pid in $(processes kubelet | sed 's/ .*//'); do
        flags=$(arguments "$pid")
        # A machine may run several nodes, each with a name of its own.
        if [ -z "$KUBELET_PID" ] || [ "$(echo "$flags" | flag hostname-override)" = "$NODE_NAME" ]; then
            KUBELET=kubelet KUBELET_PID=$pid KUBELET_FLAGS=$flags
        fi
    done
}

# The version of Kubernetes that the kubelet is of, such as 1.34; empty where it does not tell.
kubelet_version() {
    if [ "$KUBELET" = microk8s ]; then
        said=$(sed -n "s/^version: *[\"']\{0,1\}//p" "$TROW_HOST/snap/microk8s/current/meta/snap.yaml" 2>/dev/null) || return 0
    else
        program=$(program_of "$KUBELET_PID") || return 0
        said=$(on_node "$program" --version 2>/dev/null) || return 0
    fi
    printf '%s\n' "$said" | sed -n '1s/^\(.* \)\{0,1\}v\([0-9][0-9]*\.[0-9][0-9]*\)\..*/\2/p'
}

# Where the kubelet reaches its runtime, without the scheme; empty where it does not say.
runtime_socket() {
    socket=$(echo "$KUBELET_FLAGS" | flag container-runtime-endpoint)
    configuration=$(echo "$KUBELET_FLAGS" | flag config)
    if [ -z "$socket" ] && [ -f "$TROW_HOST$configuration" ]; then
        socket=$(sed -n 's/^[ {"]*containerRuntimeEndpoint"\{0,1\}: *"\{0,1\}\([^",]*\).*/\1/p' "$TROW_HOST$configuration" | head -n 1)
    fi
    echo "${socket#unix://}"
}

# The runtime: RUNTIME is containerd, cri-o, docker or empty, RUNTIME_VERSION its version.
# Of containerd, DUMP is its effective configuration, which it tells itself.
find_runtime() {
    RUNTIME='' RUNTIME_VERSION='' DUMP=''
    socket=$(runtime_socket)
    for pid in $(processes 'containerd*' | sed 's/ .*//'); do
        program=$(program_of "$pid") || continue
        configuration=$(arguments "$pid" | flag config c)
        dump=$(on_node "$program" ${configuration:+--config "$configuration"} config dump 2>/dev/null) || continue
        if [ -z "$RUNTIME" ] || [ "$(echo "$dump" | address)" = "$socket" ]; then
            RUNTIME=containerd DUMP=$dump
            RUNTIME_VERSION=$(on_node "$program" --version | sed -n 's/^.* v\{0,1\}\([0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
        fi
    done
    [ -z "$RUNTIME" ] || [ "${socket##*/}" != crio.sock ] || RUNTIME=
    if [ -n "$RUNTIME" ] && [ -z "$(processes 'cri-dockerd')" ]; then return; fi
    RUNTIME='' DUMP=''
    if [ -n "$(processes 'cri-dockerd')" ]; then RUNTIME=docker; fi
    if [ -n "$(processes 'crio')" ]; then RUNTIME=cri-o; fi
}

# The program of a process: as it was called, or where programs usually are.
program_of() { # PID
    called=$(arguments "$1" | head -n 1)
    case $called in
        /*)
            if [ -x "$TROW_HOST$called" ]; then
                echo "$called"
                return
            fi
            ;;
    esac
    for folder in /usr/local/bin /usr/bin /bin /usr/local/sbin /usr/sbin /var/lib/rancher/k3s/data/current/bin \
        /var/lib/rancher/rke2/bin /opt/bin; do
        if [ -x "$TROW_HOST$folder/${called##*/}" ]; then
            echo "$folder/${called##*/}"
            return
        fi
    done
    return 1
}

# The socket in a dump on standard input: [grpc], and since version 4 a plugin.
address() {
    awk '
        /^[ \t]*\[/ { there = ($0 ~ /^[ \t]*\[grpc\]/ || $0 ~ /io\.containerd\.server\.v1\.grpc.\]/) }
        there && /^[ \t]*address *=/ { gsub(/^[^=]*= *["\047]|["\047] *$/, ""); print; exit }'
}
