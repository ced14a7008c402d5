package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/service/stream/embedded"
	"inceptor/testenv"
)

// docs/from-kafka-streams.md shows what happens: its command starts the service, and the path that
// it sends gets the line and the answer on the page.
func TestFromKafkaStreams(t *testing.T) {
	t.Parallel()
	testenv.TensorFlow(t)
	model, photos := testenv.EfficientNet(t), testenv.Photos(t)
	text, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs/from-kafka-streams.md"))
	if err != nil {
		t.Fatal(err)
	}
	find := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("the page has no %s", pattern)
		}
		return string(found[1])
	}
	command := find(`(?s)\nbin/inceptor (run .*?)\n` + "```")
	path := find(`\necho (\S+) \| kcat `)
	line := find(`\nlevel=INFO (msg=answered .*)\n`)
	answer := find(`\n\[(".*)…\]\n`)

	broker, err := embedded.Start(0, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	args := strings.Fields(strings.ReplaceAll(command, "\\\n", " "))
	for i, arg := range args {
		switch arg {
		case ".tools/efficientnet":
			args[i] = model
		case ".tools/photos":
			args[i] = photos
		}
	}
	p := start(t, append(args, "--kafka.brokers", broker.Addr(), "--http.listen", "", "--crash.journal", "off")...)
	p.await("msg=assigned", patience)
	out := follow(t, broker.Addr(), outputTopic)
	produce(t, broker.Addr(), &kgo.Record{Topic: inputTopic, Value: []byte(path + "\n")})
	p.await(regexp.QuoteMeta(line), patience)
	out.awaitDistinct(t, 1, patience, outputTopic)
	var a service.Answer
	if err := json.Unmarshal(out.from(outputTopic)[0].Value, &a); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q,%q,%v", a.Image.Source, a.Class, a.Score); !strings.HasPrefix(got, answer) {
		t.Errorf("the answer: %s, want %s", got, answer)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
