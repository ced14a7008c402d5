{{/* The name of everything in the release. */}}
{{- define "inceptor.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "inceptor.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "inceptor.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "inceptor.selector" . }}
{{- end -}}

{{/* Static membership and exactly_once need names that stay the same after a restart. */}}
{{- define "inceptor.kind" -}}
{{- $kafka := .Values.config.kafka -}}
{{- ternary "StatefulSet" "Deployment" (or (eq (default "" $kafka.delivery) "exactly_once") (not (empty (index $kafka "instance-id")))) -}}
{{- end -}}

{{- define "inceptor.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (ternary "gpu" "cpu" .Values.gpu.enabled) }}
{{- end -}}

{{/* A setting as text. YAML's numbers are floats here, and 1000000 would become 1e+06. */}}
{{- define "inceptor.text" -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}

{{/* model.backend */}}
{{- define "inceptor.backend" -}}
{{- dig "model" "backend" "local" .Values.config -}}
{{- end -}}

{{/* shutdown.timeout in seconds, rounded up. The schema has checked it. */}}
{{- define "inceptor.shutdown" -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "ns" 0.000000001 -}}
{{- $seconds := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|us|µs|ns|h|m|s)" (dig "shutdown" "timeout" "20s" .Values.config) -1 -}}
{{- $seconds = addf $seconds (mulf (float64 (regexFind "[0-9.]+" .)) (get $units (regexReplaceAll "[0-9.]+" . ""))) -}}
{{- end -}}
{{- ceil $seconds | int -}}
{{- end -}}

{{/* The ports of addresses, given as text with commas or as a list, as a JSON list. */}}
{{- define "inceptor.ports" -}}
{{- $ports := list -}}
{{- $addresses := kindIs "string" .addresses | ternary (splitList "," (toString .addresses)) .addresses -}}
{{- range $addresses -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" (trim .)) -}}
{{- range ternary $.default (list $port) (empty $port) -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* One rule for the traffic to peers at ports. */}}
{{- define "inceptor.egress" -}}
- ports:
  {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
  {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* What no container here needs. */}}
{{- define "inceptor.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
