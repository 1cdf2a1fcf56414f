{{- define "darkroom.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "darkroom.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "darkroom.labels" -}}
{{ include "darkroom.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "darkroom.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "darkroom.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "darkroom.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "darkroom.secret" -}}
{{- .Values.secret.existing | default (include "darkroom.name" .) -}}
{{- end -}}

{{/* config.yaml: what the chart sets, and over it what the values say. */}}
{{- define "darkroom.config" -}}
{{- $files := "/run/secrets/darkroom" -}}
{{- $config := dict
  "server" (dict "host" "0.0.0.0" "port" 8080)
  "management" (dict "host" "0.0.0.0" "port" 9090)
  "database_url" (printf "${file:%s/database_url}" $files)
  "security" (dict
    "admin_key" (printf "${file:%s/admin_key}" $files)
    "secrets" (list (printf "${file:%s/secret}" $files))
    "encryption_keys" (list (printf "${file:%s/encryption_key}" $files)))
  "log" (dict "format" "json")
-}}
{{- if .Values.redis.enabled -}}
{{- $_ := set $config "redis_url" (printf "${file:%s/redis_url}" $files) -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $config (deepCopy .Values.config)) -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: both waits of the gateway, and what comes after them. */}}
{{- define "darkroom.grace" -}}
{{- $server := (include "darkroom.config" . | fromYaml).server -}}
{{- $drain := ternary 60 $server.drain_s (not (hasKey $server "drain_s")) -}}
{{- add (ceil $drain) (ceil ($server.drain_delay_s | default 0)) 20 -}}
{{- end -}}

{{- define "darkroom.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "darkroom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "darkroom.mounts" -}}
- {name: config, mountPath: /etc/darkroom, readOnly: true}
- {name: secret, mountPath: /run/secrets/darkroom, readOnly: true}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- end -}}
