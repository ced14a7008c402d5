package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// keda is the release whose ScaledObject the chart writes. Its Go packages would bring the clients
// of every cloud, so only its files are fetched.
const keda = "github.com/kedacore/keda/v2@v2.21.0"

// kedaFile reads a file of KEDA's module, which testenv/setup.sh has fetched.
func kedaFile(path string) ([]byte, error) {
	out, err := exec.Command("go", "mod", "download", "-json", keda).Output()
	if err != nil {
		return nil, err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(module.Dir, path))
}

// scaledObjects is the schema of the custom resource, which also refuses unknown fields.
var scaledObjects = sync.OnceValues(func() (*jsonschema.Schema, error) {
	text, err := kedaFile("config/crd/bases/keda.sh_scaledobjects.yaml")
	if err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return nil, err
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	closeObjects(schema)
	c := jsonschema.NewCompiler()
	if err := c.AddResource("keda.json", schema); err != nil {
		return nil, err
	}
	return c.Compile("keda.json")
})

// closeObjects makes a schema refuse the properties that it does not name, as the server does with
// strict validation.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, named := s["properties"].(map[string]any); named && s["x-kubernetes-preserve-unknown-fields"] != true {
			s["additionalProperties"] = false
		}
		for _, below := range s {
			closeObjects(below)
		}
	case []any:
		for _, below := range s {
			closeObjects(below)
		}
	}
}

var kedaParameter = regexp.MustCompile(`keda:"name=(\w+),order=triggerMetadata[^"]*?(?:enum=([^",]*))?"`)

// triggerParameters are those of KEDA's scaler for Kafka, by their names, with the values that each
// may have; nil: any.
var triggerParameters = sync.OnceValues(func() (map[string][]string, error) {
	source, err := kedaFile("pkg/scalers/kafka_scaler.go")
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

// checkScaledObject compares a ScaledObject with KEDA's schema, and its triggers with the scaler.
func checkScaledObject(t *testing.T, object map[string]any) {
	t.Helper()
	schema, err := scaledObjects()
	if err != nil {
		t.Fatal(err)
	}
	if metadata, ok := object["metadata"].(map[string]any); !ok || metadata["name"] == "" {
		t.Errorf("no name: %v", object)
	}
	if err := schema.Validate(object); err != nil {
		t.Errorf("%v", err)
	}
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
	bad := install(t, installations["scaling"]).scaledObject
	bad["spec"].(map[string]any)["maxReplicas"] = int64(1)
	if schema, err := scaledObjects(); err != nil || schema.Validate(bad) == nil {
		t.Errorf("an unknown field is taken: %v", err)
	}
}
