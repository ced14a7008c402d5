package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"inceptor/service/stream"
)

// CheckKafka tries everything that the service needs of the brokers: their addresses, TLS, the
// login, the topics, and every permission. It reads and writes no record, and changes nothing.
// Whether any broker answers is known within 3 s.
func CheckKafka(ctx context.Context, c Config, log *slog.Logger) []Finding {
	kafka, err := c.openCluster(log)
	if err != nil {
		return []Finding{Failed("brokers", err)}
	}
	defer kafka.Close()
	findings := c.kafkaFindings(kafka.Inspect(ctx, c.Kafka.CreateTopics))
	for _, warning := range c.Kafka.securityWarnings() {
		findings = append(findings, Finding{Warn, "security", warning})
	}
	return findings
}

// kafkaFindings says what an inspection means for the service.
func (c Config) kafkaFindings(found stream.Inspection) []Finding {
	findings, answers := brokerFindings(found.Brokers)
	login := "login " + c.Kafka.SASL.Mechanism
	var refused *stream.AuthenticationError
	why := ""
	switch {
	case !answers:
		why = "no broker can be used"
	case errors.As(found.Err, &refused):
		findings = append(findings, Failed(login, fmt.Errorf("%w: check the credentials (%s)", refused.Err, refused.Source)))
		why = "the login is refused"
	case found.Err != nil:
		findings = append(findings, Failed("cluster", fmt.Errorf("no broker answers questions about the topics: %w: see the brokers' log", found.Err)))
		why = "the brokers do not answer"
	}
	switch {
	case why == "" && c.Kafka.SASL.Mechanism != "none":
		findings = append(findings, Finding{OK, login, "accepted"})
	case why != "":
		return append(findings, c.untried(why)...)
	}
	var topics []stream.Topic
	for _, t := range found.Topics {
		findings = append(findings, c.topicFinding(t))
		if !t.Missing && t.Partitions > 0 {
			topics = append(topics, t.Topic)
		}
	}
	for _, warning := range slices.Concat(compactionWarnings(c, topics), limitWarnings(c, topics)) {
		findings = append(findings, Finding{Warn, "topics", warning})
	}
	group := "group " + c.Kafka.Group
	if found.Group != nil {
		findings = append(findings, Failed(group, found.Group))
	} else {
		findings = append(findings, Finding{OK, group, fmt.Sprintf("may be joined, with a session of %v", c.Kafka.SessionTimeout)})
	}
	switch id := "transactional id " + found.ID; {
	case found.IDErr != nil:
		findings = append(findings, Failed(id, found.IDErr))
	case found.ID != "":
		findings = append(findings, Finding{OK, id, "may be used"})
	}
	return findings
}

// untried returns the findings of everything that needs a broker.
func (c Config) untried(why string) (findings []Finding) {
	for _, topic := range slices.Concat(c.Kafka.Input, c.outputs()) {
		findings = append(findings, Skipped("topic "+topic, why))
	}
	findings = append(findings, Skipped("group "+c.Kafka.Group, why))
	if c.Kafka.Delivery == exactlyOnce {
		findings = append(findings, Skipped("transactional id", why))
	}
	return findings
}

// brokerFindings tells whether any of the configured brokers can be used. While one can, the others
// are only warnings.
func brokerFindings(brokers []stream.InspectedBroker) (findings []Finding, answers bool) {
	for _, b := range brokers {
		answers = answers || !b.Advertised && b.Err == nil
	}
	for _, b := range brokers {
		thing := "broker " + b.Address
		switch {
		case b.Err == nil && b.Advertised:
			findings = append(findings, Finding{OK, thing, "answers; the cluster names it"})
		case b.Err == nil:
			findings = append(findings, Finding{OK, thing, "answers"})
		case b.Advertised:
			findings = append(findings, Failed(thing, errors.New("the cluster names this address, and from here it does not work: "+advertisedAdvice(b.Err.Error()))))
		case answers:
			findings = append(findings, Finding{Warn, thing, b.Err.Error() + "; another broker answers"})
		default:
			findings = append(findings, Failed(thing, b.Err))
		}
	}
	return findings, answers
}

// advertisedAdvice replaces advice about kafka.brokers, which does not name the address.
func advertisedAdvice(text string) string {
	const advice = "mend the broker's advertised.listeners"
	if i := strings.LastIndex(text, ": "); i >= 0 && strings.Contains(text[i:], "kafka.brokers") {
		return text[:i] + ": " + advice + ", or let this machine reach it"
	}
	return text + "; or " + advice
}

func (c Config) topicFinding(t stream.InspectedTopic) Finding {
	thing, use := "topic "+t.Name, "written"
	if t.Input {
		use = "read"
	}
	switch {
	case t.Err != nil:
		return Failed(thing, t.Err)
	case t.Missing && c.Kafka.CreateTopics:
		return Finding{Warn, thing, "does not exist: run will create it, as kafka.create-topics is set"}
	case t.Missing:
		return Failed(thing, errors.New("does not exist: create it, or set kafka.create-topics"))
	}
	text := fmt.Sprintf("may be %s; %d partitions, %d replicas", use, t.Partitions, t.Replicas)
	if t.MaxMessageBytes > 0 {
		text += fmt.Sprintf(", max.message.bytes %d, min.insync.replicas %d", t.MaxMessageBytes, t.MinInSync)
	}
	return Finding{OK, thing, text}
}
