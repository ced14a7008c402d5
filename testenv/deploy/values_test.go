package deploy

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the settings into deploy/chart/values.schema.json")

const (
	valuesSchema   = "../../deploy/chart/values.schema.json"
	settingsSchema = "../../docs/schemas/settings.schema.json"
)

// chartsOwn are the settings that the chart sets by itself.
var chartsOwn = map[string][]string{"settings": {"crash"}, "http": {"listen"}, "model": {"dir", "state"}}

// The values' schema has the definitions of the settings', but for what the chart sets itself, and
// for dotted keys, which the templates would not find.
func TestValuesSchemaHasTheSettings(t *testing.T) {
	read := func(path string) map[string]any {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(b, &schema); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return schema
	}
	settings, values := read(settingsSchema), read(valuesSchema)
	definitions := settings["$defs"].(map[string]any)
	definitions["settings"] = map[string]any{
		"type": settings["type"], "properties": settings["properties"], "additionalProperties": false,
	}
	for name, definition := range definitions {
		group := definition.(map[string]any)
		delete(group, "patternProperties")
		for _, own := range chartsOwn[name] {
			properties := group["properties"].(map[string]any)
			if _, there := properties[own]; !there {
				t.Errorf("%s has no setting %s", name, own)
			}
			delete(properties, own)
		}
	}
	values["$defs"] = definitions
	want, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(valuesSchema, want, 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(valuesSchema); err != nil || string(got) != string(want) {
		t.Errorf("%s is not what the settings are (%v): go -C testenv/deploy test -run ValuesSchema -update", valuesSchema, err)
	}
}

// The schema refuses what would otherwise have no effect, or fail in the cluster.
func TestValuesAreRefused(t *testing.T) {
	for values, want := range map[string]string{
		"replica: 3":           "replica",
		"model: {pvc: models}": "pvc",
		"gpu: {tolerations: [{effekt: NoSchedule}]}":                   "effekt",
		"scaling: {enabled: true, maxReplicas: 0}":                     "maxReplicas",
		"scaling: {minReplicas: one}":                                  "minReplicas",
		"model: {source: s3}":                                          "source",
		"model: {path: /inception}":                                    "path",
		"state: {size: 1 GB}":                                          "size",
		"resources: {limits: {memory: 2 GB}}":                          "memory",
		"config: {kafka: {broker: a:1}}":                               "broker",
		"config: {kafka.group: photos}":                                "kafka.group",
		"config: {kafka: {window.records: 5}}":                         "window.records",
		"config: {kafka: {delivery: once}}":                            "delivery",
		"config: {http: {listen: ':80'}}":                              "listen",
		"config: {model: {dir: /m}}":                                   "dir",
		"config: {crash: {journal: off}}":                              "crash",
		"config: {shutdown: {timeout: 20}}":                            "timeout",
		"config: {shutdown: {timeout: '${T}'}}":                        "timeout",
		"config: {kafka: null}":                                        "kafka",
		"networkPolicy: {kafka: {ports: [70000]}}":                     "ports",
		"env: [{name: A, valu: b}]":                                    "valu",
		"model: {source: image}":                                       "model.image.reference",
		"model: {source: init}":                                        "model.init.image",
		"model: {claim: ''}":                                           "model.claim",
		"config: {kafka: {brokers: kafka}}":                            "networkPolicy.kafka.ports",
		"scaling: {enabled: true, minReplicas: 9}":                     "scaling.minReplicas is above",
		"{scaling: {enabled: true}, config: {kafka: {group: '${G}'}}}": "KEDA replaces no",
	} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", values, err, want)
		}
	}
}
