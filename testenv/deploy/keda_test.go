package deploy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	"k8s.io/client-go/rest"
)

var kedaParameter = regexp.MustCompile(`keda:"name=(\w+),order=triggerMetadata[^"]*?(?:enum=([^",]*))?"`)

// triggerParameters are those of KEDA's scaler for Kafka, by their names, with the values that each
// may have; nil: any.
var triggerParameters = sync.OnceValues(func() (map[string][]string, error) {
	source, err := moduleFile("github.com/kedacore/keda/v2", "pkg/scalers/kafka_scaler.go")
	if err != nil {
		return nil, err
	}
	parameters := map[string][]string{}
	for _, m := range kedaParameter.FindAllStringSubmatch(string(source), -1) {
		parameters[m[1]] = nil
		if m[2] != "" {
			parameters[m[1]] = strings.Split(m[2], ";")
		}
	}
	return parameters, nil
})

// checkTrigger compares the trigger of a ScaledObject with KEDA's scaler.
func checkTrigger(t *testing.T, object map[string]any) {
	t.Helper()
	parameters, err := triggerParameters()
	if err != nil {
		t.Fatal(err)
	}
	for _, wanted := range []string{"bootstrapServers", "lagThreshold", "sasl"} {
		if _, ok := parameters[wanted]; !ok {
			t.Fatalf("KEDA's source has no %s: the test reads it wrongly", wanted)
		}
	}
	for name, value := range triggerOf(t, object) {
		values, ok := parameters[name]
		if !ok {
			t.Errorf("KEDA's scaler has no %s", name)
		}
		if values != nil && !slices.Contains(values, value) {
			t.Errorf("%s: %s, want one of %v", name, value, values)
		}
	}
}

// triggerOf returns the parameters of the only trigger.
func triggerOf(t *testing.T, object map[string]any) map[string]string {
	t.Helper()
	b, err := json.Marshal(object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Triggers []struct {
			Type     string
			Metadata map[string]string
		}
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	if len(spec.Triggers) != 1 || spec.Triggers[0].Type != "kafka" {
		t.Fatalf("triggers: %+v", spec.Triggers)
	}
	return spec.Triggers[0].Metadata
}

// The trigger reads the lag of the group that the configuration names, with its login.
func TestScaling(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"scaling": {
			"bootstrapServers": "kafka.kafka.svc:9092", "consumerGroup": "inceptor", "topic": "photos",
			"lagThreshold": "500", "offsetResetPolicy": "latest", "sasl": "none", "tls": "disable",
		},
		"large numbers": {
			"bootstrapServers": "kafka.kafka.svc:9092", "consumerGroup": "1000000", "topic": "20261130",
			"lagThreshold": "1000000", "offsetResetPolicy": "earliest", "sasl": "none", "tls": "disable",
		},
		// KEDA adds up all topics of the group if none is named.
		"scaling with a login": {
			"bootstrapServers": "b1.kafka:9093,b2.kafka:9093", "consumerGroup": "inceptor",
			"lagThreshold": "100", "offsetResetPolicy": "earliest", "sasl": "scram_sha512", "tls": "enable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := install(t, installations[name])
			got := triggerOf(t, r.scaledObject)
			if len(got) != len(want) {
				t.Errorf("got %v, want %v", got, want)
			}
			for key, value := range want {
				if got[key] != value {
					t.Errorf("%s: got %q, want %q", key, got[key], value)
				}
			}
		})
	}
}

// An upgrade keeps the number of pods that run, also the one that turns scaling on.
func TestScalingKeepsThePods(t *testing.T) {
	for _, running := range []int32{0, 7} {
		cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path {
			case "/apis/apps/v1":
				fmt.Fprint(w, `{"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [{"name": "deployments", "kind": "Deployment", "namespaced": true}]}`)
			case "/apis/apps/v1/namespaces/vision/deployments/photos-inceptor":
				fmt.Fprintf(w, `{"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": %d}}`, running)
			default:
				http.NotFound(w, r)
			}
		}))
		by := engine.New(&rest.Config{Host: cluster.URL})
		scaled := installBy(t, "scaling: {enabled: true}", by).spec.(*apps.Deployment).Spec.Replicas
		if scaled == nil || *scaled != running {
			t.Errorf("with scaling, %d pods become %v", running, scaled)
		}
		fixed := installBy(t, "replicas: 3", by).spec.(*apps.Deployment).Spec.Replicas
		if fixed == nil || *fixed != 3 {
			t.Errorf("without scaling, %d pods become %v, want 3", running, fixed)
		}
		cluster.Close()
	}
}
