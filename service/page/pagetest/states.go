package pagetest

import (
	"time"

	"inceptor/service/page"
)

// Starting makes the service load its first version: nothing is known yet.
func Starting(v *page.View) {
	*v = page.View{
		Now: v.Now, Up: 2 * time.Second, Name: v.Name, Version: v.Version, Inputs: v.Inputs, Output: v.Output, DeadLetter: v.DeadLetter, Thumbnails: true,
		Problems: []page.Problem{
			{Severity: page.SeverityError, What: "Not ready: not a member of the consumer group yet."},
			{Severity: page.SeverityError, What: "Not ready: no version of the model serves yet.", Mend: "Version 1 is loading. This passes by itself."},
		},
		Versions: []page.Version{{Number: 1, State: "loading", Since: v.Now, Bytes: 92 << 20}},
	}
}

// BrokerGone makes the broker not answer: records are answered, and none is published.
func BrokerGone(v *page.View) {
	v.Problems = []page.Problem{{
		Severity: page.SeverityError, Since: v.Now.Add(-74 * time.Second),
		What: "The broker 127.0.0.1:9092 does not answer: answers wait, and no record is fetched.",
		Mend: "Start the broker, or correct kafka.brokers. The service goes on by itself once it answers.",
	}, {
		Severity: page.SeverityWarning, Since: v.Now.Add(-70 * time.Second),
		What: "Fetching waits: the records in memory take 61 of the 64 MiB of kafka.window.total-bytes.",
	}}
	for i := range v.Records {
		if v.Records[i].State == page.StatePublished && i < 12 {
			v.Records[i].State = page.StateAnswered
		}
	}
	for i := range v.Partitions {
		v.Partitions[i].Stuck = "publish: dial tcp 127.0.0.1:9092: connect: connection refused"
		v.Partitions[i].Lag = -1
	}
}

// Swap makes version 3 load while version 2 serves, after version 4 has failed.
func Swap(v *page.View) {
	v.Versions = append([]page.Version{
		{Number: 4, State: "failed", Gate: "signature", Since: v.Now.Add(-3 * time.Minute), Bytes: 20 << 20, CanUse: true,
			Reason: "the signature serving_default has 10 classes, and the version that serves has 5; set model.labels to accept that"},
		{Number: 3, State: "warming", Since: v.Now.Add(-4 * time.Second), Bytes: 93 << 20, Digest: "sha256:77e01c"},
	}, v.Versions...)
	v.Timeline = append([]page.Event{{At: v.Now.Add(-3 * time.Minute), Version: 4, Kind: page.EventFailed, Text: "failed at the gate signature: it has 10 classes, and version 2 has 5"}}, v.Timeline...)
	v.Problems = []page.Problem{{
		Severity: page.SeverityWarning, Since: v.Now.Add(-3 * time.Minute),
		What: "Version 4 of the model has failed: its signature has 10 classes, and the version that serves has 5.",
		Mend: "Version 2 goes on answering. Correct the files of version 4, or set model.labels.",
	}}
}

// Swapped makes version 3 serve, on probation.
func Swapped(v *page.View) {
	v.Model = "inception version 3 (sha256:77e01c)"
	v.Versions = []page.Version{
		{Number: 3, Label: "stable", State: "serving", Precision: "float32", Since: v.Now, Bytes: 93 << 20, Digest: "sha256:77e01c",
			ProbationEnds: v.Now.Add(150 * time.Second), Slowdown: 1.04, Trying: "int8: 120 of 300 records compared", CanRollBack: true},
		{Number: 2, State: "standby", Since: v.Now, Bytes: 92 << 20, Digest: "sha256:9f2c41d07b1e55aa02", CanUse: true},
		{Number: 1, State: "closed", Bytes: 92 << 20, Digest: "sha256:11aa22bb33cc44dd", CanUse: true},
	}
	v.Timeline = append([]page.Event{{At: v.Now, Version: 3, Kind: page.EventServing, Text: "serves, in place of version 2"}}, v.Timeline...)
	v.Problems = nil
}

// Canary makes version 3 answer a part of the keys beside version 2.
func Canary(v *page.View) {
	v.Versions = append([]page.Version{
		{Number: 3, Label: "canary", State: "serving", Precision: "float32", Since: v.Now.Add(-9 * time.Minute), Bytes: 93 << 20,
			Digest: "sha256:77e01c", Compared: 1240, Agreement: 0.982, CanUse: true},
	}, v.Versions...)
	v.Timeline = append([]page.Event{{At: v.Now.Add(-9 * time.Minute), Version: 3, Kind: page.EventCanary, Text: "answers 10% of the keys"}}, v.Timeline...)
}

// Attack is text that would run a script, or break out of an attribute, if the page did not escape
// it.
const Attack = `"><script>window.attacked=1</script><img src=x onerror="window.attacked=1"><svg onload=window.attacked=1>'};window.attacked=1//`

// Hostile puts Attack wherever text comes from outside.
func Hostile(v *page.View) {
	r := &v.Records[0]
	r.Key, r.Detail, r.Reason = Attack, Attack, Attack
	r.Classes = []page.Class{{Label: Attack, Score: 0.9}}
	v.Model, v.Assumed, v.Inputs, v.Output = Attack, Attack, []string{Attack}, Attack
	v.Versions[0].Reason, v.Versions[0].Gate, v.Versions[0].Digest, v.Versions[0].Trying = Attack, Attack, Attack, Attack
	v.Problems = []page.Problem{{Severity: page.SeverityError, What: Attack, Mend: Attack}}
	v.Timeline[0].Text = Attack
	v.Partitions[0].Topic, v.Partitions[0].Stuck = Attack, Attack
}
