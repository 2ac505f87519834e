#!/bin/sh
# Installs Trow in a cluster for development, and takes it away again. It needs kubectl and nothing else:
#
#   sh install.sh --help
#   sh install.sh --dry-run
#   sh install.sh
#
# Everything is a function, and the last line calls the first one: a script that was cut off on its way does nothing.
# Nothing is changed before all checks have passed. No question is ever asked.
set -u
umask 077

MANAGER=trow-quick-install # the label app.kubernetes.io/managed-by of what this script makes
PULL_CHECKS="app.kubernetes.io/managed-by=$MANAGER,app.kubernetes.io/component=pull-check"
DATA='app.kubernetes.io/component: data' # what an uninstallation may keep
REQUEST_TIME=20s           # the longest that one request to the API server takes
POLL_SECONDS=2
PATIENCE_SECONDS=20 # for what often mends itself, such as a pull that failed once
LEAST_MINOR=32      # Kubernetes 1.32

usage() {
  cat <<'END'
usage: sh install.sh [--dry-run] [FLAG...]
       sh install.sh --uninstall [--keep-data] [--dry-run] [FLAG...]

Installs Trow in the cluster of your kubeconfig, for development: kind, k3d, k3s, minikube, MicroK8s, Docker Desktop,
Rancher Desktop, and others whose nodes can pull its image.

  --dry-run             check, print what would be done and every object, change nothing
  --image REF           the image of Trow, in a registry that the nodes reach
  --image-archive FILE  put this image onto the nodes first: an archive, or a folder with an OCI layout; may be repeated
  --node-agent REF      the image of an agent that prepares each node; without this, one that is in an archive
  --namespace NAME      where Trow lives (default: trow)
  --host HOST[:PORT]    the registry in the names of images (default: localhost and the port of the nodes)
  --node-port PORT      the port of each node that leads to Trow (default: 30500)
  --private             do not let everybody pull who reaches the registry
  --ephemeral           keep images in the Pod, also where the cluster has volumes
  --timeout SECONDS     for each step (default: 180)
  --context NAME        as in kubectl
  --kubeconfig FILE     as in kubectl
  --uninstall           take away everything that was installed, with all images
  --keep-data           with --uninstall: leave the volume and the password for the next installation
  -h, --help            print this

exit code: 0 done, 1 not done and why, 2 the command line was not understood
END
}

main() {
  read_arguments "$@"
  work=$(mktemp -d "${TMPDIR:-/tmp}/trow-quick-install.XXXXXX") || exit 1
  : >"$work/made"
  trap on_exit EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  find_cluster
  if [ "$uninstall" = yes ]; then
    uninstall
  else
    check_installation
    if [ "$dry_run" = yes ]; then show_installation; else install; fi
  fi
}

# The command line

read_arguments() {
  dry_run=no uninstall=no keep_data=no private=no ephemeral=no
  image='' archives='' agent='' namespace=trow host='' node_port=30500 timeout=180 context='' kubeconfig=''
  while [ $# -gt 0 ]; do
    case $1 in
      --*=*)
        flag=${1%%=*} value=${1#*=}
        shift
        set -- "$flag" "$value" "$@"
        continue
        ;;
      --dry-run) dry_run=yes ;;
      --uninstall) uninstall=yes ;;
      --keep-data) keep_data=yes ;;
      --private) private=yes ;;
      --ephemeral) ephemeral=yes ;;
      -h | --help)
        usage
        exit 0
        ;;
      --image | --image-archive | --node-agent | --namespace | --host | --node-port | --timeout | --context | --kubeconfig)
        [ -n "${2:-}" ] || mistake "$1 needs a value after it"
        take_value "$1" "$2"
        shift
        ;;
      -*) mistake "unknown flag $1" ;;
      *) mistake "unexpected argument $1; leave it out, or write the flag that it belongs to" ;;
    esac
    shift
  done
  check_arguments
}

take_value() { # FLAG VALUE
  case $1 in
    --image) image=$2 ;;
    --image-archive) archives="$archives$2
" ;;
    --node-agent) agent=$2 ;;
    --namespace) namespace=$2 ;;
    --host) host=$2 ;;
    --node-port) node_port=$2 ;;
    --timeout) timeout=${2%s} ;;
    --context) context=$2 ;;
    --kubeconfig) kubeconfig=$2 ;;
  esac
}

check_arguments() {
  matches "$namespace" '[a-z0-9]\([a-z0-9-]*[a-z0-9]\)\{0,1\}' || mistake "--namespace: $namespace is not the name of a namespace"
  case $namespace in
    default | kube-*) mistake "--namespace: $namespace is not for Trow alone, and policies would not hold in it; choose another" ;;
  esac
  matches "$timeout" '[1-9][0-9]\{0,4\}' || mistake "--timeout: $timeout is not a number of seconds, such as 300"
  matches "$node_port" '[1-9][0-9]\{0,4\}' || mistake "--node-port: $node_port is not a port"
  [ -n "$host" ] || host=localhost:$node_port
  matches "$host" '[A-Za-z0-9.-]*[A-Za-z0-9]\(:[0-9]\{1,5\}\)\{0,1\}' || mistake "--host: $host is not HOST or HOST:PORT"
  [ -z "$image" ] || matches "$image" '[A-Za-z0-9][A-Za-z0-9._/:@-]*' || mistake "--image: $image is not the name of an image"
  [ -z "$agent" ] || matches "$agent" '[A-Za-z0-9][A-Za-z0-9._/:@-]*' || mistake "--node-agent: $agent is not the name of an image"
  [ "$keep_data" = no ] || [ "$uninstall" = yes ] || mistake "--keep-data belongs to --uninstall"
}

matches() { # TEXT PATTERN; of one line
  [ "$(printf '%s' "$1" | wc -l)" -eq 0 ] && printf '%s\n' "$1" | grep -q "^$2\$"
}

mistake() {
  printf 'error: %s\n' "$1" >&2
  printf '  See: %s --help\n' "$(myself)" >&2
  exit 2
}

# What is told

say() { printf '%s%s\n' "$mark" "$*" | plain; }

plain() { LC_ALL=C tr -d '\000-\010\013-\037\177'; } # without what a terminal obeys: others have written some of it

fail() { # WHAT [FIX...]
  {
    printf 'error: %s\n' "$1"
    shift
    for line in "$@"; do printf '  %s\n' "$line"; done
  } | plain >&2
  exit 1
}

made() { printf '%s\n' "$*" >>"$work/made"; }

on_exit() {
  status=$?
  if [ "$status" -ne 0 ] && [ -s "$work/made" ]; then
    printf 'Until here this was made: %s.\n' "$(paste -s -d , "$work/made" | sed 's/,/, /g')" >&2
    printf '  After the fix, run the same command again; it goes on from here.\n' >&2
    printf '  To take it away: %s\n' "$(myself) --uninstall$(flags)" >&2
  fi
  rm -rf "$work"
  exit "$status"
}

myself() { # how this script was called, as far as it can know
  case ${TROW_QUICK_INSTALL:-$0} in
    *.sh) printf 'sh %s' "$(typed "$0")" ;;
    trow*) printf '%s' "$TROW_QUICK_INSTALL" ;;
    *) printf 'sh install.sh' ;;
  esac
}

flags() { # those that tell where Trow is
  [ "$namespace" = trow ] || printf ' --namespace %s' "$namespace"
  kubectl_flags
}

kubectl_flags() {
  [ -z "$context" ] || printf ' --context %s' "$(typed "$context")"
  [ -z "$kubeconfig" ] || printf ' --kubeconfig %s' "$(typed "$kubeconfig")"
}

typed() { # WORD, as it is typed: a context may have any name, and people copy commands
  case $1 in
    *[!A-Za-z0-9_./:@%+=-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
  esac
}

said() { # what kubectl said last, on one line
  grep -v '^Warning:' "$work/said" | tr '\n' ' ' | sed -e 's/^error: //' -e 's/ *$//' | cut -c 1-600
}

# kubectl

k() {
  set -- --request-timeout="$REQUEST_TIME" "$@"
  [ -z "$context" ] || set -- --context="$context" "$@"
  [ -z "$kubeconfig" ] || set -- --kubeconfig="$kubeconfig" "$@"
  kubectl "$@" </dev/null # the rest of this script may be what stands there
}

try() { k "$@" >"$work/out" 2>"$work/said"; } # for what may fail

ask() { # for what may not: prints the answer
  k "$@" 2>"$work/said" || fail "the cluster refuses 'kubectl $1 $2': $(said)" "Ask somebody who may, or for the right to do it."
}

here() { k --namespace="$namespace" "$@"; }

look_at() { # ARGUMENTS of get; sets manager: who manages that object, "-" for nobody, "" where there is none
  ask get "$@" --ignore-not-found --output 'jsonpath={.metadata.name} {.metadata.labels.app\.kubernetes\.io/managed-by}{"\n"}' >"$work/object"
  read -r name manager <"$work/object" || name='' manager=''
  [ -z "$name" ] || manager=${manager:--}
}

# The cluster

find_cluster() {
  command -v kubectl >/dev/null 2>&1 || fail 'there is no kubectl on the PATH of this machine.' \
    'Install it and run this again: https://kubernetes.io/docs/tasks/tools/'
  [ -z "$kubeconfig" ] || [ -r "$kubeconfig" ] || fail "--kubeconfig: $kubeconfig cannot be read." 'Give the path of a file that is there.'
  where=$(k config view --minify --output 'jsonpath={.clusters[0].cluster.server} (context {.current-context})' 2>/dev/null)
  try get --raw /version || unreachable
  version=$(sed -n 's/.*"gitVersion": *"\([^"]*\)".*/\1/p' "$work/out")
  minor=$(sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' "$work/out")
  [ "${minor:-0}" -ge "$LEAST_MINOR" ] || fail "the cluster runs Kubernetes ${version:-of an unknown version}, and Trow needs 1.$LEAST_MINOR or newer." \
    'Upgrade the cluster, or choose another with --context.'
  check_rights
  find_nodes
  say "Cluster: $cluster_text, $ready_nodes of $nodes nodes ready, Kubernetes $version, ${where:-of this Pod}"
}

unreachable() {
  case $(said) in
    *'does not exist'*) fail "kubectl knows no such context: $(said)" 'To see all: kubectl config get-contexts' ;;
    *Unauthorized* | *'provide credentials'* | *'logged in'*)
      fail "the cluster ${where:-of the kubeconfig} does not know you: $(said)" 'Log in to it again, or choose another with --context.'
      ;;
    *localhost:8080*) fail "kubectl has no cluster: $(said)" 'Set KUBECONFIG, or give --kubeconfig FILE.' ;;
  esac
  fail "the cluster ${where:-of the kubeconfig} does not answer: $(said)" \
    'Start it, or choose another: kubectl config get-contexts, then --context NAME.'
}

check_rights() {
  # The rule of cluster-admin spares some fifty questions.
  if ! try auth can-i --list --namespace="$namespace" || ! grep -q '^\*\.\*  *\[\]  *\[\]  *\[\*\]' "$work/out"; then
    if [ "$uninstall" = yes ]; then verbs='list delete'; else verbs='create patch'; fi
    missing=$(missing_rights)
    [ -z "$missing" ] || fail "you may not do this in the cluster ${where:-}: ${missing%, }." \
      'Run this as an administrator of the cluster, or let one bind you to the ClusterRole cluster-admin.'
  fi
}

missing_rights() {
  for verb in $verbs; do
    for kind in namespaces customresourcedefinitions.apiextensions.k8s.io clusterroles.rbac.authorization.k8s.io \
      clusterrolebindings.rbac.authorization.k8s.io validatingadmissionpolicies.admissionregistration.k8s.io \
      validatingadmissionpolicybindings.admissionregistration.k8s.io serviceaccounts configmaps secrets services \
      statefulsets.apps daemonsets.apps roles.rbac.authorization.k8s.io rolebindings.rbac.authorization.k8s.io \
      networkpolicies.networking.k8s.io persistentvolumeclaims; do
      may "$verb" "$kind"
    done
  done
  may list nodes
  if [ "$uninstall" = no ]; then
    may escalate clusterroles.rbac.authorization.k8s.io
    may bind clusterroles.rbac.authorization.k8s.io
    may get pods --subresource=log
    may create pods --subresource=exec
  fi
}

may() { # VERB KIND [FLAG]; prints what one may not
  k auth can-i "$1" "$2" ${3:+"$3"} --namespace="$namespace" >/dev/null 2>&1 || printf '%s %s, ' "$1" "$2"
}

# What kind of cluster it is, by what its nodes tell of themselves; a context may have any name.

find_nodes() {
  ask get nodes --output 'jsonpath={range .items[*]}{.metadata.name}|{.spec.providerID}|{.status.nodeInfo.kubeletVersion}|{.status.nodeInfo.osImage}|{.status.nodeInfo.containerRuntimeVersion}|{.metadata.labels.minikube\.k8s\.io/name}|{.metadata.labels.microk8s\.io/cluster}|{.metadata.annotations.kubeadm\.alpha\.kubernetes\.io/cri-socket}|{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' >"$work/nodes" || exit 1
  nodes=$(grep -c '|' "$work/nodes")
  ready_nodes=$(grep -c '|True$' "$work/nodes")
  [ "$nodes" -gt 0 ] || fail "the cluster ${where:-} has no nodes, so nothing can run in it." 'Add a node, or choose another cluster with --context.'
  [ "$ready_nodes" -gt 0 ] || [ "$uninstall" = yes ] || fail "no node of the cluster ${where:-} is ready." 'See: kubectl describe nodes'
  kind=other cluster='' cluster_text='a cluster of another kind'
  while IFS='|' read -r name provider kubelet system runtime minikube microk8s kubeadm _; do
    recognise_node
    [ "$kind" = other ] || [ "$kind" = kubeadm ] || break
  done <"$work/nodes"
}

recognise_node() {
  case $provider in
    kind://*)
      cluster=${provider%/*} cluster=${cluster##*/} engine=${provider#kind://} engine=${engine%%/*}
      if [ "$cluster" = desktop ]; then found docker-desktop-kind 'Docker Desktop (kind)'; else found kind "kind, \"$cluster\""; fi
      return
      ;;
  esac
  if [ -n "$minikube" ]; then
    cluster=$minikube
    found minikube "minikube, \"$cluster\""
  elif [ "$microk8s" = true ]; then
    found microk8s MicroK8s
  elif [ "$name" = docker-desktop ] || [ "$system" = 'Docker Desktop' ]; then
    found docker-desktop 'Docker Desktop'
  else
    recognise_distribution
  fi
}

recognise_distribution() {
  case $kubelet in
    *+k3s*) recognise_k3s ;;
    *+rke2*) found rke2 RKE2 ;;
    *+k0s*) found k0s k0s ;;
    *)
      case $system/$provider in
        Talos*) found talos Talos ;;
        */aws://*) found managed 'Amazon EKS' ;;
        */gce://*) found managed 'Google Kubernetes Engine' ;;
        */azure://*) found managed 'Azure Kubernetes Service' ;;
        *) [ -z "$kubeadm" ] || found kubeadm kubeadm ;;
      esac
      ;;
  esac
}

