package service

import (
	"inceptor/model"
	"inceptor/service/input"
)

// WithoutEffect returns the settings that have no effect beside others, and why. A name that ends
// in a dot is that of a group.
func (c Config) WithoutEffect() map[string]string {
	reasons := map[string]string{}
	none := func(when bool, reason string, names ...string) {
		for _, name := range names {
			if when {
				reasons[name] = reason
			}
		}
	}
	k, m, in := c.Kafka, c.Model, c.Input
	none(k.Delivery != exactlyOnce, "kafka.delivery is not exactly_once", "kafka.transaction.")
	none(k.Delivery == exactlyOnce, "kafka.delivery exactly_once always uses franz-go", "kafka.client")
	none(k.OnError == "retry", "kafka.on-error is retry", "kafka.on-error-after")
	images := in.Format != input.TensorJSON && in.Format != input.Example
	none(!images, "input.format is "+string(in.Format), "model.decode", "model.max-pixels", "input.files.", "input.fetch.")
	none(in.Format == input.Bare, "input.format is image", "input.files.", "input.fetch.")
	none(len(in.Fetch.Hosts) == 0, "input.fetch.hosts is empty, so nothing is fetched",
		"input.fetch.private", "input.fetch.timeout", "input.fetch.concurrency")

	none(m.Rollout != "shadow", "model.rollout is not shadow", "kafka.shadow")
	none(m.Rollout != "canary", "model.rollout is not canary", "model.canary")
	none(m.Probation.Period == 0, "model.probation.period is 0", "model.probation.errors", "model.probation.slowdown")
	none(!m.Optimizes(), "model.optimize is off", "model.kernels")
	none(!m.AsksServer(), "model.backend is local", "fallback.")
	none(m.Backend == model.OnlyRemote, "model.backend is remote, so no version runs here",
		"model.versions", "model.rollout", "model.canary", "model.copies", "model.probation.", "model.optimize",
		"model.kernels", "model.precision", "model.calibration.", "model.gate.", "tensorflow.")
	none(c.HTTP.Listen == "", "http.listen is empty, so there is no page", "http.thumbnails")
	return reasons
}
