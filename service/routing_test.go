package service

import (
	"testing"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// Records of one key go to one version; those without a key are spread, each
// repeat like the first.
func TestRoutingKey(t *testing.T) {
	at := func(key string, offset int64) string {
		r := stream.Record{Topic: "in", Partition: 2, Offset: offset}
		if key != "" {
			r.Key = []byte(key)
		}
		return string(routingKey(r))
	}
	if at("k", 1) != "k" || at("k", 2) != "k" {
		t.Errorf("of one key: %q and %q", at("k", 1), at("k", 2))
	}
	first, second, again := at("", 1), at("", 2), at("", 1)
	if first == second || first != again {
		t.Errorf("without a key: %q and %q, and %q for the first again", first, second, again)
	}
}

// Small records run together, and are in flight, in greater numbers than
// images, unless the settings say how many.
func TestNumbersByContent(t *testing.T) {
	for _, test := range []struct {
		format         input.Format
		set            int // both settings
		batch, records int
	}{
		{input.Auto, 0, 4, 64},
		{input.TensorJSON, 0, 256, 2000},
		{input.Example, 0, 256, 2000},
		{input.TensorJSON, 7, 7, 7},
	} {
		c := Config{Input: input.Config{Format: test.format}, Model: model.Config{Batch: infer.Batch{Max: test.set}}}
		c.Kafka.Window.Records = test.set
		if batch, records := c.ModelConfig().MaxBatch(), c.window().Records; batch != test.batch || records != test.records {
			t.Errorf("%s, %d set: batches of %d and %d in flight, want %d and %d", test.format, test.set, batch, records, test.batch, test.records)
		}
	}
}