recognise_k3s() { # k3s is inside of others, too
  case $name/$system in
    lima-rancher-desktop/*) found rancher-desktop 'Rancher Desktop' ;;
    k3d-*/K3s*)
      cluster=${name#k3d-} cluster=${cluster%-server-*} cluster=${cluster%-agent-*}
      found k3d "k3d, \"$cluster\""
      ;;
    *) found k3s k3s ;;
  esac
}

found() { kind=$1 cluster_text=$2; }

# The image

check_image() {
  pull_policy=IfNotPresent
  if [ -n "$archives" ]; then
    pull_policy=Never # a name without a registry would be looked for at Docker Hub, where it is somebody else's
    check_loading
  elif [ -z "$image" ]; then
    pull_policy=Never
    nodes_have_image || fail "no registry has an image of Trow yet, and no node has $BUILT_IMAGE." \
      'Build it with "make image" in a clone of Trow. Then give --image-archive dist/image,' \
      'or push it to a registry that the nodes reach, and give --image REGISTRY/trow:VERSION.' \
      'A node tells of an image that it has just got within a minute.'
  fi
  image=${image:-$BUILT_IMAGE}
}

# The agent is there where its image is: by its flag, in an archive, or from before.
choose_agent() {
  agent_policy=IfNotPresent
  if [ -n "$agent" ]; then return; fi
  agent_policy=Never
  printf '%s' "$archives" >"$work/archives"
  while read -r archive; do
    if [ -d "$archive" ]; then cat "$archive/index.json"; else tar -xOf "$archive" index.json manifest.json 2>/dev/null; fi
  done <"$work/archives" >"$work/names-in-archives"
  if grep -q "$BUILT_AGENT" "$work/names-in-archives"; then agent=$BUILT_AGENT; return; fi
  here get daemonset trow-nodes --ignore-not-found --output 'jsonpath={.spec.template.spec.initContainers[0].image} {.spec.template.spec.initContainers[0].imagePullPolicy}' >"$work/agent" 2>/dev/null
  read -r agent agent_policy <"$work/agent" || :
}

nodes_have_image() { # as far as they tell: each names fifty images
  ask get nodes --output 'jsonpath={range .items[*].status.images[*]}{.names[*]}{"\n"}{end}' >"$work/images" || exit 1
  tr ' ' '\n' <"$work/images" | grep -q "^\(docker.io/library/\)\{0,1\}$BUILT_IMAGE\$" || [ "$(wc -l <"$work/images")" -ge 50 ]
}

check_loading() {
  printf '%s' "$archives" | while read -r archive; do
    [ -r "$archive" ] || fail "--image-archive: $archive cannot be read." 'Give the path of a file, or of a folder with an OCI layout. "make image" makes dist/image.'
    [ ! -d "$archive" ] || [ -f "$archive/oci-layout" ] || fail "--image-archive: the folder $archive is not an OCI layout." \
      '"make image" makes one in dist/image.'
  done || exit 1
  case $kind in
    kind) needs_tool kind ;;
    k3d) needs_tool k3d ;;
    minikube) needs_tool minikube ;;
    docker-desktop | docker-desktop-kind) needs_tool docker ;;
    rancher-desktop) needs_tool "$(rancher_tool)" ;;
    microk8s) on_this_machine microk8s 'microk8s images import <' ;;
    k3s) on_this_machine k3s 'k3s ctr images import' ;;
    *) fail "nothing puts an image onto the nodes of this cluster ($cluster_text) from here." \
      'Push it to a registry that the nodes reach, and give --image REGISTRY/trow:VERSION.' \
      "Or make a file of it, copy that to each node, and import it there: $(by_hand)" \
      'Then run this again without --image-archive.' ;;
  esac
}

by_hand() {
  given=$(printf '%s' "$archives" | head -n 1) packed=$given
  if [ -d "$given" ]; then packed=trow.tar && printf 'tar -C %s -cf trow.tar oci-layout index.json blobs; ' "$given"; fi
  printf 'ctr --namespace k8s.io images import %s' "$packed"
}

rancher_tool() { case $runtime in docker://*) printf docker ;; *) printf nerdctl ;; esac }

needs_tool() {
  command -v "$1" >/dev/null 2>&1 || fail "--image-archive: there is no $1 on the PATH, which puts images onto the nodes of this cluster ($cluster_text)." \
    "Install it, or push the image to a registry that the nodes reach and give --image REGISTRY/trow:VERSION."
}

on_this_machine() { # TOOL COMMAND
  command -v "$1" >/dev/null 2>&1 || fail "--image-archive: there is no $1 on this machine; the nodes are elsewhere." \
    "Copy the archive to each node, run there as root: $2 ARCHIVE" 'Then run this again without --image-archive.'
  [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || fail "--image-archive: $2 has to run as root, and sudo is missing or asks for a password." \
    "Run as root: $2 ARCHIVE" 'Then run this again without --image-archive.'
}

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

load_images() {
  count=0
  printf '%s' "$archives" >"$work/archives"
  while read -r archive; do
    count=$((count + 1)) file=$archive
    if [ -d "$archive" ]; then file=$work/image-$count.tar; fi
    say "Image: onto the nodes, by: $(loading "$archive")"
    [ "$dry_run" = no ] || continue
    [ ! -d "$archive" ] || tar -C "$archive" -cf "$file" oci-layout index.json blobs || fail "tar cannot read $archive." 'Make it again: make image'
    load "$file" >"$work/said" 2>&1 &
    in_time $! || fail "the image could not be put onto the nodes: $(said)" "By hand: $(loading "$archive")"
    made "the image on the nodes"
  done <"$work/archives"
}

in_time() { # PROCESS; whether it ends well before the time-out
  end=$(($(now) + timeout))
  while kill -0 "$1" 2>/dev/null; do
    if [ "$(now)" -ge "$end" ]; then
      kill "$1"
      printf ' (ended after %s s, see --timeout)' "$timeout" >>"$work/said"
      return 1
    fi
    sleep 1
  done
  wait "$1"
}

load() { # FILE
  case $kind in
    kind) KIND_EXPERIMENTAL_PROVIDER=$engine kind load image-archive "$1" --name "$cluster" ;;
    k3d) k3d image import "$1" --cluster "$cluster" ;;
    minikube) minikube image load "$1" --profile "$cluster" ;;
    docker-desktop) docker load --input "$1" ;;
    docker-desktop-kind)
      cut -d '|' -f 1 "$work/nodes" | while read -r name; do
        docker exec --interactive "$name" ctr --namespace k8s.io images import --all-platforms --digests - <"$1" || exit 1
      done
      ;;
    rancher-desktop) case $runtime in docker://*) docker load --input "$1" ;; *) nerdctl --namespace k8s.io load --input "$1" ;; esac ;;
    microk8s) as_root microk8s images import <"$1" ;;
    k3s) as_root k3s ctr images import "$1" ;;
  esac
}

loading() { # FILE; the same for people
  case $kind in
    kind) printf 'kind load image-archive %s --name %s' "$1" "$cluster" ;;
    k3d) printf 'k3d image import %s --cluster %s' "$1" "$cluster" ;;
    minikube) printf 'minikube image load %s --profile %s' "$1" "$cluster" ;;
    docker-desktop-kind) printf 'docker exec --interactive NODE ctr --namespace k8s.io images import --all-platforms --digests - < %s' "$1" ;;
    docker-desktop) printf 'docker load --input %s' "$1" ;;
    rancher-desktop) printf '%s load --input %s' "$(rancher_tool)" "$1" ;;
    microk8s) printf 'microk8s images import < %s' "$1" ;;
    k3s) printf 'k3s ctr images import %s' "$1" ;;
  esac
}

# What is in the way

check_installation() {
  check_image
  choose_agent
  check_namespace
  check_names
  check_webhooks
  check_port
  choose_volume
}

check_namespace() {
  found_namespace=$(ask get namespace "$namespace" --ignore-not-found --output 'jsonpath={.status.phase}|{.metadata.labels.app\.kubernetes\.io/managed-by}') || exit 1
  case $found_namespace in
    Terminating*) fail "the namespace $namespace is being deleted." \
      "Wait for its end: kubectl wait namespace/$namespace --for=delete --timeout=300s$(kubectl_flags)" \
      "If that takes long, this tells what is left in it: kubectl get namespace $namespace --output=jsonpath='{.status.conditions}'$(kubectl_flags)" ;;
  esac
  look_at statefulset trow --namespace="$namespace"
  installed=no
  [ "$manager" != "$MANAGER" ] || installed=yes
}

# Objects of the same name that somebody else made are neither changed nor taken over.
check_names() {
  foreign --namespace="$namespace" statefulset/trow service/trow service/trow-webhooks service/trow-metrics serviceaccount/trow networkpolicy/trow
  foreign clusterrole/trow-admission clusterrolebinding/trow-admission clusterrolebinding/trow-auth-delegator \
    validatingadmissionpolicy/trow-policy-exceptions clusterrole/trow-image-puller
  other=$(ask get clusterrolebinding trow-admission --ignore-not-found --output 'jsonpath={.subjects[0].namespace}') || exit 1
  [ -z "$other" ] || [ "$other" = "$namespace" ] || fail "Trow is installed in the namespace $other already, and a cluster has one of it." \
    "Take that away first: $(myself) --uninstall --namespace $other$(kubectl_flags)" "Or change it, with: --namespace $other"
}

foreign() { # [FLAG] KIND/NAME...
  ask get "$@" --ignore-not-found --output 'jsonpath={range .items[*]}{.kind}/{.metadata.name}|{.metadata.namespace}|{.metadata.labels.app\.kubernetes\.io/managed-by}{"\n"}{end}' >"$work/names"
  while IFS='|' read -r object in manager; do
    [ "$manager" != "$MANAGER" ] || continue
    [ "$manager" != Helm ] || fail "Trow was installed with Helm: $object${in:+ in the namespace $in} is managed by it." \
      'Take that away first, or change it with Helm: docs/how-to/install-in-a-cluster.md tells both.'
    fail "there is a $object${in:+ in the namespace $in} that this script has not made." \
      "If it is of an older installation, delete it: kubectl delete $(lower "$object")${in:+ --namespace $in}$(kubectl_flags)" \
      'Otherwise choose another place with --namespace.'
  done <"$work/names"
}

alone() { # FILE; prints a folder with a file for each of its objects: in one file kubectl stops at the first that is not there
  folder=$(mktemp -d "$work/objects.XXXXXX")
  awk -v folder="$folder" 'BEGIN { file = folder "/1.yaml" } /^---$/ { close(file); file = folder "/" (NR + 1) ".yaml"; next } { print > file }' "$1"
  printf '%s' "$folder"
}

lower() { printf '%s' "$1" | tr '[:upper:]' '[:lower:]'; }

# A webhook whose service is gone keeps Pods from being created, those of Trow as well.
check_webhooks() {
  ask get validatingwebhookconfigurations,mutatingwebhookconfigurations --output 'jsonpath={range .items[*]}{.kind}/{.metadata.name}{range .webhooks[*]} {.name}={.clientConfig.service.namespace}/{.clientConfig.service.name}{end}{"\n"}{end}' >"$work/webhooks" || exit 1
  while read -r configuration webhooks; do
    case "$configuration $webhooks" in *trow*) ;; *) continue ;; esac
    for webhook in $webhooks; do
      service=${webhook#*=}
      [ "$service" != / ] || continue
      if ! try get service "${service#*/}" --namespace="${service%/*}"; then
        case $(said) in
          *NotFound*) fail "$(lower "$configuration") is left from an older installation: the Service $service, which it asks, is gone." \
            'While it is there, Pods may be refused. Delete it:' "kubectl delete $(lower "$configuration")$(kubectl_flags)" ;;
        esac
      else
        case $webhook in
          *.trow.io="$namespace"/*) ;;
          *.trow.io=*) fail "the Trow in the namespace ${service%/*} decides about the images of this cluster already, and two would undo what the other one writes." \
            'Use that one, or take it away first.' "If it no longer decides: kubectl delete $(lower "$configuration")$(kubectl_flags)" ;;
        esac
      fi
    done
  done <"$work/webhooks"
  can_create_pods || fail "no Pod can be created in this cluster: $(said)" \
    "The webhook $(said | sed -n 's/.*failed calling webhook "\([^"]*\)".*/\1/p') does not answer. Repair what it belongs to, or delete its configuration. To see all:" \
    "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations$(kubectl_flags)"
}

can_create_pods() { # as far as webhooks are concerned: nothing is stored
  cat >"$work/pod.yaml" <<'END'
apiVersion: v1
kind: Pod
metadata: {name: trow-quick-install-check, namespace: default}
spec:
  containers:
  - {name: check, image: registry.k8s.io/pause:3.10}
END
  try create --dry-run=server --filename="$work/pod.yaml" || case $(said) in *'failed calling webhook'*) return 1 ;; esac
}

check_port() {
  [ "$(here get service trow --ignore-not-found --output 'jsonpath={.spec.ports[0].nodePort}' 2>/dev/null)" != "$node_port" ] || return 0
  try create service nodeport trow-quick-install-check --namespace=default --tcp=80 --node-port="$node_port" --dry-run=server || case $(said) in
    *'already allocated'*) fail "port $node_port of the nodes is taken by the Service $(who_has_port)." \
      'Choose another: --node-port PORT, between 30000 and 32767 in most clusters.' ;;
    *) fail "port $node_port of the nodes cannot be had: $(said)" 'Choose another: --node-port PORT.' ;;
  esac
  if [ "$node_port" -lt 30000 ] || [ "$node_port" -gt 32767 ]; then check_range; fi
}

check_range() { # which a dry run of the API server does not tell
  if [ "$dry_run" = yes ]; then
    say "Whether this cluster gives the port $node_port to a Service is known when it is installed; most give 30000 to 32767"
    return
  fi
  try create service nodeport trow-quick-install-check --namespace=default --tcp=80 --node-port="$node_port" ||
    fail "--node-port: $node_port is none of the ports that this cluster gives to Services: $(said)" 'Choose another: --node-port PORT.'
  must 'the Service that tried the port cannot be deleted' delete service trow-quick-install-check --namespace=default
}

who_has_port() {
  k get services --all-namespaces --output 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{range .spec.ports[*]} {.nodePort}{end}{"\n"}{end}' 2>/dev/null |
    awk -v port="$node_port" '{ for (i = 2; i <= NF; i++) if ($i == port) { print $1; exit } }'
}

# Where images are kept: as before, else in a volume where the cluster makes volumes, else in the Pod.
choose_volume() {
  volume='emptyDir: {}' volume_text='in the Pod: they go when it goes'
  class=$(k get storageclasses --output 'jsonpath={range .items[?(@.metadata.annotations.storageclass\.kubernetes\.io/is-default-class=="true")]}{.metadata.name}{"\n"}{end}' 2>/dev/null | head -n 1)
  if [ "$ephemeral" = yes ]; then return; fi
  look_at persistentvolumeclaim trow-data --namespace="$namespace"
  if [ -n "$manager" ] || { [ -n "$class" ] && [ "$installed" = no ]; }; then
    volume='persistentVolumeClaim: {claimName: trow-data}'
    volume_text="in the volume trow-data of the class ${class:-that it has}"
  fi
}

