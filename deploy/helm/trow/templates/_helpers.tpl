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
{{- $excluded := list "kube-system" .Release.Namespace | uniq }}
{{- $_ := set $config "admission" (dict "policies" true "registries" $hosts "bind" "[::]:8443" "service" $service
      "webhooks" (include "trow.clusterName" .) "secret" (printf "%s-webhook" (include "trow.fullname" .)) "excluded_namespaces" $excluded) }}
{{- end }}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml }}
{{- end }}
