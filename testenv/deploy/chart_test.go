package deploy

import (
	"bytes"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// installations are values as people have them, by what they are for.
var installations = map[string]string{
	"defaults": `{}`,
	"gpu": `
gpu: {enabled: true, count: 2, runtimeClassName: nvidia, nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}}
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{key: batch, operator: Equal, value: "yes", effect: NoExecute}]
`,
	"exactly once": `
config:
  kafka: {delivery: exactly_once, brokers: ["a.kafka:9093", "b.kafka:9094"], input: [left, right]}
  shutdown: {timeout: 1m30s}
`,
	"static membership": `
config: {kafka: {client: franz-go, instance-id: "${POD_NAME}"}}
`,
	"scaling": `
scaling: {enabled: true, minReplicas: 0, maxReplicas: 16, lag: 500}
config: {kafka: {start: latest, input: photos}}
`,
	"scaling with a login": `
scaling: {enabled: true, authentication: kafka}
config:
  kafka:
    brokers: b1.kafka:9093,b2.kafka:9093
    delivery: exactly_once
    input: a,b
    sasl: {mechanism: SCRAM-SHA-512, user: inceptor}
    tls: {enabled: true}
env: [{name: INCEPTOR_KAFKA_SASL_PASSWORD, valueFrom: {secretKeyRef: {name: kafka, key: password}}}]
`,
	"large numbers": `
config: {kafka: {group: 1000000, input: 20261130, window: {total-bytes: 1073741824}}}
state: {create: true, size: 1073741824}
scaling: {enabled: true, lag: 1000000, pollingInterval: 1000000, cooldownPeriod: 1000000}
`,
	"image volume": `
model: {source: image, path: "", image: {reference: "registry.example.com/models/inception:7"}}
`,
	"init container": `
model:
  source: init
  init: {image: "amazon/aws-cli:2.31.0", args: [s3, sync, "s3://models/inception", /models/inception], sizeLimit: 1073741824, env: [{name: AWS_REGION, value: eu-west-1}]}
networkPolicy: {egress: [{ports: [{port: 443, protocol: TCP}]}]}
`,
	"state on a claim": `
state: {create: true, size: 1Gi, storageClassName: nfs}
`,
	"state on a claim that is there": `
state: {claim: shared, create: true}
`,
	"model server": `
config:
  model: {backend: remote}
  fallback: {address: "serving.models.svc:8500", tls: {enabled: true}}
networkPolicy: {modelServer: {ports: [8501], to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: models}}}]}}
`,
	"everything": `
image: {repository: registry.example.com/inceptor, tag: 1.2.3-gpu, pullPolicy: Always}
imagePullSecrets: [{name: registry}]
config:
  kafka:
    brokers: kafka.kafka.svc:9092
    group: photos
    input: [ImageInputTopic]
    tls: {enabled: true}
    window: {total-bytes: 512MiB}
  input: {max-bytes: 8388608, files: {root: /images}, fetch: {hosts: [images.example.com, "cdn.example.com:8443"]}}
  model: {backend: local-then-remote, rollout: canary, max-pixels: 210000000}
  fallback: {address: "serving:8500"}
  shutdown: {timeout: 2m}
env: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://collector:4317"}]
volumes: [{name: images, persistentVolumeClaim: {claimName: images, readOnly: true}}]
volumeMounts: [{name: images, mountPath: /images, readOnly: true}]
state: {claim: shared}
gpu: {enabled: true}
scaling: {enabled: true, minReplicas: 2, maxReplicas: 8}
podMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}, nativeHistograms: true}
prometheusRule: {enabled: true, labels: {release: prometheus}}
podDisruptionBudget: {maxUnavailable: 50%}
networkPolicy:
  scrapers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  kafka: {to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [9092, 9093]}
  fetch: {to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}
  egress: [{to: [{podSelector: {}}], ports: [{port: 4317, protocol: TCP}]}]
topologyKeys: [topology.kubernetes.io/zone]
serviceAccountName: inceptor
priorityClassName: high
podAnnotations: {example.com/team: vision}
podLabels: {team: vision}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: arch, operator: Exists}]}]}}}
`,
	"nothing that can be left out": `
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
topologyKeys: []
config: {shutdown: null, log: null, model: null}
`,
}

// float is a whole number as Go prints a large float: Helm reads YAML's numbers as floats.
var float = regexp.MustCompile(`\de\+\d`)

// A release is what the chart makes of values.
type release struct {
	pods         core.PodTemplateSpec
	spec         any // of the workload: a *apps.Deployment or *apps.StatefulSet
	config       core.ConfigMap
	service      core.Service
	claim        *core.PersistentVolumeClaim
	budget       *policy.PodDisruptionBudget
	network      *networking.NetworkPolicy
	monitor      *monitoring.PodMonitor
	alerts       *monitoring.PrometheusRule
	scaledObject map[string]any
	notes        string
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load("../../deploy/chart")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, cluster := range []string{"v1.27.0", "v1.37.2", "v1.30.4-eks-1"} {
		if !chartutil.IsCompatibleRange(c.Metadata.KubeVersion, cluster) {
			t.Errorf("the chart is not for Kubernetes %s", cluster)
		}
	}
	return c
}

// render gives the chart's files, as "helm install" makes them of values.
func render(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	return renderBy(t, values, engine.Engine{})
}

// renderBy renders with an engine, which may know a cluster.
func renderBy(t *testing.T, values string, by engine.Engine) (map[string]string, error) {
	t.Helper()
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatalf("%v\n%s", err, values)
	}
	c := loadChart(t)
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "photos", Namespace: "vision", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return by.Render(c, all)
}