# The objects

filled() { # a template, with what this installation is
  if [ "$private" = yes ]; then anonymous=none provider=true; else anonymous=pull provider=false; fi
  if [ -n "$agent" ]; then level=privileged; else level=restricted; fi # the agent is root on the nodes
  sed -e "s|@NAMESPACE@|$namespace|g" -e "s|@HOST@|$host|g" -e "s|@NODE_PORT@|$node_port|g" -e "s|@IMAGE@|$image|g" \
    -e "s|@PULL_POLICY@|$pull_policy|g" -e "s|'@DATA@': null|$volume|" -e "s|@ANONYMOUS@|$anonymous|g" \
    -e "s|@SETTINGS@|$settings|g" -e "s|@AGENT@|$agent|g" -e "s|@AGENT_POLICY@|$agent_policy|g" -e "s|@PRIVATE@|$provider|g" \
    -e "s|@POD_SECURITY@|$level|g"
}

render() { # files of objects, in the order in which they are made; none of those that somebody else made
  settings=$(settings_template | settings='' filled | cksum | cut -d ' ' -f 1)
  case $found_namespace in
    '' | *"|$MANAGER") home_template | filled >"$work/1-home.yaml" ;;
    *) say "Namespace $namespace: it was there before, and whoever may do something in it may do it to Trow" ;;
  esac
  look_at secret trow-admin --namespace="$namespace"
  [ -n "$manager" ] || admin_secret >"$work/2-admin.yaml"
  case $volume in persistent*) claim >"$work/3-volume.yaml" ;; esac
  look_at customresourcedefinition imagepolicies.policy.trow.io
  case $manager in
    '' | "$MANAGER") kinds_template >"$work/4-kinds.yaml" ;;
    *) say 'Kinds of policies: those that are there stay' ;;
  esac
  { settings_template && echo --- && objects_template; } | filled >"$work/5-trow.yaml"
  [ -z "$agent" ] || agent_template | filled >"$work/7-agent.yaml"
  for file in "$work/5-trow.yaml" "$work/7-agent.yaml"; do
    [ ! -f "$file" ] || foreign --filename="$(alone "$file")"
  done
  look_at configmap local-registry-hosting --namespace=kube-public
  case $manager in
    '' | "$MANAGER") hosting_template | filled >"$work/6-hosting.yaml" ;;
    *) say 'ConfigMap kube-public/local-registry-hosting: somebody else made it, and it stays' ;;
  esac
}

admin_secret() { # the password is made here, once; it is in no argument that other users of this machine could see
  if [ "$dry_run" = yes ]; then password='made when it is installed'; else password=$(od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'); fi
  cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: trow-admin
  namespace: $namespace
  labels: {app.kubernetes.io/managed-by: $MANAGER, $DATA}
stringData: {password: '$password'}
END
}

claim() {
  cat <<END
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: trow-data
  namespace: $namespace
  labels: {app.kubernetes.io/managed-by: $MANAGER, $DATA}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 20Gi}}
END
}

show_installation() {
  render
  load_images
  say "Images of clients are kept $volume_text"
  say 'These objects would be made or changed:'
  for file in "$work"/[1-9]-*.yaml; do
    echo ---
    cat "$file"
  done
  say 'Nothing was changed.'
}

# Installing

install() {
  before=$(running_revision)
  render
  load_images
  apply "$work/1-home.yaml" "the namespace $namespace"
  apply "$work/2-admin.yaml" "the password of the administrator"
  apply "$work/3-volume.yaml" 'the claim of a volume'
  apply "$work/4-kinds.yaml" 'the kinds of policies'
  apply "$work/5-trow.yaml" 'Trow and its rights'
  apply "$work/6-hosting.yaml" 'kube-public/local-registry-hosting'
  wait_for_trow
  forget_settings
  apply "$work/7-agent.yaml" 'an agent on each node'
  [ -z "$agent" ] || wait_for_agents 'is prepared'
  check_nodes
  can_create_pods || fail "since Trow is installed, no Pod can be created: $(said)" \
    "Take it away: $(myself) --uninstall$(flags)"
  summary
}

apply() { # FILE WHAT
  [ -f "$1" ] || return 0
  try apply --server-side --force-conflicts --field-manager="$MANAGER" --filename="$1" ||
    fail "the cluster refuses $2: $(said)" 'What it says is the reason. Repair that.'
  made "$2"
  say "In place: $2"
}

running_revision() { # of a Trow that is ready before anything is changed
  here get statefulset trow --ignore-not-found --output 'jsonpath={.status.readyReplicas}|{.status.currentRevision}' 2>/dev/null | sed -n 's/^1|//p'
}

now() { date +%s; }

# One line for each change of what the Pod waits for. What cannot mend itself ends the wait at once, the rest after the
# time-out.
wait_for_trow() {
  say "Waiting until Trow is ready, at most $timeout s"
  end=$(($(now) + timeout)) shown='' wrong_since=''
  until trow_is_ready; do
    observe_pod
    [ "$state" = "$shown" ] || say "  $state"
    shown=$state
    if [ -z "$wrong" ]; then wrong_since=''; elif [ -z "$wrong_since" ]; then wrong_since=$(now); fi
    if [ "$wrong" = final ] || { [ -n "$wrong_since" ] && [ $(($(now) - wrong_since)) -ge "$PATIENCE_SECONDS" ]; }; then
      give_up "Trow does not start: $state"
    fi
    [ "$(now)" -lt "$end" ] || give_up "Trow is not ready after $timeout s: $state"
    sleep "$POLL_SECONDS"
  done
  say 'Trow is ready'
}

trow_is_ready() { # the Pod of the newest revision, and not one that is about to be replaced
  here get statefulset trow --output 'jsonpath={.metadata.generation}|{.status.observedGeneration}|{.status.readyReplicas}|{.status.updatedReplicas}|{.status.currentRevision}|{.status.updateRevision}' >"$work/set" 2>"$work/said" || return 1
  IFS='|' read -r generation observed ready updated current update <"$work/set" || :
  [ "$generation|$ready|$updated|$current" = "$observed|1|1|$update" ]
}

observe_pod() { # sets: state, for people; wrong, "" or "soon" or "final"; hint, what to do
  wrong='' hint="See: kubectl describe pod trow-0 --namespace $namespace$(kubectl_flags)"
  here get pod trow-0 --ignore-not-found --output 'jsonpath={.metadata.labels.controller-revision-hash}|{.status.phase}|{.status.containerStatuses[0].state.waiting.reason}|{.status.containerStatuses[0].ready}|{.status.conditions[?(@.type=="PodScheduled")].status}' >"$work/pod" 2>/dev/null
  IFS='|' read -r revision phase reason ready scheduled <"$work/pod" || :
  if [ ! -s "$work/pod" ]; then
    observe_refusal
    return
  fi
  if [ -n "${update:-}" ] && [ "$revision" != "$update" ] && [ "$ready" != true ]; then
    try delete pod trow-0 --namespace="$namespace" --wait=false # a StatefulSet waits forever for a Pod that is broken
  fi
  message=$(here get pod trow-0 --ignore-not-found --output 'jsonpath={.status.containerStatuses[0].state.waiting.message}{.status.conditions[?(@.type=="PodScheduled")].message}' 2>/dev/null | tr '\n' ' ' | cut -c 1-400)
  state="trow-0 is $phase${reason:+, $reason}${message:+: $message}"
  case $reason in
    ErrImageNeverPull) wrong=final hint="The image $image is on no node: give --image-archive FILE, or --image REF of a registry." ;;
    InvalidImageName) wrong=final hint='Give the name of an image: --image REGISTRY/trow:VERSION' ;;
    ErrImagePull | ImagePullBackOff) wrong=soon hint="The nodes cannot pull $image. Is the name right, and does the registry let them? Otherwise give --image-archive FILE." ;;
    CrashLoopBackOff)
      wrong=final
      state="$state; it said last: $(here logs trow-0 --previous --tail=3 2>/dev/null | tr '\n' ' ' | cut -c 1-400)"
      ;;
    CreateContainerConfigError) wrong=soon ;;
  esac
  [ "$scheduled" != False ] || hint='The scheduler finds no node for it, and says why.'
}

observe_refusal() { # no Pod: who refuses it?
  state='there is no Pod yet'
  refusal=$(refusal trow)
  [ -n "$refusal" ] || return 0
  wrong=soon state="its Pod is refused: $refusal"
  case $refusal in
    *PodSecurity*) hint="Let the namespace have such Pods: kubectl label namespace $namespace --overwrite pod-security.kubernetes.io/enforce=restricted$(kubectl_flags)" ;;
    *quota*) hint="See: kubectl describe resourcequotas --namespace $namespace$(kubectl_flags)" ;;
    *webhook*) hint='Repair what the webhook belongs to, or delete its configuration.' ;;
  esac
}

refusal() { # NAME; why its Pods cannot be created
  here get events --field-selector "involvedObject.name=$1,reason=FailedCreate" --output 'jsonpath={range .items[*]}{.message}{"\n"}{end}' 2>/dev/null | tail -n 1 | cut -c 1-400
}

give_up() { # MESSAGE; a Trow that ran before runs again
  reasons=$1 fix=$hint
  if [ -n "$before" ]; then
    say 'Going back to the Trow that ran before'
    try rollout undo statefulset/trow --namespace="$namespace" && try delete pod trow-0 --namespace="$namespace" --ignore-not-found --wait=false
    end=$(($(now) + timeout))
    until trow_is_ready || [ "$(now)" -ge "$end" ]; do sleep "$POLL_SECONDS"; done
    if trow_is_ready; then reasons="$reasons. The one that ran before runs again."; fi
  fi
  fail "$reasons" "$fix"
}

forget_settings() { # of earlier installations; the name of settings changes with them, so that Pods are replaced
  here get configmaps --selector "app.kubernetes.io/managed-by=$MANAGER" --output name 2>/dev/null | while read -r name; do
    case $name in "configmap/trow-config-$settings") ;; configmap/trow-config-*) try delete "$name" --namespace="$namespace" ;; esac
  done
}

# The agent has done its work on a node when the container that goes before the others has ended.
wait_for_agents() { # WHAT A NODE IS THEN [FIX]
  say "Waiting until each node $1, at most $timeout s"
  end=$(($(now) + timeout))
  until agents_are_done; do
    [ "$(now)" -lt "$end" ] || fail "not every node $1 after $timeout s: $(tr '\n' ' ' <"$work/agents")$(refusal trow-nodes)" \
      "See: kubectl describe pods --namespace $namespace --selector app.kubernetes.io/component=node-agent$(kubectl_flags)" \
      ${2:+"$2"}
    sleep "$POLL_SECONDS"
  done
  while IFS='|' read -r _ name _ _; do
    agent_report "$name" | while read -r line; do [ -z "$line" ] || say "  $name: $line"; done
  done <"$work/agents"
}

agent_report() { # NODE; what its agent has said last: it ends, and is started again, when there is something else to say
  for state in 'containerStatuses[?(@.name=="agent")].lastState' 'initContainerStatuses[0].state'; do
    report=$(here get pods --selector app.kubernetes.io/component=node-agent --field-selector "spec.nodeName=$1" --output "jsonpath={.items[0].status.$state.terminated.message}" 2>/dev/null) || :
    [ -z "$report" ] || break
  done
  echo "$report"
}

agents_are_done() { # all of the newest revision
  here get daemonset trow-nodes --output 'jsonpath={.metadata.generation}|{.status.observedGeneration}|{.status.desiredNumberScheduled}|{.status.updatedNumberScheduled}' >"$work/set" 2>"$work/agents" || return 1
  IFS='|' read -r generation observed wanted updated <"$work/set" || :
  here get pods --selector app.kubernetes.io/component=node-agent --output 'jsonpath={range .items[*]}{.status.initContainerStatuses[0].state.terminated.exitCode}|{.spec.nodeName}|{.status.initContainerStatuses[0].state.waiting.reason}|{.status.initContainerStatuses[0].state.waiting.message}{"\n"}{end}' >"$work/agents" 2>/dev/null
  [ "$generation|$wanted" = "$observed|$updated" ] && [ "$(grep -c '^0|' "$work/agents")" = "$wanted" ] && ! grep -q -v '^0|' "$work/agents"
}

# What was there before is put back by the agent itself.
restore_nodes() {
  try get daemonset trow-nodes --namespace="$namespace" || return 0
  cat >"$work/restore.yaml" <<'END'
spec:
  updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}
  template:
    spec:
      initContainers: [{name: set-up, args: [restore]}]
      containers: [{name: agent, args: [idle]}, {name: pull-check, $patch: delete}]
END
  must 'the nodes cannot be restored' patch daemonset trow-nodes --namespace="$namespace" --patch-file="$work/restore.yaml"
  wait_for_agents 'is as it was before' \
    "To go on without those nodes: kubectl delete daemonset trow-nodes --namespace $namespace$(kubectl_flags), then the same command again"
}

# Nodes: each pulls the small image that Trow publishes itself, by the name that Pods use.

check_nodes() {
  say "Pulling $host/$namespace/pull-check:1 on each node, at most $timeout s"
  grep '|True$' "$work/nodes" | cut -d '|' -f 1 | while read -r name; do pull_check_pod "$name"; done >"$work/pull-checks.yaml"
  try delete pods --namespace="$namespace" --selector "$PULL_CHECKS" --ignore-not-found
  try create --filename="$work/pull-checks.yaml" || fail "the pull cannot be tried: $(said)" 'What it says is the reason. Repair that.'
  end=$(($(now) + timeout)) wrong_since=''
  until observe_pulls; do
    if [ "$(now)" -ge "$end" ]; then break; fi
    if grep -q '|Pending|.*ImagePull' "$work/pulls"; then wrong_since=${wrong_since:-$(now)}; else wrong_since=''; fi
    if [ -n "$wrong_since" ] && [ $(($(now) - wrong_since)) -ge "$PATIENCE_SECONDS" ]; then break; fi
    sleep "$POLL_SECONDS"
  done
  try delete pods --namespace="$namespace" --selector "$PULL_CHECKS" --ignore-not-found --wait=false
  tell_pulls
}

pull_check_pod() { # NODE
  cat <<END
---
apiVersion: v1
kind: Pod
metadata:
  generateName: trow-pull-check-
  namespace: $namespace
  labels: {app.kubernetes.io/managed-by: $MANAGER, app.kubernetes.io/component: pull-check}
spec:
  nodeName: $1
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: pull-check
    image: $host/$namespace/pull-check:1
    imagePullPolicy: Always
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
END
}

