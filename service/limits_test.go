package service

import (
	"bytes"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model/infer"
	"inceptor/service/stream"
)

func TestLimitWarnings(t *testing.T) {
	c := goodConfig()
	topic := func(name string, replicas, inSync, bytes int) stream.Topic {
		return stream.Topic{Name: name, Partitions: 1, Replicas: replicas, MinInSync: inSync, MaxMessageBytes: bytes}
	}
	for name, test := range map[string]struct {
		topics []stream.Topic
		want   []string // a part of each warning
	}{
		"all well":          {[]stream.Topic{topic("in", 3, 1, 1000), topic("out", 3, 2, 10), topic("dead", 3, 2, 1000+deadLetterOverhead)}, nil},
		"not told":          {[]stream.Topic{topic("in", 3, 0, 0), topic("out", 3, 0, 0), topic("dead", 3, 0, 0)}, nil},
		"one replica":       {[]stream.Topic{topic("in", 1, 1, 0), topic("out", 3, 2, 0), topic("dead", 1, 1, 0)}, []string{"in, dead: a replication factor of 1"}},
		"one in sync":       {[]stream.Topic{topic("in", 3, 1, 0), topic("out", 3, 1, 0), topic("dead", 3, 2, 0)}, []string{"of out is 1"}},
		"too many in sync":  {[]stream.Topic{topic("in", 3, 4, 0), topic("out", 2, 3, 0), topic("dead", 3, 2, 0)}, []string{"nothing can be written"}},
		"dead letter small": {[]stream.Topic{topic("in", 3, 2, 1000), topic("out", 3, 2, 10), topic("dead", 3, 2, 1000)}, []string{"max.message.bytes of dead"}},
		"large batches":     {[]stream.Topic{topic("in", 3, 2, 64<<20), topic("out", 3, 2, 10), topic("dead", 3, 2, 65<<20)}, []string{"raise kafka.window.bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := limitWarnings(c, test.topics)
			if len(got) != len(test.want) {
				t.Fatalf("%q, want %q", got, test.want)
			}
			for i, w := range test.want {
				if !strings.Contains(got[i], w) {
					t.Errorf("%q, want %q in it", got[i], w)
				}
			}
		})
	}
}

func TestCompactionWarnings(t *testing.T) {
	c := goodConfig()
	topics := func(compacted ...string) (ts []stream.Topic) {
		for _, name := range []string{"in", "out", "dead"} {
			ts = append(ts, stream.Topic{Name: name, Partitions: 1, Compacted: slices.Contains(compacted, name)})
		}
		return ts
	}
	for name, test := range map[string]struct {
		topics []stream.Topic
		want   []string // a part of each warning
	}{
		"none":              {topics(), nil},
		"the input":         {topics("in"), nil},
		"the output":        {topics("out"), []string{"out is compacted (cleanup.policy): answers without a key are refused"}},
		"the dead letters'": {topics("dead"), []string{"dead is compacted (cleanup.policy): only the last dead letter"}},
		"both":              {topics("out", "dead"), []string{"out is", "dead is"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := compactionWarnings(c, test.topics)
			if !slices.EqualFunc(got, test.want, strings.Contains) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestDrainCheck(t *testing.T) {
	var log bytes.Buffer
	metrics := NewMetrics(prometheus.NewRegistry())
	c := goodConfig()
	c.Kafka.Window.Records, c.Shutdown.Timeout = 64, usualShutdown
	d := newDrainCheck(c, metrics.imageTime, slog.New(slog.NewTextHandler(&log, nil)))
	d.assigned(8) // before anything is known
	metrics.VersionLoaded(1, infer.Durations{PerImage: 75 * time.Millisecond})
	d.assigned(4)
	if log.Len() > 0 {
		t.Errorf("4 partitions take 20 s: got %s", &log)
	}
	d.assigned(5)
	if strings.Contains(log.String(), "standing by") {
		t.Errorf("with partitions: %s", &log)
	}
	d.assigned(0)
	if !strings.Contains(log.String(), "more members than the inputs have partitions; standing by") {
		t.Errorf("without a partition: %s", &log)
	}
	if got := log.String(); !strings.Contains(got, "partitions=5") || !strings.Contains(got, "takes=24s") {
		t.Errorf("got %q", got)
	}
}

// The defaults together are nothing to warn of; what somebody has configured is.
func TestDrainCheckDefaults(t *testing.T) {
	field, _ := reflect.TypeFor[Shutdown]().FieldByName("Timeout")
	if got := field.Tag.Get("default"); got != usualShutdown.String() {
		t.Errorf("the default of shutdown.timeout is %s, want %v", got, usualShutdown)
	}
	for name, test := range map[string]struct {
		records int
		timeout time.Duration
		warns   bool
	}{
		"defaults":          {0, usualShutdown, false},
		"longer timeout":    {0, time.Minute, false},
		"shorter timeout":   {0, time.Second, true},
		"window of its own": {64, usualShutdown, true},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			c := goodConfig()
			c.Kafka.Window.Records, c.Shutdown.Timeout = test.records, test.timeout
			newDrainCheck(c, func() time.Duration { return time.Second }, slog.New(slog.NewTextHandler(&log, nil))).assigned(2)
			if warns := strings.Contains(log.String(), "level=WARN"); warns != test.warns {
				t.Errorf("warns: %v, want %v: %s", warns, test.warns, &log)
			}
		})
	}
}
