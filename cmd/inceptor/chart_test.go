package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"inceptor/testenv"
)

// chartsOwn are the settings that the chart sets by itself, by the group that they are in.
var chartsOwn = map[string][]string{"settings": {"crash"}, "http": {"listen"}, "model": {"dir", "state"}}

// The schema of the chart's values has the definitions of the settings' schema, but for what the
// chart sets itself, and for dotted keys, which its templates would not find.
func TestSettingsSchemaOfTheChart(t *testing.T) {
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
	path := filepath.Join(testenv.Root(t), "deploy", "chart", "values.schema.json")
	settings, values := read(settingsSchema(t)), read(path)
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
		if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
		t.Errorf("%s is not what the settings are (%v): go test ./cmd/inceptor -run SettingsSchema -update", path, err)
	}
}