observe_pulls() { # whether all could
  here get pods --selector "$PULL_CHECKS" --output 'jsonpath={range .items[*]}{.spec.nodeName}|{.status.phase}|{.status.containerStatuses[0].state.waiting.reason}|{.status.containerStatuses[0].state.waiting.message}{"\n"}{end}' >"$work/pulls" 2>"$work/said" || return 1
  ! grep -q -v -e '|Running|' -e '|Succeeded|' "$work/pulls"
}

tell_pulls() {
  : >"$work/cannot"
  while IFS='|' read -r name phase reason message; do
    case $phase in
      Running | Succeeded) say "  $name can pull" ;;
      *)
        say "  $name cannot: ${reason:-$phase}"
        printf '%s: %s\n' "$name" "${message:-$reason$phase}" | cut -c 1-500 >>"$work/cannot"
        ;;
    esac
  done <"$work/pulls"
  [ -s "$work/cannot" ] || return 0
  fail "Trow runs, but not every node can pull from it. $(tr '\n' ' ' <"$work/cannot")" "$(pull_fix)"
}

pull_fix() {
  case $(cat "$work/cannot") in
    *'HTTP response to HTTPS client'*) echo "The nodes speak HTTPS to $host. Let an agent tell them that it is plain HTTP: --node-agent REF. Or leave --host out: to localhost they speak plain HTTP." ;;
    *'lookup '*) echo "The nodes do not know the name $host. Let an agent lead them: --node-agent REF. Or leave --host out, or give an address." ;;
    *'connection refused'* | *'i/o timeout'* | *'deadline exceeded'*)
      echo "$host leads nowhere on the nodes. Their kube-proxy has to serve ports of nodes there: the modes nftables and ipvs do not for localhost, iptables does. An agent on the nodes leads them, too: --node-agent REF"
      ;;
    *) echo "What the node says is the reason. To see all: kubectl get events --namespace $namespace$(kubectl_flags)" ;;
  esac
}

# What to do next

summary() {
  cat <<END

Trow is ready in the namespace $namespace. Images are kept $volume_text.

To push from here$(way_in):

  kubectl get secret trow-admin --namespace $namespace --output go-template='{{.data.password | base64decode}}'$(kubectl_flags) |
    docker login $host --username admin --password-stdin
  docker tag IMAGE $host/team/app:1
  docker push $host/team/app:1
$(run_it)
$(trust)
$(pullers)
To take all of it away: $(myself) --uninstall$(flags)
END
}

way_in() {
  case $host:$kind in
    localhost:*:docker-desktop) ;;
    localhost:*:k3s | localhost:*:microk8s)
      if ! command -v "$kind" >/dev/null 2>&1; then forwarded; fi
      ;;
    localhost:*) forwarded ;;
  esac
}

forwarded() { # through the API server, which is reached already
  printf ', leave this running in a second terminal:\n\n  kubectl port-forward --namespace %s service/trow %s:80%s\n\nThen, in this one' "$namespace" "${host#localhost:}" "$(kubectl_flags)"
}

trust() {
  case $host in
    localhost:* | localhost)
      echo 'docker and crane speak plain HTTP to localhost. Podman and skopeo need --tls-verify=false.'
      [ "$(uname -s)" = Linux ] || echo 'Docker Desktop pushes from its own machine, for which localhost is another: use crane or skopeo here.'
      ;;
    *) printf 'For that, %s has to lead to port %s of a node, as seen from here. It is plain HTTP: docker needs {"insecure-registries": ["%s"]} in its daemon.json, Podman and skopeo --tls-verify=false.\n' "$host" "$node_port" "$host" ;;
  esac
}

run_it() { # where every Pod may pull it
  if [ "$private" = no ]; then printf '  kubectl run app --image %s/team/app:1%s\n\n' "$host" "$(kubectl_flags)"; fi
}

pullers() {
  if [ "$private" = yes ]; then
    echo 'Pods pull with what their ServiceAccount may: docs/how-to/kubernetes-rbac.md;'
    echo 'steps 3 and 5 of docs/tutorial/denied-by-policy.md show it.'
  else
    echo 'Everybody who reaches the registry can pull, nobody but admin can push; --private lets nobody pull without a right.'
  fi
}

# Uninstalling

uninstall() {
  for object in "statefulset trow --namespace=$namespace" 'clusterrole trow-admission'; do
    # shellcheck disable=SC2086 # these are words
    look_at $object
    [ "$manager" != Helm ] || fail 'Trow was installed with Helm, so Helm takes it away.' \
      "helm uninstall trow --namespace $namespace, after the steps in docs/how-to/install-in-a-cluster.md"
  done
  other=$(ask get clusterrolebinding trow-admission --ignore-not-found --output 'jsonpath={.subjects[0].namespace}') || exit 1
  [ -z "$other" ] || [ "$other" = "$namespace" ] || fail "Trow is installed in the namespace $other, and not in $namespace." "Give --namespace $other"
  selector=app.kubernetes.io/managed-by=$MANAGER
  everything >"$work/all"
  look_at namespace "$namespace"
  own_namespace=no
  [ "$manager" != "$MANAGER" ] || own_namespace=yes
  if [ ! -s "$work/all" ] && [ "$own_namespace" = no ]; then
    say 'Nothing of this script is in the cluster.'
    return
  fi
  [ "$keep_data" = no ] || grep -q '^PersistentVolumeClaim trow-data ' "$work/all" || fail 'there is no volume to keep: the images are in the Pod, and go with it.' \
    'Copy what you need to another registry, then leave --keep-data out.'
  if [ "$keep_data" = yes ]; then
    selector=$selector,app.kubernetes.io/component!=data
    everything >"$work/all"
  fi
  if [ "$dry_run" = yes ]; then
    show_removal
  else
    remove
  fi
}

KINDS=pods,statefulsets,daemonsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,persistentvolumeclaims
CLUSTER_KINDS=clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions

everything() { # what is selected, anywhere: lines "KIND NAME NAMESPACE"
  for kinds in "$KINDS" "$CLUSTER_KINDS"; do
    ask get "$kinds" --all-namespaces --selector "$selector" --output 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.namespace}{"\n"}{end}'
  done
}

show_removal() {
  say 'These would be deleted:'
  while read -r kind name in; do
    say "  $kind $name${in:+ in $in}"
  done <"$work/all"
  [ "$keep_data" = yes ] || [ "$own_namespace" = no ] || say "  Namespace $namespace"
  say '  and what Trow itself wrote: its webhooks, compiled policies and certificate'
  [ "$keep_data" = yes ] || say 'All images and the record of accesses go with it.'
  say 'Nothing was changed.'
}

# First nodes get back what they had. Then Trow stops, so that it does not write its webhooks again; then they go, so that no Pod is refused meanwhile.
remove() {
  restore_nodes
  look_at statefulset trow --namespace="$namespace"
  if [ "$manager" = "$MANAGER" ]; then
    say 'Stopping Trow'
    must 'Trow cannot be stopped' scale statefulset/trow --namespace="$namespace" --replicas=0
    must 'the Pod of Trow cannot be deleted' delete pod trow-0 --namespace="$namespace" --ignore-not-found --wait=false # also one that never started
    gone "Trow's Pod" pod/trow-0 --namespace="$namespace"
  fi
  say 'Deleting its webhooks and compiled policies'
  for kind in validatingwebhookconfiguration mutatingwebhookconfiguration; do
    service=$(k get "$kind" trow --ignore-not-found --output 'jsonpath={.webhooks[0].clientConfig.service.namespace}' 2>/dev/null)
    [ "$service" != "$namespace" ] || must 'the webhooks cannot be deleted' delete "$kind" trow --ignore-not-found
  done
  for kind in validatingadmissionpolicybindings validatingadmissionpolicies; do # a policy without a binding holds nowhere
    ask get "$kind" --selector app.kubernetes.io/managed-by=trow --output 'jsonpath={range .items[*]}{.metadata.name} {.metadata.ownerReferences[0].name}{"\n"}{end}' >"$work/compiled"
    while read -r name owner; do # another Trow has its own
      [ "$owner" != trow-admission ] || must 'the compiled policies cannot be deleted' delete "$kind" "$name" --ignore-not-found
    done <"$work/compiled"
  done
  [ "$keep_data" = yes ] || say 'Deleting Trow, with all images'
  [ "$keep_data" = no ] || say 'Deleting Trow; the volume trow-data and the Secret trow-admin stay'
  remove_objects
  remove_namespace
  everything >"$work/left"
  [ ! -s "$work/left" ] || fail "this is left: $(tr '\n' ';' <"$work/left")" 'Run the same command again.'
  if [ "$keep_data" = yes ]; then say "The next installation in the namespace $namespace goes on with them."; else say 'Nothing is left.'; fi
}

remove_objects() {
  must 'the certificate cannot be deleted' delete secrets --namespace="$namespace" --selector app.kubernetes.io/managed-by=trow --ignore-not-found
  must 'the objects cannot be deleted' delete "$KINDS,$CLUSTER_KINDS" --all-namespaces --selector "$selector" --ignore-not-found --wait=false
  end=$(($(now) + timeout))
  everything >"$work/left"
  while [ -s "$work/left" ] && [ "$(now)" -lt "$end" ]; do
    sleep "$POLL_SECONDS"
    everything >"$work/left"
  done
}

remove_namespace() { # if this script made it, and nobody else has put anything into it
  if [ "$keep_data" = yes ] || [ "$own_namespace" = no ]; then return; fi
  # What has an owner goes with it, and what is on its way out is no longer anybody's.
  others=$(here get "deployments,replicasets,jobs,cronjobs,ingresses,$KINDS" --no-headers --output \
    'custom-columns=K:.kind,N:.metadata.name,O:.metadata.ownerReferences[0].name,D:.metadata.deletionTimestamp' 2>/dev/null |
    while read -r kind name owner deleted; do
      [ "$owner" != '<none>' ] || [ "$deleted" != '<none>' ] || printf '%s/%s\n' "$kind" "$name"
    done | grep -v -x -e ConfigMap/kube-root-ca.crt -e ServiceAccount/default | paste -s -d ' ' -)
  if [ -n "$others" ]; then
    k label namespace "$namespace" app.kubernetes.io/managed-by- >/dev/null 2>&1
    say "The namespace $namespace stays, for there is more in it: $others"
    return
  fi
  must 'the namespace cannot be deleted' delete namespace "$namespace" --ignore-not-found --wait=false
  gone "the namespace $namespace" "namespace/$namespace"
}

must() { # MESSAGE ARGUMENTS
  problem=$1
  shift
  try "$@" || fail "$problem: $(said)" 'Repair that, and run the same command again.'
}

gone() { # WHAT KIND/NAME [FLAG]: wait for its end
  what=$1 end=$(($(now) + timeout)) told=no
  shift
  while [ -n "$(k get "$@" --ignore-not-found --output name 2>/dev/null)" ]; do
    [ "$told" = yes ] || say "  waiting for the end of $what"
    told=yes
    [ "$(now)" -lt "$end" ] || fail "$what is still there after $timeout s." "See what holds it: kubectl describe $*$(kubectl_flags)"
    sleep "$POLL_SECONDS"
  done
}

