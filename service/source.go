package service

import (
	"fmt"
	"strings"
	"time"

	"inceptor/internal/host"
	"inceptor/model"
	"inceptor/service/page"
	"inceptor/service/stream"
)

// A source is the page.Source of a service.
type source struct{ *Service }

// View implements page.Source.
func (s source) View() page.View {
	now, ready := time.Now(), s.readiness()
	versions, problems := s.look(now)
	v := page.View{
		Now: now, Up: now.Sub(s.started).Round(time.Second), Name: "inceptor", Version: s.Version,
		Inputs: s.config.Kafka.Input, Output: s.config.Kafka.Output, DeadLetter: s.config.Kafka.DeadLetter,
		Ready:    ready.Ready,
		Problems: problems,
		Timeline: s.history.timeline.Events(),
		Memory:   memoryNow(versions),
		Records:  s.recent.List(), Thumbnails: s.thumbnails != nil,
	}
	if s.thumbnails != nil {
		v.Pictures = s.recent.Pictured(s.thumbnails.Has)
		for _, list := range [][]page.Record{v.Records, v.Pictures} {
			for i := range list {
				list[i].Thumbnail = s.thumbnails.Has(list[i].ID)
			}
		}
	}
	if info, err := s.classifier.Serving(); err == nil {
		v.Model = info.String()
	}
	if server, ok := s.classifier.(interface{ Assumed() string }); ok { // a *fallback.Server
		v.Assumed = server.Assumed()
	}
	for _, m := range versions {
		if m.Label == model.LabelStable {
			v.Assumed = m.Assumed
		}
		v.Versions = append(v.Versions, s.version(m))
	}
	for _, p := range ready.Partitions {
		inFlight, lag := s.metrics.stream.of.now(p)
		v.Partitions = append(v.Partitions, page.Partition{
			Topic: p.Topic, Number: p.ID, Lag: lag, InFlight: int(inFlight), Stuck: ready.Retrying[p.String()],
		})
	}
	return v
}

// version returns a version as the page shows it.
func (s source) version(m model.Status) page.Version {
	loading := m.State == model.StateLoading || m.State == model.StateWarming
	v := page.Version{
		Number: m.Version, Label: m.Label, State: m.State, Chosen: m.Chosen, Precision: m.Precision, Trying: m.Trying,
		WhyPrecision: m.WhyPrecision, Gate: m.Gate, Reason: m.Reason, Since: m.Since, Retry: m.Retry, Digest: m.Digest,
		Bytes: m.Bytes, Slowdown: m.Slowdown, ProbationEnds: m.Probation,
		CanUse: m.CanUse && m.Label != model.LabelStable && !loading, CanRollBack: m.CanRollBack,
	}
	var a *agreement
	switch {
	case m.Trying != "": // another precision of it is compared
		a = s.metrics.compared.Load()
	case (m.Label == model.LabelCanary || m.Label == model.LabelShadow) && s.comparer != nil:
		if a = s.comparer.secondary.Load(); a != nil && a.version != m.Version {
			a = nil
		}
	}
	if a != nil && a.compared > 0 {
		v.Compared, v.Agreement = a.compared, float64(a.same)/float64(a.compared)
	}
	return v
}

// memoryNow divides the resident memory of the process.
func memoryNow(versions []model.Status) page.Memory {
	p := memoryOf(versions)
	if p.resident() == 0 {
		return page.Memory{}
	}
	limit, _ := host.MemoryLimit()
	return page.Memory{
		Resident: int64(p.resident()), Limit: int64(limit),
		Go: int64(p.golang), Model: int64(p.model), Library: int64(p.library + p.file),
	}
}

// problems returns what is wrong now with these versions, worst first.
func (s *Service) problems(versions []model.Status) []problem {
	_, err := s.classifier.Serving()
	return situation{
		ready: s.metrics.ready.report(err), notServing: err, stuck: s.metrics.ready.stuckPartitions(),
		versions: versions, fallback: s.metrics.active.Load(), fetching: s.fetching(),
		brokers: s.config.Kafka.Brokers, dir: s.config.Model.Dir,
	}.problems()
}

// Samples implements page.Source.
func (s source) Samples() []page.Sample { return s.history.samples.List() }

// Detail implements page.Source.
func (s source) Detail(id string) (page.Detail, bool) {
	d, source, ok := s.recent.Detail(id)
	if !ok {
		return page.Detail{}, false
	}
	d.Thumbnail = s.thumbnails.Has(id)
	d.Kcat = s.config.Kafka.kcat(source)
	return d, true
}

// Thumbnail implements page.Source.
func (s source) Thumbnail(id string) ([]byte, bool) { return s.thumbnails.Get(id) }

// Watched implements page.Source.
func (s source) Watched(on bool) { s.thumbnails.Watch(on) }

// kcat returns the command that reads a record again. Secrets are left out: kcat takes them from
// its configuration file.
func (k Kafka) kcat(r stream.Record) string {
	args := []string{"kcat", "-C", "-b", strings.Join(k.Brokers, ","), "-t", r.Topic,
		"-p", fmt.Sprint(r.Partition), "-o", fmt.Sprint(r.Offset), "-c", "1", "-e", "-f", "'%s'"}
	login := k.SASL.Mechanism != "" && k.SASL.Mechanism != "none"
	protocol := map[[2]bool]string{{true, false}: "SSL", {false, true}: "SASL_PLAINTEXT", {true, true}: "SASL_SSL"}[[2]bool{k.TLS.Enabled, login}]
	if protocol != "" {
		args = append(args, "-X", "security.protocol="+protocol)
	}
	if login {
		args = append(args, "-X", "sasl.mechanism="+k.SASL.Mechanism)
	}
	return strings.Join(args, " ")
}
