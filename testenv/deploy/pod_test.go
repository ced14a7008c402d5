package deploy

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var fence = regexp.MustCompile("(?ms)^```yaml\n# values.yaml\n(.*?)^```")

// What holds for every installation, also for those in the docs.
func TestInstallations(t *testing.T) {
	all := maps.Clone(installations)
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := fence.FindAllStringSubmatch(string(page), -1)
	if len(examples) == 0 {
		t.Error("the page has no values")
	}
	for i, m := range examples {
		all[fmt.Sprint("docs ", i)] = m[1]
	}
	for name, values := range all {
		t.Run(name, func(t *testing.T) {
			r := install(t, values)
			checkSecurity(t, r.pods.Spec)
			checkVolumes(t, r)
			checkSelectors(t, r)
			checkProbes(t, r.container(t))
			if r.notes == "" {
				t.Error("no notes")
			}
			if want := r.config.Name; !slices.ContainsFunc(r.pods.Spec.Volumes, func(v core.Volume) bool { return v.ConfigMap != nil && v.ConfigMap.Name == want }) {
				t.Errorf("no volume of the ConfigMap %s", want)
			}
		})
	}
}

// checkSecurity wants what the restricted Pod Security Standard asks for, and more.
func checkSecurity(t *testing.T, pod core.PodSpec) {
	t.Helper()
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("the pod is in a namespace of the host")
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the pod gets a token")
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("the pod gets the variables of services")
	}
	s := pod.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != 65532 ||
		s.FSGroup == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("security context of the pod: %+v", s)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		s := c.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("security context of %s: %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.ImagePullPolicy == "" {
			t.Errorf("%s: resources %v, pull policy %q", c.Name, c.Resources, c.ImagePullPolicy)
		}
		for _, mount := range c.VolumeMounts {
			if mount.Name == "models" && c.Name == "inceptor" && !mount.ReadOnly {
				t.Error("inceptor may change the model")
			}
		}
	}
}

// checkVolumes wants a volume for each mount, a mount for each volume, and a writable place for
// each file that inceptor writes.
func checkVolumes(t *testing.T, r release) {
	t.Helper()
	volumes := map[string]core.Volume{}
	for _, v := range r.pods.Spec.Volumes {
		if _, twice := volumes[v.Name]; twice {
			t.Errorf("two volumes %s", v.Name)
		}
		volumes[v.Name] = v
		if v.PersistentVolumeClaim != nil && r.claim != nil && v.Name == "state" && v.PersistentVolumeClaim.ClaimName != r.claim.Name {
			t.Errorf("the claim %s is not used", r.claim.Name)
		}
	}
	unused := maps.Clone(volumes)
	paths := map[string]core.VolumeMount{}
	for _, c := range slices.Concat(r.pods.Spec.InitContainers, r.pods.Spec.Containers) {
		clear(paths)
		for _, m := range c.VolumeMounts {
			if _, there := volumes[m.Name]; !there {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
			if _, twice := paths[m.MountPath]; twice {
				t.Errorf("two mounts at %s", m.MountPath)
			}
			paths[m.MountPath] = m
			delete(unused, m.Name)
		}
	}
	for name := range unused {
		t.Errorf("nothing mounts %s", name)
	}
	for _, place := range []string{"/tmp", "/var/lib/inceptor/journal"} {
		if m, ok := paths[place]; !ok || m.ReadOnly || volumes[m.Name].EmptyDir == nil {
			t.Errorf("%s is no writable emptyDir: %+v", place, m)
		}
	}
}

// checkSelectors wants everything to mean these pods.
func checkSelectors(t *testing.T, r release) {
	t.Helper()
	selectors := map[string]*meta.LabelSelector{"the Service": {MatchLabels: r.service.Spec.Selector}}
	switch w := r.spec.(type) {
	case *apps.Deployment:
		selectors["the Deployment"] = w.Spec.Selector
	case *apps.StatefulSet:
		selectors["the StatefulSet"] = w.Spec.Selector
		if w.Spec.ServiceName != r.service.Name {
			t.Errorf("serviceName: %s", w.Spec.ServiceName)
		}
	}
	if r.budget != nil {
		selectors["the budget"] = r.budget.Spec.Selector
	}
	if r.network != nil {
		selectors["the network policy"] = &r.network.Spec.PodSelector
	}
	if r.monitor != nil {
		selectors["the monitor"] = &r.monitor.Spec.Selector
	}
	for i, spread := range r.pods.Spec.TopologySpreadConstraints {
		selectors[fmt.Sprint("spread ", i)] = spread.LabelSelector
	}
	for name, selector := range selectors {
		s, err := meta.LabelSelectorAsSelector(selector)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if s.Empty() || !s.Matches(labels.Set(r.pods.Labels)) {
			t.Errorf("%s selects %v, and the pods are %v", name, s, r.pods.Labels)
		}
	}
	if r.scaledObject == nil {
		return
	}
	target := r.scaledObject["spec"].(map[string]any)["scaleTargetRef"].(map[string]any)
	kind, name, replicas := "Deployment", "", (*int32)(nil)
	switch w := r.spec.(type) {
	case *apps.Deployment:
		name, replicas = w.Name, w.Spec.Replicas
	case *apps.StatefulSet:
		kind, name, replicas = "StatefulSet", w.Name, w.Spec.Replicas
	}
	if target["kind"] != kind || target["name"] != name {
		t.Errorf("KEDA scales %v, want %s %s", target, kind, name)
	}
	if replicas != nil {
		t.Error("an upgrade would take back what KEDA has scaled")
	}
}

// checkProbes wants all probes, at a port that the container has.
func checkProbes(t *testing.T, c core.Container) {
	t.Helper()
	for name, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			t.Errorf("no %s probe", name)
			continue
		}
		if probe.HTTPGet.Port != intstr.FromString("http") || !slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == "http" }) {
			t.Errorf("%s probe at port %v of %v", name, probe.HTTPGet.Port, c.Ports)
		}
	}
}