// install renders values, and decodes each document into its type; a field that the type lacks
// fails the test.
func install(t *testing.T, values string) release {
	t.Helper()
	return installBy(t, values, engine.Engine{})
}

func installBy(t *testing.T, values string, by engine.Engine) release {
	t.Helper()
	files, err := renderBy(t, values, by)
	if err != nil {
		t.Fatal(err)
	}
	var r release
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		if strings.Contains(text, "<no value>") {
			t.Errorf("%s has an empty place:\n%s", name, text)
		}
		if float.MatchString(text) {
			t.Errorf("%s has a large number with an exponent:\n%s", name, text)
		}
		if path.Base(name) == "NOTES.txt" {
			r.notes = text
		} else if strings.TrimSpace(text) != "" {
			r.add(t, name, text)
		}
	}
	return r
}

// add decodes one document.
func (r *release) add(t *testing.T, name, text string) {
	t.Helper()
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal([]byte(text), &head); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	if head.APIVersion != "monitoring.coreos.com/v1" { // whose types are as strict
		if err := conform(t, name, text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	var document any
	switch head.APIVersion + " " + head.Kind {
	case "v1 ConfigMap":
		document = &r.config
	case "v1 Service":
		document = &r.service
	case "v1 PersistentVolumeClaim":
		r.claim = &core.PersistentVolumeClaim{}
		document = r.claim
	case "apps/v1 Deployment":
		d := &apps.Deployment{}
		defer func() { r.pods, r.spec = d.Spec.Template, d }()
		document = d
	case "apps/v1 StatefulSet":
		s := &apps.StatefulSet{}
		defer func() { r.pods, r.spec = s.Spec.Template, s }()
		document = s
	case "policy/v1 PodDisruptionBudget":
		r.budget = &policy.PodDisruptionBudget{}
		document = r.budget
	case "networking.k8s.io/v1 NetworkPolicy":
		r.network = &networking.NetworkPolicy{}
		document = r.network
	case "monitoring.coreos.com/v1 PodMonitor":
		r.monitor = &monitoring.PodMonitor{}
		document = r.monitor
	case "monitoring.coreos.com/v1 PrometheusRule":
		r.alerts = &monitoring.PrometheusRule{}
		document = r.alerts
	case "keda.sh/v1alpha1 ScaledObject": // its types come with all of KEDA
		document = &r.scaledObject
		defer func() { checkTrigger(t, r.scaledObject) }()
	default:
		t.Fatalf("%s: the test does not know %s %s", name, head.APIVersion, head.Kind)
	}
	decode(t, name, text, document)
}

// decode decodes YAML as Kubernetes does with strict validation: no key twice, none in another
// case, none that is unknown.
func decode(t *testing.T, name, text string, document any) {
	t.Helper()
	b, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	strict, err := json.UnmarshalStrict(b, document)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	for _, err := range strict {
		t.Errorf("%s: %v\n%s", name, err, text)
	}
}

// container is the one that runs inceptor.
func (r *release) container(t *testing.T) core.Container {
	t.Helper()
	if n := len(r.pods.Spec.Containers); n != 1 {
		t.Fatalf("%d containers", n)
	}
	return r.pods.Spec.Containers[0]
}

// A helper finds a mistake in a document, or the tests above prove nothing.
func TestDecodeIsStrict(t *testing.T) {
	for _, text := range []string{"spec: {replica: 1}", "spec: {Replicas: 1}"} {
		b, err := yaml.YAMLToJSONStrict([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if strict, err := json.UnmarshalStrict(b, &apps.Deployment{}); err != nil || len(strict) != 1 {
			t.Errorf("%s: %v, %v", text, strict, err)
		}
	}
	if _, err := yaml.YAMLToJSONStrict(bytes.TrimSpace([]byte("a: 1\na: 2"))); err == nil {
		t.Error("a key may be there twice")
	}
}