# Generated by `python -m deploy.quick_install` from here
BUILT_IMAGE=trow:1.0.0.dev0
BUILT_AGENT=trow-node-agent:1.0.0.dev0
home_template() {
  cat <<'END_OF_OBJECTS'
apiVersion: v1
kind: Namespace
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
    pod-security.kubernetes.io/enforce: '@POD_SECURITY@'
  name: '@NAMESPACE@'
END_OF_OBJECTS
}
kinds_template() {
  cat <<'END_OF_OBJECTS'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: clusterimagepolicies.policy.trow.io
spec:
  group: policy.trow.io
  names:
    categories:
    - trow
    kind: ClusterImagePolicy
    listKind: ClusterImagePolicyList
    plural: clusterimagepolicies
    shortNames:
    - cimgpol
    singular: clusterimagepolicy
  scope: Cluster
  versions:
  - additionalPrinterColumns:
    - description: What a refused image leads to.
      jsonPath: .spec.mode
      name: Mode
      type: string
    - description: What is done with images that no rule matches.
      jsonPath: .spec.default
      name: Default
      type: string
    - description: Whether the policy is in force.
      jsonPath: .status.conditions[?(@.type=="Ready")].status
      name: Ready
      type: string
    - description: Whether the API server enforces it too, also when Trow is down.
      jsonPath: .status.conditions[?(@.type=="Compiled")].status
      name: Compiled
      type: string
    - description: Since when it exists.
      jsonPath: .metadata.creationTimestamp
      name: Age
      type: date
    name: v1alpha1
    schema:
      openAPIV3Schema:
        description: Says which images may run in the cluster. An image has to pass every policy that applies to its namespace, whether of the cluster or of the namespace.
        properties:
          apiVersion:
            description: policy.trow.io/v1alpha1
            type: string
          kind:
            description: ClusterImagePolicy
            type: string
          metadata:
            properties:
              name:
                maxLength: 63
                type: string
            type: object
          spec:
            description: Which images may run, and what happens to others.
            properties:
              controllers:
                default: warn
                description: How Deployments and other makers of Pods are answered, though only their Pods run. Never more strictly than mode says. ignore leaves them to their Pods. Jobs are answered as mode says, unless it is ignore.
                enum:
                - warn
                - enforce
                - ignore
                type: string
              default:
                description: What is done with images that no rule matches.
                enum:
                - Allow
                - Deny
                type: string
              exceptions:
                description: Images that the policy has nothing against, as long as this is here. Nobody has to approve it but those who write the policy. What rules deny by digest stays denied, unless an exception names that digest.
                items:
                  description: Some images, and why.
                  properties:
                    images:
                      description: The images meant, any of these.
                      items:
                        description: Images that are like this in every part. A part that is absent may be anything.
                        properties:
                          digest:
                            description: Exactly this content, sha256:... or sha512:... in lower case. Then there is no tag.
                            maxLength: 135
                            pattern: ^((sha256:|sha512:)?[0-9a-fA-F]*|[^s].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: 'write sha256: and all 64 digits behind it, or sha512: and 128, as the registry tells them'
                              rule: 'self.startsWith(''sha256:'') ? self.size() == 71 : self.startsWith(''sha512:'') && self.size() == 135'
                            - message: write it in lower case
                              rule: self.lowerAscii() == self
                          registry:
                            description: 'The registry''s host in lower case, with its port unless that is 443 or 80: registry.example.com, localhost:5000. A * stands for anything within one label: *.example.com has exactly one label more than example.com. * alone is every registry. An image without a host comes from docker.io.'
                            maxLength: 261
                            minLength: 1
                            pattern: ^(([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?(\.[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?)*|\[[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}\])(:(\*|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?|.*[A-Z/].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the host alone, without https:// in front, such as registry.example.com or registry.example.com:5000
                              rule: '!self.contains(''://'')'
                            - message: write the host alone, such as registry.example.com, and what follows it as repository
                              rule: self.contains('://') || !self.contains('/')
                            - message: write the host in lower case, such as registry.example.com
                              rule: self.lowerAscii() == self
                            - message: '** stands for components of a repository; in a registry, * stands for anything within one label'
                              rule: '!self.contains(''**'')'
                          repository:
                            default: '**'
                            description: 'The repository in lower case, without host and tag: team-a/app, library/nginx. A * stands for anything within one component. ** stands for any components, at the end for at least one: team-a/** is everything below team-a. In rules that allow, a component may be $namespace, that of the Pod: $namespace/** is everything below its name.'
                            maxLength: 255
                            minLength: 1
                            pattern: ^(([a-z0-9._*-]+|\$namespace)(/([a-z0-9._*-]+|\$namespace))*|.*[A-Z:@].*|/.*|.*/|.*//.*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the repository alone, such as team-a/app, and the host as registry, what is behind the colon as tag, and what is behind the @ as digest
                              rule: '!self.contains('':'') && !self.contains(''@'')'
                            - message: write it in lower case, such as team-a/app
                              rule: self.lowerAscii() == self
                            - message: write components with one slash between them, and none at the beginning or at the end, such as team-a/**
                              rule: '!self.startsWith(''/'') && !self.endsWith(''/'') && !self.contains(''//'')'
                            - message: '** stands for whole components; nothing but a slash may be before it, such as team-a/**'
                              rule: '!self.matches(r"[^/]\*\*")'
                            - message: '** stands for whole components; nothing but a slash may be after it, such as **/nginx'
                              rule: '!self.matches(r"\*\*[^/]")'
                          semver:
                            description: 'Tags that are versions in this range: >=1.2 <2, ^1.4, ~1.4.2, 1.x || 2.x. A tag is a version if it is three numbers, with or without a v in front. Then there is neither tag nor digest.'
                            maxLength: 100
                            minLength: 1
                            type: string
                            x-kubernetes-validations:
                            - message: write comparisons such as >=1.2 <2, ^1.4, ~1.4.2 or 1.x, and || between alternatives
                              rule: self.matches('^[0-9vxX*.<>=^~|, ]+$')
                          tag:
                            description: 'The tag, in which a * stands for anything: v1.*. Absent or * it is any tag and any digest. With any other tag, a rule that allows does not match an image that has a digest too, for then the digest alone says what runs. A rule that denies does.'
                            maxLength: 128
                            minLength: 1
                            pattern: ^([A-Za-z0-9_*][A-Za-z0-9._*-]*|.*[:@/<>].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the tag alone, such as v1.27 or v1.*; a digest has a field of its own
                              rule: '!self.contains('':'') && !self.contains(''@'') && !self.contains(''/'')'
                            - message: write a range of versions as semver, in place of tag
                              rule: '!self.contains(''<'') && !self.contains(''>'')'
                        required:
                        - registry
                        type: object
                        x-kubernetes-validations:
                        - message: write either tag or digest, for with a digest the tag decides nothing
                          rule: '!has(self.tag) || !has(self.digest)'
                        - message: write one of tag, semver and digest
                          rule: '!has(self.semver) || (!has(self.tag) && !has(self.digest))'
                      maxItems: 20
                      minItems: 1
                      type: array
                    name:
                      description: What the exception is called in messages and records. No other one of the policy has this name.
                      maxLength: 63
                      minLength: 1
                      type: string
                      x-kubernetes-validations:
                      - message: write lower-case letters, digits, - and ., with a letter or digit at both ends, such as our-registry
                        rule: self.matches(r'^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')
                    namespaces:
                      default:
                      - '*'
                      description: Where, by names of namespaces. A * stands for anything.
                      items:
                        description: A name, or a name with * in it.
                        maxLength: 63
                        type: string
                        x-kubernetes-validations:
                        - message: write the name of a namespace in lower case, in which * stands for anything, such as team-*
                          rule: self.matches(r'^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$')
                      maxItems: 50
                      minItems: 1
                      type: array
                      x-kubernetes-list-type: set
                    reason:
                      description: Why, for those who read the policy and the record.
                      maxLength: 1000
                      minLength: 10
                      type: string
                  required:
                  - name
                  - reason
                  - images
                  type: object
                  x-kubernetes-validations:
                  - message: $namespace is for rules that allow; an exception has its namespaces, so write one of them
                    rule: '!self.images.exists(i, i.repository.contains(''$namespace''))'
                maxItems: 20
                type: array
                x-kubernetes-list-map-keys:
                - name
                x-kubernetes-list-type: map
              mode:
                default: enforce
                description: What a refused image leads to. enforce refuses the object, warn lets it pass and tells who sent it, audit lets it pass and puts it on record only.
                enum:
                - enforce
                - warn
                - audit
                type: string
              mutate:
                description: What is changed in Pods before they are judged. Nothing, unless it is asked for.
                properties:
                  pinDigests:
                    description: A tag gets the digest that it has now, so that all Pods run the same image.
                    type: boolean
                  pullThrough:
                    description: An image of another registry gets the name under which this registry proxies it.
                    type: boolean
                type: object
              namespaceSelector:
                description: The same by labels of namespaces. Those that namespaces leaves over are judged if they are like this in every label. Whoever may update a Namespace may change its labels.
                properties:
                  matchExpressions:
                    description: Labels and what they may be.
                    items:
                      description: A label and what it may be.
                      properties:
                        key:
                          description: The label.
                          maxLength: 317
                          minLength: 1
                          type: string
                        operator:
                          description: How it is compared.
                          enum:
                          - In
                          - NotIn
                          - Exists
                          - DoesNotExist
                          type: string
                        values:
                          description: With what, for In and NotIn.
                          items:
                            description: A value.
                            maxLength: 63
                            type: string
                          maxItems: 100
                          type: array
                          x-kubernetes-list-type: atomic
                      required:
                      - key
                      - operator
                      type: object
                      x-kubernetes-validations:
                      - message: write values with In and NotIn, and none with Exists and DoesNotExist
                        rule: (self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)
                    maxItems: 20
                    type: array
                    x-kubernetes-list-type: atomic
                  matchLabels:
                    additionalProperties:
                      maxLength: 63
                      type: string
                    description: Labels and what they are.
                    maxProperties: 20
                    type: object
                type: object
                x-kubernetes-map-type: atomic
              namespaces:
                default: {}
                description: The namespaces whose images are judged. All, unless it says otherwise.
                properties:
                  exclude:
                    default: []
                    description: Those that are left out again, in the same way.
                    items:
                      description: A name, or a name with * in it.
                      maxLength: 63
                      type: string
                      x-kubernetes-validations:
                      - message: write the name of a namespace in lower case, in which * stands for anything, such as team-*
                        rule: self.matches(r'^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$')
                    maxItems: 100
                    type: array
                    x-kubernetes-list-type: set
                  include:
                    default:
                    - '*'
                    description: Names of namespaces. A * stands for anything, so team-* is team-a and team-b.
                    items:
                      description: A name, or a name with * in it.
                      maxLength: 63
                      type: string
                      x-kubernetes-validations:
                      - message: write the name of a namespace in lower case, in which * stands for anything, such as team-*
                        rule: self.matches(r'^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$')
                    maxItems: 100
                    minItems: 1
                    type: array
                    x-kubernetes-list-type: set
                type: object
              require:
                description: What is asked of every image that the rules, or default, allow.
                properties:
                  digest:
                    description: The image has to be written with a digest.
                    type: boolean
                  exists:
                    description: The image has to exist in this registry.
                    type: boolean
                  forbidPullPolicyNever:
                    description: imagePullPolicy must not be Never, which runs whatever lies on the node under that name.
                    type: boolean
                  imagePullPolicy:
                    description: Always has a node ask for the image each time, so that who may not pull it may not run it either.
                    enum:
                    - Always
                    type: string
                  maxAge:
                    description: How long ago the image may have been created, a number and one of s, m, h, d, w. 90d are 90 days.
                    maxLength: 6
                    type: string
                    x-kubernetes-validations:
                    - message: write a number and s, m, h, d or w, such as 90d
                      rule: self.matches(r'^[1-9][0-9]*[smhdw]$')
                  platforms:
                    description: The image has to be for one of these.
                    items:
                      description: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7.
                      maxLength: 64
                      type: string
                      x-kubernetes-validations:
                      - message: write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64
                        rule: self.matches(r'^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$')
                    maxItems: 20
                    minItems: 1
                    type: array
                    x-kubernetes-list-type: set
                type: object
              rules:
                description: Which images are allowed or denied, in any order. A rule that denies counts for more than all that allow.
                items:
                  description: Allows or denies some images.
                  properties:
                    action:
                      description: What is done with the images.
                      enum:
                      - Allow
                      - Deny
                      type: string
                    images:
                      description: The images meant, any of these.
                      items:
                        description: Images that are like this in every part. A part that is absent may be anything.
                        properties:
                          digest:
                            description: Exactly this content, sha256:... or sha512:... in lower case. Then there is no tag.
                            maxLength: 135
                            pattern: ^((sha256:|sha512:)?[0-9a-fA-F]*|[^s].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: 'write sha256: and all 64 digits behind it, or sha512: and 128, as the registry tells them'
                              rule: 'self.startsWith(''sha256:'') ? self.size() == 71 : self.startsWith(''sha512:'') && self.size() == 135'
                            - message: write it in lower case
                              rule: self.lowerAscii() == self
                          registry:
                            description: 'The registry''s host in lower case, with its port unless that is 443 or 80: registry.example.com, localhost:5000. A * stands for anything within one label: *.example.com has exactly one label more than example.com. * alone is every registry. An image without a host comes from docker.io.'
                            maxLength: 261
                            minLength: 1
                            pattern: ^(([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?(\.[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?)*|\[[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}\])(:(\*|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?|.*[A-Z/].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the host alone, without https:// in front, such as registry.example.com or registry.example.com:5000
                              rule: '!self.contains(''://'')'
                            - message: write the host alone, such as registry.example.com, and what follows it as repository
                              rule: self.contains('://') || !self.contains('/')
                            - message: write the host in lower case, such as registry.example.com
                              rule: self.lowerAscii() == self
                            - message: '** stands for components of a repository; in a registry, * stands for anything within one label'
                              rule: '!self.contains(''**'')'
                          repository:
                            default: '**'
                            description: 'The repository in lower case, without host and tag: team-a/app, library/nginx. A * stands for anything within one component. ** stands for any components, at the end for at least one: team-a/** is everything below team-a. In rules that allow, a component may be $namespace, that of the Pod: $namespace/** is everything below its name.'
                            maxLength: 255
                            minLength: 1
                            pattern: ^(([a-z0-9._*-]+|\$namespace)(/([a-z0-9._*-]+|\$namespace))*|.*[A-Z:@].*|/.*|.*/|.*//.*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the repository alone, such as team-a/app, and the host as registry, what is behind the colon as tag, and what is behind the @ as digest
                              rule: '!self.contains('':'') && !self.contains(''@'')'
                            - message: write it in lower case, such as team-a/app
                              rule: self.lowerAscii() == self
                            - message: write components with one slash between them, and none at the beginning or at the end, such as team-a/**
                              rule: '!self.startsWith(''/'') && !self.endsWith(''/'') && !self.contains(''//'')'
                            - message: '** stands for whole components; nothing but a slash may be before it, such as team-a/**'
                              rule: '!self.matches(r"[^/]\*\*")'
                            - message: '** stands for whole components; nothing but a slash may be after it, such as **/nginx'
                              rule: '!self.matches(r"\*\*[^/]")'
                          semver:
                            description: 'Tags that are versions in this range: >=1.2 <2, ^1.4, ~1.4.2, 1.x || 2.x. A tag is a version if it is three numbers, with or without a v in front. Then there is neither tag nor digest.'
                            maxLength: 100
                            minLength: 1
                            type: string
                            x-kubernetes-validations:
                            - message: write comparisons such as >=1.2 <2, ^1.4, ~1.4.2 or 1.x, and || between alternatives
                              rule: self.matches('^[0-9vxX*.<>=^~|, ]+$')
                          tag:
                            description: 'The tag, in which a * stands for anything: v1.*. Absent or * it is any tag and any digest. With any other tag, a rule that allows does not match an image that has a digest too, for then the digest alone says what runs. A rule that denies does.'
                            maxLength: 128
                            minLength: 1
                            pattern: ^([A-Za-z0-9_*][A-Za-z0-9._*-]*|.*[:@/<>].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the tag alone, such as v1.27 or v1.*; a digest has a field of its own
                              rule: '!self.contains('':'') && !self.contains(''@'') && !self.contains(''/'')'
                            - message: write a range of versions as semver, in place of tag
                              rule: '!self.contains(''<'') && !self.contains(''>'')'
                        required:
                        - registry
                        type: object
                        x-kubernetes-validations:
                        - message: write either tag or digest, for with a digest the tag decides nothing
                          rule: '!has(self.tag) || !has(self.digest)'
                        - message: write one of tag, semver and digest
                          rule: '!has(self.semver) || (!has(self.tag) && !has(self.digest))'
                      maxItems: 40
                      minItems: 1
                      type: array
                    name:
                      description: What the rule is called in messages and records. No other rule of the policy has this name.
                      maxLength: 63
                      minLength: 1
                      type: string
                      x-kubernetes-validations:
                      - message: write lower-case letters, digits, - and ., with a letter or digit at both ends, such as our-registry
                        rule: self.matches(r'^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')
                    usedBy:
                      description: What uses the images, by the fields of a Pod. Whatever does, unless it is said. Where that is not known, as when an image is pulled, a rule that allows is about none, and one that denies about all.
                      items:
                        description: A field of a Pod's specification.
                        enum:
                        - containers
                        - initContainers
                        - ephemeralContainers
                        - volumes
                        type: string
                      maxItems: 4
                      minItems: 1
                      type: array
                      x-kubernetes-list-type: set
                  required:
                  - name
                  - action
                  - images
                  type: object
                  x-kubernetes-validations:
                  - message: '$namespace is for rules that allow: where the namespace is not known, as when a node pulls, such a rule would have to deny either nothing or everybody''s; write default: Deny and a rule that allows'
                    rule: self.action == 'Allow' || !self.images.exists(i, i.repository.contains('$namespace'))
                maxItems: 1000
                type: array
                x-kubernetes-list-map-keys:
                - name
                x-kubernetes-list-type: map
            required:
            - default
            type: object
          status:
            description: What Trow has made of the policy.
            properties:
              conditions:
                description: Ready says whether the policy is in force, Compiled whether the API server enforces it too when Trow is down.
                items:
                  description: One condition, as all Kubernetes objects have them.
                  properties:
                    lastTransitionTime:
                      description: When the status last changed.
                      format: date-time
                      type: string
                    message:
                      description: The same in words, with what to do about it.
                      maxLength: 32768
                      type: string
                    observedGeneration:
                      description: The metadata.generation that the condition is about.
                      format: int64
                      minimum: 0
                      type: integer
                    reason:
                      description: Why, in one word.
                      maxLength: 1024
                      minLength: 1
                      pattern: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
                      type: string
                    status:
                      description: Whether it holds.
                      enum:
                      - 'True'
                      - 'False'
                      - Unknown
                      type: string
                    type:
                      description: Ready or Compiled.
                      maxLength: 316
                      pattern: ^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$
                      type: string
                  required:
                  - type
                  - status
                  - lastTransitionTime
                  - reason
                  - message
                  type: object
                maxItems: 8
                type: array
                x-kubernetes-list-map-keys:
                - type
                x-kubernetes-list-type: map
              observedGeneration:
                description: The metadata.generation that Trow has seen last.
                format: int64
                minimum: 0
                type: integer
            type: object
        required:
        - spec
        type: object
    served: true
    storage: true
    subresources:
      status: {}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: imagepolicies.policy.trow.io
spec:
  group: policy.trow.io
  names:
    categories:
    - trow
    kind: ImagePolicy
    listKind: ImagePolicyList
    plural: imagepolicies
    shortNames:
    - imgpol
    singular: imagepolicy
  scope: Namespaced
  versions:
  - additionalPrinterColumns:
    - description: What a refused image leads to.
      jsonPath: .spec.mode
      name: Mode
      type: string
    - description: What is done with images that no rule matches.
      jsonPath: .spec.default
      name: Default
      type: string
    - description: Whether the policy is in force.
      jsonPath: .status.conditions[?(@.type=="Ready")].status
      name: Ready
      type: string
    - description: Whether the API server enforces it too, also when Trow is down.
      jsonPath: .status.conditions[?(@.type=="Compiled")].status
      name: Compiled
      type: string
    - description: Since when it exists.
      jsonPath: .metadata.creationTimestamp
      name: Age
      type: date
    name: v1alpha1
    schema:
      openAPIV3Schema:
        description: Says which images may run in this namespace. An image has to pass the policies of the cluster too, so that this one can only forbid more.
        properties:
          apiVersion:
            description: policy.trow.io/v1alpha1
            type: string
          kind:
            description: ImagePolicy
            type: string
          metadata:
            properties:
              name:
                maxLength: 63
                type: string
            type: object
          spec:
            description: Which images may run, and what happens to others.
            properties:
              controllers:
                default: warn
                description: How Deployments and other makers of Pods are answered, though only their Pods run. Never more strictly than mode says. ignore leaves them to their Pods. Jobs are answered as mode says, unless it is ignore.
                enum:
                - warn
                - enforce
                - ignore
                type: string
              default:
                description: What is done with images that no rule matches.
                enum:
                - Allow
                - Deny
                type: string
              exceptions:
                description: Images that the policy has nothing against, as long as this is here. Nobody has to approve it but those who write the policy. What rules deny by digest stays denied, unless an exception names that digest.
                items:
                  description: Some images, and why.
                  properties:
                    images:
                      description: The images meant, any of these.
                      items:
                        description: Images that are like this in every part. A part that is absent may be anything.
                        properties:
                          digest:
                            description: Exactly this content, sha256:... or sha512:... in lower case. Then there is no tag.
                            maxLength: 135
                            pattern: ^((sha256:|sha512:)?[0-9a-fA-F]*|[^s].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: 'write sha256: and all 64 digits behind it, or sha512: and 128, as the registry tells them'
                              rule: 'self.startsWith(''sha256:'') ? self.size() == 71 : self.startsWith(''sha512:'') && self.size() == 135'
                            - message: write it in lower case
                              rule: self.lowerAscii() == self
                          registry:
                            description: 'The registry''s host in lower case, with its port unless that is 443 or 80: registry.example.com, localhost:5000. A * stands for anything within one label: *.example.com has exactly one label more than example.com. * alone is every registry. An image without a host comes from docker.io.'
                            maxLength: 261
                            minLength: 1
                            pattern: ^(([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?(\.[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?)*|\[[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}\])(:(\*|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?|.*[A-Z/].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the host alone, without https:// in front, such as registry.example.com or registry.example.com:5000
                              rule: '!self.contains(''://'')'
                            - message: write the host alone, such as registry.example.com, and what follows it as repository
                              rule: self.contains('://') || !self.contains('/')
                            - message: write the host in lower case, such as registry.example.com
                              rule: self.lowerAscii() == self
                            - message: '** stands for components of a repository; in a registry, * stands for anything within one label'
                              rule: '!self.contains(''**'')'
                          repository:
                            default: '**'
                            description: 'The repository in lower case, without host and tag: team-a/app, library/nginx. A * stands for anything within one component. ** stands for any components, at the end for at least one: team-a/** is everything below team-a. In rules that allow, a component may be $namespace, that of the Pod: $namespace/** is everything below its name.'
                            maxLength: 255
                            minLength: 1
                            pattern: ^(([a-z0-9._*-]+|\$namespace)(/([a-z0-9._*-]+|\$namespace))*|.*[A-Z:@].*|/.*|.*/|.*//.*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the repository alone, such as team-a/app, and the host as registry, what is behind the colon as tag, and what is behind the @ as digest
                              rule: '!self.contains('':'') && !self.contains(''@'')'
                            - message: write it in lower case, such as team-a/app
                              rule: self.lowerAscii() == self
                            - message: write components with one slash between them, and none at the beginning or at the end, such as team-a/**
                              rule: '!self.startsWith(''/'') && !self.endsWith(''/'') && !self.contains(''//'')'
                            - message: '** stands for whole components; nothing but a slash may be before it, such as team-a/**'
                              rule: '!self.matches(r"[^/]\*\*")'
                            - message: '** stands for whole components; nothing but a slash may be after it, such as **/nginx'
                              rule: '!self.matches(r"\*\*[^/]")'
                          semver:
                            description: 'Tags that are versions in this range: >=1.2 <2, ^1.4, ~1.4.2, 1.x || 2.x. A tag is a version if it is three numbers, with or without a v in front. Then there is neither tag nor digest.'
                            maxLength: 100
                            minLength: 1
                            type: string
                            x-kubernetes-validations:
                            - message: write comparisons such as >=1.2 <2, ^1.4, ~1.4.2 or 1.x, and || between alternatives
                              rule: self.matches('^[0-9vxX*.<>=^~|, ]+$')
                          tag:
                            description: 'The tag, in which a * stands for anything: v1.*. Absent or * it is any tag and any digest. With any other tag, a rule that allows does not match an image that has a digest too, for then the digest alone says what runs. A rule that denies does.'
                            maxLength: 128
                            minLength: 1
                            pattern: ^([A-Za-z0-9_*][A-Za-z0-9._*-]*|.*[:@/<>].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the tag alone, such as v1.27 or v1.*; a digest has a field of its own
                              rule: '!self.contains('':'') && !self.contains(''@'') && !self.contains(''/'')'
                            - message: write a range of versions as semver, in place of tag
                              rule: '!self.contains(''<'') && !self.contains(''>'')'
                        required:
                        - registry
                        type: object
                        x-kubernetes-validations:
                        - message: write either tag or digest, for with a digest the tag decides nothing
                          rule: '!has(self.tag) || !has(self.digest)'
                        - message: write one of tag, semver and digest
                          rule: '!has(self.semver) || (!has(self.tag) && !has(self.digest))'
                      maxItems: 20
                      minItems: 1
                      type: array
                    name:
                      description: What the exception is called in messages and records. No other one of the policy has this name.
                      maxLength: 63
                      minLength: 1
                      type: string
                      x-kubernetes-validations:
                      - message: write lower-case letters, digits, - and ., with a letter or digit at both ends, such as our-registry
                        rule: self.matches(r'^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')
                    reason:
                      description: Why, for those who read the policy and the record.
                      maxLength: 1000
                      minLength: 10
                      type: string
                  required:
                  - name
                  - reason
                  - images
                  type: object
                  x-kubernetes-validations:
                  - message: $namespace is for rules that allow; an exception has its namespaces, so write one of them
                    rule: '!self.images.exists(i, i.repository.contains(''$namespace''))'
                maxItems: 20
                type: array
                x-kubernetes-list-map-keys:
                - name
                x-kubernetes-list-type: map
              mode:
                default: enforce
                description: What a refused image leads to. enforce refuses the object, warn lets it pass and tells who sent it, audit lets it pass and puts it on record only.
                enum:
                - enforce
                - warn
                - audit
                type: string
              mutate:
                description: What is changed in Pods before they are judged. Nothing, unless it is asked for.
                properties:
                  pinDigests:
                    description: A tag gets the digest that it has now, so that all Pods run the same image.
                    type: boolean
                  pullThrough:
                    description: An image of another registry gets the name under which this registry proxies it.
                    type: boolean
                type: object
              require:
                description: What is asked of every image that the rules, or default, allow.
                properties:
                  digest:
                    description: The image has to be written with a digest.
                    type: boolean
                  exists:
                    description: The image has to exist in this registry.
                    type: boolean
                  forbidPullPolicyNever:
                    description: imagePullPolicy must not be Never, which runs whatever lies on the node under that name.
                    type: boolean
                  imagePullPolicy:
                    description: Always has a node ask for the image each time, so that who may not pull it may not run it either.
                    enum:
                    - Always
                    type: string
                  maxAge:
                    description: How long ago the image may have been created, a number and one of s, m, h, d, w. 90d are 90 days.
                    maxLength: 6
                    type: string
                    x-kubernetes-validations:
                    - message: write a number and s, m, h, d or w, such as 90d
                      rule: self.matches(r'^[1-9][0-9]*[smhdw]$')
                  platforms:
                    description: The image has to be for one of these.
                    items:
                      description: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7.
                      maxLength: 64
                      type: string
                      x-kubernetes-validations:
                      - message: write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64
                        rule: self.matches(r'^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$')
                    maxItems: 20
                    minItems: 1
                    type: array
                    x-kubernetes-list-type: set
                type: object
              rules:
                description: Which images are allowed or denied, in any order. A rule that denies counts for more than all that allow.
                items:
                  description: Allows or denies some images.
                  properties:
                    action:
                      description: What is done with the images.
                      enum:
                      - Allow
                      - Deny
                      type: string
                    images:
                      description: The images meant, any of these.
                      items:
                        description: Images that are like this in every part. A part that is absent may be anything.
                        properties:
                          digest:
                            description: Exactly this content, sha256:... or sha512:... in lower case. Then there is no tag.
                            maxLength: 135
                            pattern: ^((sha256:|sha512:)?[0-9a-fA-F]*|[^s].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: 'write sha256: and all 64 digits behind it, or sha512: and 128, as the registry tells them'
                              rule: 'self.startsWith(''sha256:'') ? self.size() == 71 : self.startsWith(''sha512:'') && self.size() == 135'
                            - message: write it in lower case
                              rule: self.lowerAscii() == self
                          registry:
                            description: 'The registry''s host in lower case, with its port unless that is 443 or 80: registry.example.com, localhost:5000. A * stands for anything within one label: *.example.com has exactly one label more than example.com. * alone is every registry. An image without a host comes from docker.io.'
                            maxLength: 261
                            minLength: 1
                            pattern: ^(([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?(\.[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?)*|\[[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}\])(:(\*|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?|.*[A-Z/].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the host alone, without https:// in front, such as registry.example.com or registry.example.com:5000
                              rule: '!self.contains(''://'')'
                            - message: write the host alone, such as registry.example.com, and what follows it as repository
                              rule: self.contains('://') || !self.contains('/')
                            - message: write the host in lower case, such as registry.example.com
                              rule: self.lowerAscii() == self
                            - message: '** stands for components of a repository; in a registry, * stands for anything within one label'
                              rule: '!self.contains(''**'')'
                          repository:
                            default: '**'
                            description: 'The repository in lower case, without host and tag: team-a/app, library/nginx. A * stands for anything within one component. ** stands for any components, at the end for at least one: team-a/** is everything below team-a. In rules that allow, a component may be $namespace, that of the Pod: $namespace/** is everything below its name.'
                            maxLength: 255
                            minLength: 1
                            pattern: ^(([a-z0-9._*-]+|\$namespace)(/([a-z0-9._*-]+|\$namespace))*|.*[A-Z:@].*|/.*|.*/|.*//.*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the repository alone, such as team-a/app, and the host as registry, what is behind the colon as tag, and what is behind the @ as digest
                              rule: '!self.contains('':'') && !self.contains(''@'')'
                            - message: write it in lower case, such as team-a/app
                              rule: self.lowerAscii() == self
                            - message: write components with one slash between them, and none at the beginning or at the end, such as team-a/**
                              rule: '!self.startsWith(''/'') && !self.endsWith(''/'') && !self.contains(''//'')'
                            - message: '** stands for whole components; nothing but a slash may be before it, such as team-a/**'
                              rule: '!self.matches(r"[^/]\*\*")'
                            - message: '** stands for whole components; nothing but a slash may be after it, such as **/nginx'
                              rule: '!self.matches(r"\*\*[^/]")'
                          semver:
                            description: 'Tags that are versions in this range: >=1.2 <2, ^1.4, ~1.4.2, 1.x || 2.x. A tag is a version if it is three numbers, with or without a v in front. Then there is neither tag nor digest.'
                            maxLength: 100
                            minLength: 1
                            type: string
                            x-kubernetes-validations:
                            - message: write comparisons such as >=1.2 <2, ^1.4, ~1.4.2 or 1.x, and || between alternatives
                              rule: self.matches('^[0-9vxX*.<>=^~|, ]+$')
                          tag:
                            description: 'The tag, in which a * stands for anything: v1.*. Absent or * it is any tag and any digest. With any other tag, a rule that allows does not match an image that has a digest too, for then the digest alone says what runs. A rule that denies does.'
                            maxLength: 128
                            minLength: 1
                            pattern: ^([A-Za-z0-9_*][A-Za-z0-9._*-]*|.*[:@/<>].*)$
                            type: string
                            x-kubernetes-validations:
                            - message: write the tag alone, such as v1.27 or v1.*; a digest has a field of its own
                              rule: '!self.contains('':'') && !self.contains(''@'') && !self.contains(''/'')'
                            - message: write a range of versions as semver, in place of tag
                              rule: '!self.contains(''<'') && !self.contains(''>'')'
                        required:
                        - registry
                        type: object
                        x-kubernetes-validations:
                        - message: write either tag or digest, for with a digest the tag decides nothing
                          rule: '!has(self.tag) || !has(self.digest)'
                        - message: write one of tag, semver and digest
                          rule: '!has(self.semver) || (!has(self.tag) && !has(self.digest))'
                      maxItems: 40
                      minItems: 1
                      type: array
                    name:
                      description: What the rule is called in messages and records. No other rule of the policy has this name.
                      maxLength: 63
                      minLength: 1
                      type: string
                      x-kubernetes-validations:
                      - message: write lower-case letters, digits, - and ., with a letter or digit at both ends, such as our-registry
                        rule: self.matches(r'^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')
                    usedBy:
                      description: What uses the images, by the fields of a Pod. Whatever does, unless it is said. Where that is not known, as when an image is pulled, a rule that allows is about none, and one that denies about all.
                      items:
                        description: A field of a Pod's specification.
                        enum:
                        - containers
                        - initContainers
                        - ephemeralContainers
                        - volumes
                        type: string
                      maxItems: 4
                      minItems: 1
                      type: array
                      x-kubernetes-list-type: set
                  required:
                  - name
                  - action
                  - images
                  type: object
                  x-kubernetes-validations:
                  - message: '$namespace is for rules that allow: where the namespace is not known, as when a node pulls, such a rule would have to deny either nothing or everybody''s; write default: Deny and a rule that allows'
                    rule: self.action == 'Allow' || !self.images.exists(i, i.repository.contains('$namespace'))
                maxItems: 1000
                type: array
                x-kubernetes-list-map-keys:
                - name
                x-kubernetes-list-type: map
            required:
            - default
            type: object
          status:
            description: What Trow has made of the policy.
            properties:
              conditions:
                description: Ready says whether the policy is in force, Compiled whether the API server enforces it too when Trow is down.
                items:
                  description: One condition, as all Kubernetes objects have them.
                  properties:
                    lastTransitionTime:
                      description: When the status last changed.
                      format: date-time
                      type: string
                    message:
                      description: The same in words, with what to do about it.
                      maxLength: 32768
                      type: string
                    observedGeneration:
                      description: The metadata.generation that the condition is about.
                      format: int64
                      minimum: 0
                      type: integer
                    reason:
                      description: Why, in one word.
                      maxLength: 1024
                      minLength: 1
                      pattern: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
                      type: string
                    status:
                      description: Whether it holds.
                      enum:
                      - 'True'
                      - 'False'
                      - Unknown
                      type: string
                    type:
                      description: Ready or Compiled.
                      maxLength: 316
                      pattern: ^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$
                      type: string
                  required:
                  - type
                  - status
                  - lastTransitionTime
                  - reason
                  - message
                  type: object
                maxItems: 8
                type: array
                x-kubernetes-list-map-keys:
                - type
                x-kubernetes-list-type: map
              observedGeneration:
                description: The metadata.generation that Trow has seen last.
                format: int64
                minimum: 0
                type: integer
            type: object
        required:
        - spec
        type: object
    served: true
    storage: true
    subresources:
      status: {}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: policyexceptions.policy.trow.io
spec:
  group: policy.trow.io
  names:
    categories:
    - trow
    kind: PolicyException
    listKind: PolicyExceptionList
    plural: policyexceptions
    shortNames:
    - imgex
    singular: policyexception
  scope: Cluster
  versions:
  - additionalPrinterColumns:
    - description: Who asks for it.
      jsonPath: .spec.requester
      name: Requester
      type: string
    - description: Who has approved it.
      jsonPath: .spec.approver
      name: Approver
      type: string
    - description: Whether it is in force.
      jsonPath: .status.conditions[?(@.type=="Active")].status
      name: Active
      type: string
    - description: Why it is in force or not.
      jsonPath: .status.conditions[?(@.type=="Active")].reason
      name: Reason
      priority: 1
      type: string
    - description: When it ends.
      jsonPath: .status.expiresAt
      name: Expires
      type: string
    - description: Since when it exists.
      jsonPath: .metadata.creationTimestamp
      name: Age
      type: date
    name: v1alpha1
    schema:
      openAPIV3Schema:
        description: Breaks policies for some images for some hours. One user asks for it, another approves it, and it ends by itself.
        properties:
          apiVersion:
            description: policy.trow.io/v1alpha1
            type: string
          kind:
            description: PolicyException
            type: string
          metadata:
            properties:
              name:
                maxLength: 63
                type: string
            type: object
          spec:
            description: Who asks, why, for how long and for what. Nothing but the approver can be changed.
            properties:
              approver:
                default: ''
                description: Empty at first. Another user writes their own name here, and the exception is in force. It is not taken back; a cluster administrator can delete the exception before it ends.
                maxLength: 1024
                type: string
                x-kubernetes-validations:
                - message: an approval is not taken back; a cluster administrator can delete the exception
                  rule: oldSelf == '' || self == oldSelf
              duration:
                description: How long it is in force, counted from metadata.creationTimestamp and not from the approval. Hours, minutes and seconds, such as 4h, 1h30m or 90s; at most 24h.
                maxLength: 15
                minLength: 2
                type: string
                x-kubernetes-validations:
                - message: has to be such as 4h or 1h30m, more than 0s and at most 24h
                  rule: self.matches(r'^([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?$') && duration(self) > duration('0s') && duration(self) <= duration('24h')
                - message: cannot be changed, for it is what somebody approves; make another exception
                  rule: self == oldSelf
              images:
                description: The images that are allowed though the policies refuse them, any of these.
                items:
                  description: Images that are like this in every part. A part that is absent may be anything.
                  properties:
                    digest:
                      description: Exactly this content, sha256:... or sha512:... in lower case. Then there is no tag.
                      maxLength: 135
                      pattern: ^((sha256:|sha512:)?[0-9a-fA-F]*|[^s].*)$
                      type: string
                      x-kubernetes-validations:
                      - message: 'write sha256: and all 64 digits behind it, or sha512: and 128, as the registry tells them'
                        rule: 'self.startsWith(''sha256:'') ? self.size() == 71 : self.startsWith(''sha512:'') && self.size() == 135'
                      - message: write it in lower case
                        rule: self.lowerAscii() == self
                    registry:
                      description: 'The registry''s host in lower case, with its port unless that is 443 or 80: registry.example.com, localhost:5000. A * stands for anything within one label: *.example.com has exactly one label more than example.com. * alone is every registry. An image without a host comes from docker.io.'
                      maxLength: 261
                      minLength: 1
                      pattern: ^(([a-z0-9*]([a-z0-9*-]*[a-z0-9*])?(\.[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?)*|\[[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}\])(:(\*|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?|.*[A-Z/].*)$
                      type: string
                      x-kubernetes-validations:
                      - message: write the host alone, without https:// in front, such as registry.example.com or registry.example.com:5000
                        rule: '!self.contains(''://'')'
                      - message: write the host alone, such as registry.example.com, and what follows it as repository
                        rule: self.contains('://') || !self.contains('/')
                      - message: write the host in lower case, such as registry.example.com
                        rule: self.lowerAscii() == self
                      - message: '** stands for components of a repository; in a registry, * stands for anything within one label'
                        rule: '!self.contains(''**'')'
                    repository:
                      default: '**'
                      description: 'The repository in lower case, without host and tag: team-a/app, library/nginx. A * stands for anything within one component. ** stands for any components, at the end for at least one: team-a/** is everything below team-a. In rules that allow, a component may be $namespace, that of the Pod: $namespace/** is everything below its name.'
                      maxLength: 255
                      minLength: 1
                      pattern: ^(([a-z0-9._*-]+|\$namespace)(/([a-z0-9._*-]+|\$namespace))*|.*[A-Z:@].*|/.*|.*/|.*//.*)$
                      type: string
                      x-kubernetes-validations:
                      - message: write the repository alone, such as team-a/app, and the host as registry, what is behind the colon as tag, and what is behind the @ as digest
                        rule: '!self.contains('':'') && !self.contains(''@'')'
                      - message: write it in lower case, such as team-a/app
                        rule: self.lowerAscii() == self
                      - message: write components with one slash between them, and none at the beginning or at the end, such as team-a/**
                        rule: '!self.startsWith(''/'') && !self.endsWith(''/'') && !self.contains(''//'')'
                      - message: '** stands for whole components; nothing but a slash may be before it, such as team-a/**'
                        rule: '!self.matches(r"[^/]\*\*")'
                      - message: '** stands for whole components; nothing but a slash may be after it, such as **/nginx'
                        rule: '!self.matches(r"\*\*[^/]")'
                    semver:
                      description: 'Tags that are versions in this range: >=1.2 <2, ^1.4, ~1.4.2, 1.x || 2.x. A tag is a version if it is three numbers, with or without a v in front. Then there is neither tag nor digest.'
                      maxLength: 100
                      minLength: 1
                      type: string
                      x-kubernetes-validations:
                      - message: write comparisons such as >=1.2 <2, ^1.4, ~1.4.2 or 1.x, and || between alternatives
                        rule: self.matches('^[0-9vxX*.<>=^~|, ]+$')
                    tag:
                      description: 'The tag, in which a * stands for anything: v1.*. Absent or * it is any tag and any digest. With any other tag, a rule that allows does not match an image that has a digest too, for then the digest alone says what runs. A rule that denies does.'
                      maxLength: 128
                      minLength: 1
                      pattern: ^([A-Za-z0-9_*][A-Za-z0-9._*-]*|.*[:@/<>].*)$
                      type: string
                      x-kubernetes-validations:
                      - message: write the tag alone, such as v1.27 or v1.*; a digest has a field of its own
                        rule: '!self.contains('':'') && !self.contains(''@'') && !self.contains(''/'')'
                      - message: write a range of versions as semver, in place of tag
                        rule: '!self.contains(''<'') && !self.contains(''>'')'
                  required:
                  - registry
                  type: object
                  x-kubernetes-validations:
                  - message: write either tag or digest, for with a digest the tag decides nothing
                    rule: '!has(self.tag) || !has(self.digest)'
                  - message: write one of tag, semver and digest
                    rule: '!has(self.semver) || (!has(self.tag) && !has(self.digest))'
                maxItems: 50
                minItems: 1
                type: array
                x-kubernetes-validations:
                - message: $namespace is for rules that allow; an exception has its namespaces, so write one of them
                  rule: '!self.exists(i, i.repository.contains(''$namespace''))'
                - message: cannot be changed, for it is what somebody approves; make another exception
                  rule: self == oldSelf
              namespaces:
                description: The namespaces it is about, by their exact names.
                items:
                  description: A name.
                  maxLength: 63
                  type: string
                  x-kubernetes-validations:
                  - message: write the exact name of a namespace, such as team-a
                    rule: self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')
                maxItems: 50
                minItems: 1
                type: array
                x-kubernetes-list-type: set
                x-kubernetes-validations:
                - message: cannot be changed, for it is what somebody approves; make another exception
                  rule: self == oldSelf
              policies:
                description: 'The policies that are broken: ClusterImagePolicy/NAME, ImagePolicy/NAME of each of the namespaces, or image_validation, that of the configuration file.'
                items:
                  description: A policy by kind and name.
                  maxLength: 82
                  type: string
                  x-kubernetes-validations:
                  - message: write ClusterImagePolicy/NAME, ImagePolicy/NAME or image_validation
                    rule: self.matches(r'^((Cluster)?ImagePolicy/[a-z0-9]([-a-z0-9.]*[a-z0-9])?|image_validation)$')
                maxItems: 50
                minItems: 1
                type: array
                x-kubernetes-list-type: set
                x-kubernetes-validations:
                - message: cannot be changed, for it is what somebody approves; make another exception
                  rule: self == oldSelf
              reason:
                description: Why the policies have to be broken, for those who approve it and those who read the record.
                maxLength: 1000
                minLength: 10
                type: string
                x-kubernetes-validations:
                - message: say why, in at least 10 characters
                  rule: self.trim().size() >= 10
                - message: cannot be changed, for it is what somebody approves; make another exception
                  rule: self == oldSelf
              requester:
                description: The name of the user who creates the exception, as the API server knows it (kubectl auth whoami).
                maxLength: 1024
                minLength: 1
                type: string
                x-kubernetes-validations:
                - message: cannot be changed, for it is what somebody approves; make another exception
                  rule: self == oldSelf
            required:
            - reason
            - requester
            - duration
            - namespaces
            - policies
            - images
            type: object
            x-kubernetes-validations:
            - fieldPath: .approver
              message: has to be somebody else than the requester
              rule: self.approver != self.requester
          status:
            description: Whether the exception is in force. Trow decides by spec and metadata, never by this.
            properties:
              conditions:
                description: Active says whether the exception is in force.
                items:
                  description: One condition, as all Kubernetes objects have them.
                  properties:
                    lastTransitionTime:
                      description: When the status last changed.
                      format: date-time
                      type: string
                    message:
                      description: The same in words, with what to do about it.
                      maxLength: 32768
                      type: string
                    observedGeneration:
                      description: The metadata.generation that the condition is about.
                      format: int64
                      minimum: 0
                      type: integer
                    reason:
                      description: WaitingForApproval, Active, Expired or Invalid.
                      maxLength: 1024
                      minLength: 1
                      pattern: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
                      type: string
                    status:
                      description: Whether it holds.
                      enum:
                      - 'True'
                      - 'False'
                      - Unknown
                      type: string
                    type:
                      description: Active.
                      maxLength: 316
                      pattern: ^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$
                      type: string
                  required:
                  - type
                  - status
                  - lastTransitionTime
                  - reason
                  - message
                  type: object
                maxItems: 8
                type: array
                x-kubernetes-list-map-keys:
                - type
                x-kubernetes-list-type: map
              expiresAt:
                description: When the exception ends.
                format: date-time
                type: string
              observedGeneration:
                description: The metadata.generation that Trow has seen last.
                format: int64
                minimum: 0
                type: integer
            type: object
        required:
        - spec
        type: object
    served: true
    storage: true
    subresources:
      status: {}
END_OF_OBJECTS
}
settings_template() {
  cat <<'END_OF_OBJECTS'
apiVersion: v1
data:
  trow.yaml: |
    access:
      rules:
      - actions:
        - pull
        anonymous: true
        repositories:
        - '@NAMESPACE@/pull-check'
    admission:
      bind: '[::]:8443'
      excluded_namespaces:
      - kube-system
      - '@NAMESPACE@'
      owner: trow-admission
      policies: true
      registries:
      - '@HOST@'
      - trow.@NAMESPACE@.svc
      secret: trow-webhook
      service: '@NAMESPACE@/trow-webhooks:8443'
      webhooks: trow
    auth:
      anonymous: '@ANONYMOUS@'
      password_file: /etc/trow/admin/password
      user: admin
    data_dir: /var/lib/trow/data
    kubernetes:
      audiences:
      - '@HOST@'
      - trow.@NAMESPACE@.svc
      authorization: true
    listen:
      bind:
      - '[::]:8000'
      probes: '[::]:9090'
      public_url: http://@HOST@
    log:
      format: json
    registry:
      pull_check: '@NAMESPACE@/pull-check'
kind: ConfigMap
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-config-@SETTINGS@
  namespace: '@NAMESPACE@'
END_OF_OBJECTS
}
hosting_template() {
  cat <<'END_OF_OBJECTS'
apiVersion: v1
data:
  localRegistryHosting.v1: |
    host: "@HOST@"
    hostFromClusterNetwork: "trow.@NAMESPACE@.svc:80"
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
  labels:
    app.kubernetes.io/managed-by: trow-quick-install
END_OF_OBJECTS
}
agent_template() {
  cat <<'END_OF_OBJECTS'
apiVersion: v1
automountServiceAccountToken: false
kind: ServiceAccount
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-pull-check
  namespace: '@NAMESPACE@'
rules:
- apiGroups:
  - registry.trow.io
  resourceNames:
  - pull-check
  resources:
  - repositories/content
  verbs:
  - get
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-node-audience
rules:
- apiGroups:
  - ''
  resources:
  - '@HOST@'
  verbs:
  - request-serviceaccounts-token-audience
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-pull-check
  namespace: '@NAMESPACE@'
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: trow-pull-check
subjects:
- kind: ServiceAccount
  name: trow-nodes
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-node-audience
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: trow-node-audience
subjects:
- apiGroup: rbac.authorization.k8s.io
  kind: Group
  name: system:nodes
---
apiVersion: v1
data:
  credentialProvider: '@PRIVATE@'
  endpoint: http://$(NODE_IP):@NODE_PORT@
  hosts: |
    @HOST@
    trow.@NAMESPACE@.svc
  restartKubelet: 'false'
kind: ConfigMap
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
  namespace: '@NAMESPACE@'
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
  namespace: '@NAMESPACE@'
spec:
  selector:
    matchLabels:
      app.kubernetes.io/instance: trow
      app.kubernetes.io/name: trow-nodes
  template:
    metadata:
      annotations:
        kubectl.kubernetes.io/default-container: agent
      labels:
        app.kubernetes.io/component: node-agent
        app.kubernetes.io/instance: trow
        app.kubernetes.io/name: trow-nodes
    spec:
      automountServiceAccountToken: false
      containers:
      - args:
        - watch
        env:
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        - name: NODE_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: SERVICE_HOST
          value: $(TROW_SERVICE_HOST)
        image: '@AGENT@'
        imagePullPolicy: '@AGENT_POLICY@'
        name: agent
        resources:
          limits:
            memory: 128Mi
          requests:
            cpu: 5m
            memory: 16Mi
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            add:
            - SYS_CHROOT
            drop:
            - ALL
          readOnlyRootFilesystem: true
          runAsUser: 0
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
        - mountPath: /etc/trow/nodes
          name: settings
          readOnly: true
        - mountPath: /tmp
          name: tmp
        - mountPath: /host
          name: host
          readOnly: true
          recursiveReadOnly: IfPossible
        - mountPath: /host/etc/containerd/certs.d
          name: host-0
        - mountPath: /host/etc/kubernetes/image-credential-provider
          name: host-1
      - image: '@HOST@/@NAMESPACE@/pull-check:1'
        imagePullPolicy: Always
        name: pull-check
        resources:
          limits:
            memory: 16Mi
          requests:
            cpu: 1m
            memory: 1Mi
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            drop:
            - ALL
          readOnlyRootFilesystem: true
          runAsNonRoot: true
          runAsUser: 65532
      initContainers:
      - args:
        - apply
        env:
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        - name: NODE_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: SERVICE_HOST
          value: $(TROW_SERVICE_HOST)
        image: '@AGENT@'
        imagePullPolicy: '@AGENT_POLICY@'
        name: set-up
        resources:
          limits:
            memory: 128Mi
          requests:
            cpu: 5m
            memory: 16Mi
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            add:
            - SYS_CHROOT
            drop:
            - ALL
          readOnlyRootFilesystem: true
          runAsUser: 0
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
        - mountPath: /etc/trow/nodes
          name: settings
          readOnly: true
        - mountPath: /tmp
          name: tmp
        - mountPath: /host
          name: host
          readOnly: true
          recursiveReadOnly: IfPossible
        - mountPath: /host/etc/containerd/certs.d
          name: host-0
        - mountPath: /host/etc/kubernetes/image-credential-provider
          name: host-1
      nodeSelector:
        kubernetes.io/os: linux
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      serviceAccountName: trow-nodes
      terminationGracePeriodSeconds: 10
      tolerations:
      - operator: Exists
      volumes:
      - name: settings
        projected:
          sources:
          - configMap:
              name: trow-nodes
      - emptyDir: {}
        name: tmp
      - hostPath:
          path: /
        name: host
      - hostPath:
          path: /etc/containerd/certs.d
          type: DirectoryOrCreate
        name: host-0
      - hostPath:
          path: /etc/kubernetes/image-credential-provider
          type: DirectoryOrCreate
        name: host-1
  updateStrategy:
    rollingUpdate:
      maxUnavailable: 25%
    type: RollingUpdate
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
  namespace: '@NAMESPACE@'
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/instance: trow
      app.kubernetes.io/name: trow-nodes
  policyTypes:
  - Ingress
  - Egress
END_OF_OBJECTS
}
objects_template() {
  cat <<'END_OF_OBJECTS'
apiVersion: v1
kind: ServiceAccount
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
  namespace: '@NAMESPACE@'
rules:
- apiGroups:
  - ''
  resources:
  - pods
  verbs:
  - list
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-webhook-certificate
  namespace: '@NAMESPACE@'
rules:
- apiGroups:
  - ''
  resourceNames:
  - trow-webhook
  resources:
  - secrets
  verbs:
  - get
  - patch
- apiGroups:
  - ''
  resources:
  - secrets
  verbs:
  - create
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-admission
rules:
- apiGroups:
  - policy.trow.io
  resources:
  - clusterimagepolicies
  - imagepolicies
  - policyexceptions
  verbs:
  - list
  - watch
- apiGroups:
  - policy.trow.io
  resources:
  - clusterimagepolicies/status
  - imagepolicies/status
  - policyexceptions/status
  verbs:
  - patch
- apiGroups:
  - admissionregistration.k8s.io
  resources:
  - validatingadmissionpolicies
  - validatingadmissionpolicybindings
  verbs:
  - list
  - watch
  - create
  - patch
  - delete
- apiGroups:
  - admissionregistration.k8s.io
  resourceNames:
  - trow
  resources:
  - validatingwebhookconfigurations
  - mutatingwebhookconfigurations
  verbs:
  - get
  - patch
  - create
- apiGroups:
  - rbac.authorization.k8s.io
  resourceNames:
  - trow-admission
  resources:
  - clusterroles
  verbs:
  - get
- apiGroups:
  - ''
  resources:
  - events
  verbs:
  - create
  - patch
- apiGroups:
  - ''
  resources:
  - pods
  - replicationcontrollers
  verbs:
  - list
- apiGroups:
  - ''
  resources:
  - namespaces
  verbs:
  - list
  - watch
- apiGroups:
  - apps
  resources:
  - deployments
  - statefulsets
  - daemonsets
  - replicasets
  verbs:
  - list
- apiGroups:
  - batch
  resources:
  - jobs
  - cronjobs
  verbs:
  - list
- apiGroups:
  - wgpolicyk8s.io
  resources:
  - policyreports
  verbs:
  - list
  - create
  - patch
  - delete
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-exception-approver
rules:
- apiGroups:
  - policy.trow.io
  resources:
  - policyexceptions
  verbs:
  - get
  - list
  - watch
  - update
  - patch
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-exception-requester
rules:
- apiGroups:
  - policy.trow.io
  resources:
  - policyexceptions
  verbs:
  - get
  - list
  - watch
  - create
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    rbac.authorization.k8s.io/aggregate-to-admin: 'true'
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-image-admin
rules:
- apiGroups:
  - registry.trow.io
  resources:
  - repositories/content
  verbs:
  - get
  - update
  - delete
- apiGroups:
  - registry.trow.io
  resources:
  - repositories
  verbs:
  - list
  - create
- apiGroups:
  - registry.trow.io
  resources:
  - repositories/referrers
  verbs:
  - create
- apiGroups:
  - registry.trow.io
  resources:
  - repositories/tags
  verbs:
  - update
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-image-auditor
rules:
- apiGroups:
  - registry.trow.io
  resources:
  - registries/audit
  verbs:
  - get
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    rbac.authorization.k8s.io/aggregate-to-view: 'true'
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-image-puller
rules:
- apiGroups:
  - registry.trow.io
  resources:
  - repositories/content
  - proxiedrepositories/content
  verbs:
  - get
- apiGroups:
  - registry.trow.io
  resources:
  - repositories
  - proxiedrepositories
  verbs:
  - list
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    rbac.authorization.k8s.io/aggregate-to-edit: 'true'
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-image-pusher
rules:
- apiGroups:
  - registry.trow.io
  resources:
  - repositories/content
  verbs:
  - get
  - update
- apiGroups:
  - registry.trow.io
  resources:
  - repositories
  verbs:
  - list
  - create
- apiGroups:
  - registry.trow.io
  resources:
  - repositories/referrers
  verbs:
  - create
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
rules:
- apiGroups:
  - ''
  resources:
  - nodes
  verbs:
  - list
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    rbac.authorization.k8s.io/aggregate-to-edit: 'true'
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-policy-editor
rules:
- apiGroups:
  - policy.trow.io
  resources:
  - imagepolicies
  verbs:
  - create
  - update
  - patch
  - delete
  - deletecollection
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    rbac.authorization.k8s.io/aggregate-to-view: 'true'
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-policy-viewer
rules:
- apiGroups:
  - policy.trow.io
  resources:
  - imagepolicies
  verbs:
  - get
  - list
  - watch
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
  namespace: '@NAMESPACE@'
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: trow-nodes
subjects:
- kind: ServiceAccount
  name: trow
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-webhook-certificate
  namespace: '@NAMESPACE@'
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: trow-webhook-certificate
subjects:
- kind: ServiceAccount
  name: trow
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-admission
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: trow-admission
subjects:
- kind: ServiceAccount
  name: trow
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-auth-delegator
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:auth-delegator
subjects:
- kind: ServiceAccount
  name: trow
  namespace: '@NAMESPACE@'
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-nodes
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: trow-nodes
subjects:
- kind: ServiceAccount
  name: trow
  namespace: '@NAMESPACE@'
---
apiVersion: v1
kind: Service
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow
  namespace: '@NAMESPACE@'
spec:
  ports:
  - name: registry
    nodePort: @NODE_PORT@
    port: 80
    targetPort: registry
  selector:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
  type: NodePort
---
apiVersion: v1
kind: Service
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-metrics
  namespace: '@NAMESPACE@'
spec:
  ports:
  - name: metrics
    port: 9090
    targetPort: probes
  selector:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
---
apiVersion: v1
kind: Service
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-webhooks
  namespace: '@NAMESPACE@'
spec:
  ports:
  - name: webhooks
    port: 8443
    targetPort: webhooks
  publishNotReadyAddresses: true
  selector:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow
  namespace: '@NAMESPACE@'
spec:
  replicas: 1
  selector:
    matchLabels:
      app.kubernetes.io/instance: trow
      app.kubernetes.io/name: trow
  serviceName: trow
  template:
    metadata:
      annotations:
        kubectl.kubernetes.io/default-container: trow
      labels:
        app.kubernetes.io/instance: trow
        app.kubernetes.io/name: trow
    spec:
      containers:
      - args:
        - serve
        - --config=/etc/trow/config/trow.yaml
        env:
        - name: TROW_KUBERNETES_NODE_AGENTS
          value: '@NAMESPACE@'
        - name: TROW_REGISTRY_PULL_CHECK
          value: '@NAMESPACE@/pull-check'
        image: '@IMAGE@'
        imagePullPolicy: '@PULL_POLICY@'
        livenessProbe:
          failureThreshold: 6
          httpGet:
            path: /healthz
            port: probes
          periodSeconds: 10
          timeoutSeconds: 5
        name: trow
        ports:
        - containerPort: 8000
          name: registry
        - containerPort: 9090
          name: probes
        - containerPort: 8443
          name: webhooks
        readinessProbe:
          httpGet:
            path: /readyz
            port: probes
          periodSeconds: 5
          timeoutSeconds: 5
        resources:
          limits:
            memory: 512Mi
          requests:
            cpu: 100m
            memory: 128Mi
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            drop:
            - ALL
          readOnlyRootFilesystem: true
        startupProbe:
          failureThreshold: 300
          httpGet:
            path: /healthz
            port: probes
          periodSeconds: 1
        volumeMounts:
        - mountPath: /etc/trow/config
          name: config
          readOnly: true
        - mountPath: /var/lib/trow
          name: data
        - mountPath: /tmp
          name: tmp
        - mountPath: /etc/trow/admin
          name: admin
          readOnly: true
      enableServiceLinks: false
      securityContext:
        fsGroup: 65532
        fsGroupChangePolicy: OnRootMismatch
        runAsGroup: 65532
        runAsNonRoot: true
        runAsUser: 65532
        seccompProfile:
          type: RuntimeDefault
      serviceAccountName: trow
      terminationGracePeriodSeconds: 60
      volumes:
      - configMap:
          name: trow-config-@SETTINGS@
        name: config
      - emptyDir: {}
        name: tmp
      - name: data
        '@DATA@': null
      - name: admin
        secret:
          defaultMode: 288
          secretName: trow-admin
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-policy-exceptions
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - apiGroups:
      - policy.trow.io
      apiVersions:
      - '*'
      operations:
      - CREATE
      - UPDATE
      resources:
      - policyexceptions
  validations:
  - expression: '!variables.creates || object.spec.requester == variables.user'
    messageExpression: '''spec.requester has to be who creates the exception: '' + variables.user'
    reason: Forbidden
  - expression: '!variables.creates || variables.approver == '''''
    message: spec.approver has to be empty at first; another user approves the exception
    reason: Forbidden
  - expression: |-
      variables.creates || (
        object.spec.reason == oldObject.spec.reason &&
        object.spec.requester == oldObject.spec.requester &&
        object.spec.duration == oldObject.spec.duration &&
        object.spec.namespaces == oldObject.spec.namespaces &&
        object.spec.policies == oldObject.spec.policies &&
        object.spec.images == oldObject.spec.images
      )
    message: nothing but spec.approver can be changed, for the rest is what somebody approves; make another exception
    reason: Forbidden
  - expression: '!variables.approves || variables.approved == '''''
    message: an approval is not taken back; a cluster administrator can delete the exception
    reason: Forbidden
  - expression: '!variables.approves || variables.approver == variables.user'
    messageExpression: '''spec.approver has to be who approves the exception: '' + variables.user'
    reason: Forbidden
  - expression: '!variables.approves || variables.approver != object.spec.requester'
    message: spec.approver has to be somebody else than the requester
    reason: Forbidden
  variables:
  - expression: request.userInfo.username
    name: user
  - expression: request.operation == 'CREATE'
    name: creates
  - expression: object.spec.?approver.orValue('')
    name: approver
  - expression: 'variables.creates ? '''' : oldObject.spec.?approver.orValue('''')'
    name: approved
  - expression: variables.approver != variables.approved
    name: approves
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow-policy-exceptions
spec:
  policyName: trow-policy-exceptions
  validationActions:
  - Deny
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/instance: trow
    app.kubernetes.io/name: trow
    app.kubernetes.io/managed-by: trow-quick-install
  name: trow
  namespace: '@NAMESPACE@'
spec:
  ingress:
  - ports:
    - port: registry
      protocol: TCP
    - port: webhooks
      protocol: TCP
  - ports:
    - port: probes
      protocol: TCP
  podSelector:
    matchLabels:
      app.kubernetes.io/instance: trow
      app.kubernetes.io/name: trow
  policyTypes:
  - Ingress
END_OF_OBJECTS
}
# to here.

mark='' # before each line, so that what --dry-run prints is YAML
case " $* " in *' --dry-run '*) mark='# ' ;; esac
main "$@"
