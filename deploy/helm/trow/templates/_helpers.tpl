{{- define "trow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "trow.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "trow.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "trow.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Of objects that belong to no namespace: two releases in two namespaces have names of their own. */ -}}
{{- define "trow.clusterName" -}}
{{- if eq .Release.Namespace (include "trow.fullname" .) }}
{{- include "trow.fullname" . }}
{{- else }}
{{- printf "%s-%s" .Release.Namespace (include "trow.fullname" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "trow.selector" -}}
app.kubernetes.io/name: {{ include "trow.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trow.labels" -}}
{{ include "trow.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "trow.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "trow.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "trow.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag }}
{{- if .Values.image.digest }}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
{{- end }}

{{- define "trow.adminSecret" -}}
{{- default (printf "%s-admin" (include "trow.fullname" .)) .Values.admin.existingSecret }}
{{- end }}

{{- define "trow.tlsSecret" -}}
{{- if eq .Values.tls.source "existingSecret" }}
{{- required "tls.secretName is needed where tls.source is existingSecret" .Values.tls.secretName }}
{{- else }}
{{- printf "%s-tls" (include "trow.fullname" .) }}
{{- end }}
{{- end }}

{{- /* The names of the registry in certificates. */ -}}
{{- define "trow.dnsNames" -}}
{{- $name := include "trow.fullname" . }}
{{- $service := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) }}
{{- $host := list }}
{{- if .Values.host }}{{ $host = list (regexReplaceAll ":[0-9]+$" .Values.host "") }}{{ end }}
{{- concat $host .Values.tls.dnsNames $service | uniq | toJson }}
{{- end }}

{{- /* The names by which images mean this registry. */ -}}
{{- define "trow.hosts" -}}
{{- $inside := printf "%s.%s.svc" (include "trow.fullname" .) .Release.Namespace }}
{{- if ne (int .Values.service.port) (ternary 80 443 (eq .Values.tls.source "none")) }}
{{- $inside = printf "%s:%d" $inside (int .Values.service.port) }}
{{- end }}
{{- $hosts := list $inside }}
{{- if .Values.host }}{{ $hosts = list .Values.host $inside }}{{ end }}
{{- if .Values.localRegistryHosting.host }}{{ $hosts = append $hosts .Values.localRegistryHosting.host }}{{ end }}
{{- $hosts | uniq | toJson }}
{{- end }}

{{- /* The names that nodes are told of; the first is the audience of tokens. */ -}}
{{- define "trow.nodeHosts" -}}
{{- if .Values.nodes.hosts }}{{ .Values.nodes.hosts | toJson }}{{ else }}{{ include "trow.hosts" . }}{{ end }}
{{- end }}

{{- /* The URL by which a node reaches the registry; empty where names and certificates are everybody's. */ -}}
{{- define "trow.nodeEndpoint" -}}
{{- if .Values.nodes.endpoint }}
{{- .Values.nodes.endpoint }}
{{- else if or (ne .Values.tls.source "none") .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- else if .Values.service.nodePort }}
{{- printf "http://$(NODE_IP):%d" (int .Values.service.nodePort) }}
{{- else }}
{{- printf "http://$(SERVICE_HOST):%d" (int .Values.service.port) }}
{{- end }}
{{- end }}

{{- /* The Secret with the authority that nodes have to trust; empty where there is none. */ -}}
{{- define "trow.nodeAuthority" -}}
{{- if .Values.nodes.caSecret }}
{{- .Values.nodes.caSecret }}
{{- else if ne .Values.tls.source "none" }}
{{- include "trow.tlsSecret" . }}
{{- end }}
{{- end }}

{{- define "trow.nodeImage" -}}
{{- $tag := default .Chart.AppVersion .Values.nodes.image.tag }}
{{- if .Values.nodes.image.digest }}
{{- printf "%s:%s@%s" .Values.nodes.image.repository $tag .Values.nodes.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.nodes.image.repository $tag }}
{{- end }}
{{- end }}

