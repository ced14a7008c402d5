package main

import (
	"slices"
	"testing"

	"inceptor/internal/settings"
	"inceptor/service"
)

// Settings of another broker are warned of, and neither checked nor used.
func TestDemoUsesItsBroker(t *testing.T) {
	args := []string{"demo", "--photos", t.TempDir(), "--model.dir", "d", "--http.listen", "", "--kafka.brokers", "elsewhere",
		"--kafka.tls.enabled", "--kafka.tls.ca", "/nowhere/ca.pem", "--kafka.sasl.mechanism", "PLAIN"}
	var c cli
	parser := newParser(&c)
	given := settings.Read(parser.Model, variablePrefix, args, nil)
	if err := given.Apply(parser); err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(given.Args); err != nil {
		t.Fatal(err)
	}
	validate(&c.Demo, given)
	var keys []string
	for _, w := range given.Warnings {
		keys = append(keys, w.Key)
	}
	slices.Sort(keys)
	if want := []string{"kafka.brokers", "kafka.sasl.mechanism", "kafka.tls.ca", "kafka.tls.enabled"}; !slices.Equal(keys, want) {
		t.Errorf("warned of %v, want %v", keys, want)
	}
	if len(given.Problems) > 0 {
		t.Errorf("refused: %v", given.Problems)
	}
	if err := c.Demo.choose("127.0.0.1:5"); err != nil {
		t.Fatal(err)
	}
	k := c.Demo.Kafka
	if !slices.Equal(k.Brokers, []string{"127.0.0.1:5"}) || k.TLS != (service.TLS{}) || k.SASL != (service.SASL{Mechanism: "none"}) {
		t.Errorf("uses %v, %+v and %+v", k.Brokers, k.TLS, k.SASL)
	}
}
