package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"inceptor/testenv"
)

// restartServices restarts three services of a group one after the other under load, as a release
// does. No record may be lost, and with exactly once none may be answered twice. It logs how long a
// partition paused, for dynamic and static membership of the group.
func restartServices(t *testing.T) {
	model := testenv.Tiny(t)
	lines := []string{"| three services restarted | membership | longest pause | repeats |", "| --- | --- | --- | --- |"}
	for _, client := range []struct {
		name, delivery, client string
		static                 bool // the client knows static membership
	}{
		{"at least once with kafka-go", "at_least_once", "kafka-go", false},
		{"at least once with franz-go", "at_least_once", "franz-go", true},
		{"exactly once", "exactly_once", "franz-go", true},
	} {
		for _, membership := range []string{"dynamic", "static"} {
			if membership == "static" && !client.static {
				continue
			}
			t.Run(client.name+" "+membership, func(t *testing.T) {
				pause, v := restartThree(t, client.delivery, func(service int) []string {
					args := []string{"--model.dir", model, "--kafka.client", client.client, "--kafka.session-timeout", "30s"}
					if membership == "static" {
						args = append(args, "--kafka.instance-id", fmt.Sprintf("service-%d", service))
					}
					return args
				})
				lines = append(lines, fmt.Sprintf("| %s | %s | %.1f s | %d of %d |", client.name, membership, pause.Seconds(), v.repeats, v.answers))
			})
		}
	}
	t.Log("\n" + strings.Join(lines, "\n"))
}

// restartThree is one such restart. args returns further settings of a service.
func restartThree(t *testing.T, delivery string, args func(service int) []string) (longest time.Duration, v verdict) {
	t.Helper()
	broker := testenv.StartBroker(t)
	f := &faultRun{
		T: t, delivery: delivery, broker: broker, brokers: broker.Addr(), group: "inceptor", outputs: outputs{outputTopic, deadLetterTopic},
		admin: newClient(t, broker.Addr()), happened: map[string]int{},
	}
	createTopics(t, f.brokers, 6, map[string]string{"message.timestamp.type": "LogAppendTime"}, append(f.outputs.topics(), inputTopic)...)
	f.seen = watch(t, f.brokers, f.committedOnly(), f.outputs.topics())
	begin := func(service int) *supervised {
		p := &supervised{process: start(t, runArgs(t, f.brokers, append(args(service), "--kafka.delivery", delivery)...)...)}
		f.await(p, "msg=assigned")
		return p
	}
	for i := range 3 {
		f.services = append(f.services, begin(i))
	}
	f.upstream = newUpstream(t, f.brokers)
	f.settle()
	during := span{begin: time.Now()}
	for i := range f.services {
		f.terminate(f.services[i])
		f.services[i] = begin(i)
		f.settle()
		time.Sleep(3 * time.Second) // as a release waits to see whether the service is healthy
	}
	during.end = time.Now()
	f.upstream.stop()
	f.settle()
	for _, p := range f.services {
		f.terminate(p)
	}
	entries := f.entries()
	longest = longestPause(visibleTimes(entries, f.committedOnly()), during)
	return longest, f.judgeImages(entries, f.upstream.sent)
}