{{- /* The variables of Trow by name; those in extraEnv win. */ -}}
{{- define "trow.env" -}}
{{- $env := dict }}
{{- if .Values.nodes.enabled }}
{{- $_ := set $env "TROW_REGISTRY_PULL_CHECK" (printf "%s/pull-check" .Release.Namespace) }}
{{- $_ := set $env "TROW_KUBERNETES_NODE_AGENTS" .Release.Namespace }}
{{- end }}
{{- mergeOverwrite $env (deepCopy .Values.extraEnv) | toJson }}
{{- end }}

{{- /* Where other Trows of the cluster live. Two that insist on answers about each other could not start after both were down. */ -}}
{{- define "trow.otherNamespaces" -}}
{{- $found := list }}
{{- if .Values.rbac.create }}
{{- range $kind := list "ValidatingWebhookConfiguration" "MutatingWebhookConfiguration" }}
{{- range $configuration := (lookup "admissionregistration.k8s.io/v1" $kind "" "").items }}
{{- if eq "trow" (get ($configuration.metadata.labels | default dict) "app.kubernetes.io/managed-by") }}
{{- range $webhook := $configuration.webhooks }}
{{- with $webhook.clientConfig.service }}{{ $found = append $found .namespace }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $found | uniq | sortAlpha | toJson }}
{{- end }}

{{- /* The settings that follow from other values; those in `config` win. */ -}}
{{- define "trow.config" -}}
{{- $listen := dict "bind" (list "[::]:8000") "probes" "[::]:9090" }}
{{- if ne .Values.tls.source "none" }}
{{- $_ := set $listen "tls" (dict "certificate" "/etc/trow/tls/tls.crt" "key" "/etc/trow/tls/tls.key") }}
{{- end }}
{{- if .Values.host }}
{{- $scheme := ternary "http" "https" (and (eq .Values.tls.source "none") (not .Values.ingress.enabled) (not .Values.httpRoute.enabled)) }}
{{- $_ := set $listen "public_url" (printf "%s://%s" $scheme .Values.host) }}
{{- end }}
{{- $config := dict "listen" $listen "data_dir" "/var/lib/trow/data" "log" (dict "format" "json") }}
{{- $hosts := include "trow.hosts" . | fromJsonArray }}
{{- $_ := set $config "kubernetes" (dict "audiences" $hosts "authorization" true) }}
{{- if .Values.admin.enabled }}
{{- $_ := set $config "auth" (dict "user" .Values.admin.name "password_file" "/etc/trow/admin/password") }}
{{- end }}
{{- if .Values.admission.enabled }}
{{- $service := printf "%s/%s-webhooks:%d" .Release.Namespace (include "trow.fullname" .) (int .Values.admission.port) }}
{{- /* Yours are added: without the others a cluster that was switched off would not come up again. */ -}}
{{- $excluded := concat (list "kube-system" .Release.Namespace) (include "trow.otherNamespaces" . | fromJsonArray) (dig "admission" "excluded_namespaces" list .Values.config) | uniq }}
{{- $owner := ternary (printf "%s-admission" (include "trow.clusterName" .)) "" .Values.rbac.create }}
{{- $_ := set $config "admission" (dict "owner" $owner "policies" true "registries" $hosts "bind" "[::]:8443" "service" $service
      "webhooks" (include "trow.clusterName" .) "secret" (printf "%s-webhook" (include "trow.fullname" .)) "excluded_namespaces" $excluded) }}
{{- end }}
{{- $own := deepCopy .Values.config }}
{{- if and .Values.admission.enabled (hasKey $own "admission") }}{{ $_ := unset $own.admission "excluded_namespaces" }}{{ end }}
{{- if and .Values.nodes.enabled (not .Values.nodes.credentialProvider.enabled) }}
{{- /* Nodes have no credentials then; what they pull to show that they can is no secret. */ -}}
{{- $check := dict "anonymous" true "repositories" (list (printf "%s/pull-check" .Release.Namespace)) "actions" (list "pull") }}
{{- $given := dig "access" "rules" list $own }}
{{- $own = mergeOverwrite $own (dict "access" (dict "rules" (prepend $given $check))) }}
{{- end }}
{{- mergeOverwrite $config $own | toYaml }}
{{- end }}