// A pod may take 20 s more than shutdown.timeout before it is killed: inceptor wants 15.
func TestGracePeriod(t *testing.T) {
	for _, timeout := range []string{"20s", "500ms", "1.5s", "90s", "1m30s", "2m", "1h", "1h2m3.5s", "1500ms", "0s", "100us"} {
		want, err := time.ParseDuration(timeout)
		if err != nil {
			t.Fatal(err)
		}
		r := install(t, "config: {shutdown: {timeout: "+timeout+"}}")
		got := time.Duration(*r.pods.Spec.TerminationGracePeriodSeconds) * time.Second
		if got < want+20*time.Second || got > want+21*time.Second {
			t.Errorf("shutdown.timeout %s: %v until it is killed", timeout, got)
		}
	}
}

// Processes whose names must stay the same get them from a StatefulSet.
func TestKind(t *testing.T) {
	for name := range installations {
		want := map[bool]string{true: "*v1.StatefulSet", false: "*v1.Deployment"}[slices.Contains([]string{"exactly once", "static membership", "scaling with a login"}, name)]
		if got := fmt.Sprintf("%T", install(t, installations[name]).spec); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A change of the configuration replaces the pods, and nothing else in it does.
func TestChecksum(t *testing.T) {
	checksum := func(values string) string { return install(t, values).pods.Annotations["checksum/config"] }
	defaults := checksum("{}")
	if defaults == "" || defaults == checksum("config: {log: {level: debug}}") {
		t.Errorf("the checksum %q does not change with the configuration", defaults)
	}
	if defaults != checksum("replicas: 5") {
		t.Error("the checksum changes with the number of pods")
	}
}

// Prometheus scrapes native histograms only if asked, and keeps the classic ones.
func TestPodMonitor(t *testing.T) {
	s := install(t, installations["everything"]).monitor.Spec
	if s.ScrapeNativeHistograms == nil || !*s.ScrapeNativeHistograms || s.ScrapeClassicHistograms == nil || !*s.ScrapeClassicHistograms {
		t.Errorf("%+v", s.NativeHistogramConfig)
	}
	s = install(t, "podMonitor: {enabled: true}").monitor.Spec
	if s.ScrapeNativeHistograms != nil || s.ScrapeClassicHistograms != nil {
		t.Errorf("by default: %+v", s.NativeHistogramConfig)
	}
}

// The container that brings the model has what it was given, or what inceptor has.
func TestInit(t *testing.T) {
	init := func(more string) core.Container {
		return install(t, "{model: {source: init, init: {image: fetch"+more+"}}, gpu: {enabled: true}}").pods.Spec.InitContainers[0]
	}
	c := init("")
	if c.Resources.Limits.Memory().String() != "2Gi" || len(c.Resources.Limits) != 1 || c.ImagePullPolicy != core.PullIfNotPresent {
		t.Errorf("resources %v, pull policy %s", c.Resources, c.ImagePullPolicy)
	}
	c = init(", pullPolicy: Always, resources: {limits: {memory: 256Mi}}")
	if c.Resources.Limits.Memory().String() != "256Mi" || len(c.Resources.Requests) != 0 || c.ImagePullPolicy != core.PullAlways {
		t.Errorf("resources %v, pull policy %s", c.Resources, c.ImagePullPolicy)
	}
}

// The operator gets the alerts that the compose file's Prometheus has.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want monitoring.PrometheusRuleSpec
	decode(t, "rules.yaml", string(text), &want)
	got := install(t, "prometheusRule: {enabled: true}").alerts
	if len(want.Groups) == 0 || got == nil || !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The ports that the network policy opens are those of the configuration.
func TestNetworkPolicy(t *testing.T) {
	for name, want := range map[string]string{
		"defaults":       "9092",
		"exactly once":   "9093 9094",
		"init container": "9092; 443",
		"model server":   "9092; 8501 to 1",
		"everything":     "9092 9093 to 1; 8500; 80 443 8443 to 1; 4317 to 1",
	} {
		spec := install(t, installations[name]).network.Spec
		if len(spec.PolicyTypes) != 2 || len(spec.Ingress) != 1 || len(spec.Ingress[0].From) != 1 || len(spec.Ingress[0].Ports) != 1 || spec.Ingress[0].Ports[0].Port.String() != "http" {
			t.Errorf("%s: %+v", name, spec)
		}
		var rules []string
		for _, rule := range spec.Egress {
			var ports []string
			for _, p := range rule.Ports {
				ports = append(ports, p.Port.String())
			}
			text := strings.Join(ports, " ")
			if len(rule.To) > 0 {
				text += fmt.Sprint(" to ", len(rule.To))
			}
			rules = append(rules, text)
		}
		if got, want := strings.Join(rules, "; "), "53 53 5353 5353; "+want; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// With a GPU, pods ask for one, go where they are, and none is surplus during an upgrade.
func TestGPU(t *testing.T) {
	r := install(t, installations["gpu"])
	pod, c := r.pods.Spec, r.container(t)
	gpus := c.Resources.Limits["nvidia.com/gpu"]
	if gpus.Value() != 2 || c.Resources.Limits.Memory().IsZero() || c.Image != "inceptor:gpu" {
		t.Errorf("limits %v, image %s", c.Resources.Limits, c.Image)
	}
	if len(pod.NodeSelector) != 2 || len(pod.Tolerations) != 2 || pod.RuntimeClassName == nil {
		t.Errorf("selector %v, tolerations %v, class %v", pod.NodeSelector, pod.Tolerations, pod.RuntimeClassName)
	}
	if update := r.spec.(*apps.Deployment).Spec.Strategy.RollingUpdate; update.MaxSurge.IntValue() != 0 || update.MaxUnavailable.IntValue() != 1 {
		t.Errorf("update: %+v", update)
	}
	pod = install(t, "{}").pods.Spec
	if len(pod.NodeSelector)+len(pod.Tolerations) != 0 || len(pod.Containers[0].Resources.Limits) != 1 {
		t.Errorf("without a GPU: %+v", pod)
	}
}
