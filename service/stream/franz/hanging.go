package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

const (
	checkEvery = 100 * time.Millisecond

	// hangingChecks is for how many checks a transaction stays open before it
	// counts as hanging. One of another member ends earlier.
	hangingChecks = 10

	// maxChecks bounds the wait for partitions without a leader, and for a
	// coordinator that does not answer or is still ending a transaction.
	maxChecks = 50
)

// A hangingTransaction is our last transaction after the crash of a broker: its
// coordinator has its end, its partitions have not and never will. Kafka 4.3.1 leaves
// it so if it is killed between the two and starts again as the only broker: it takes
// the partitions for deleted. Then the group's offsets stay unstable, members wait for
// them for ever, and the next transaction would end this one in its own way.
//
// So end has to be called before the next transaction writes anything. At the start it
// also has to be called before the client asks for its producer id: with that the
// coordinator forgets how the last transaction ended.
//
// Of the session's loop.
type hangingTransaction struct {
	// Set once.
	client  *kgo.Client
	admin   *kadm.Client
	cfg     stream.Config
	conns   *wire.Connections
	timeout time.Duration
	id      string // transactional
	log     *slog.Logger
}

func newHangingTransaction(client *kgo.Client, cfg stream.Config, conns *wire.Connections, timeout time.Duration, id string) *hangingTransaction {
	return &hangingTransaction{
		client: client, admin: kadm.NewClient(client), cfg: cfg, conns: conns, timeout: timeout,
		id: id, log: cfg.Log.With("id", id),
	}
}

// places are where transactions are open.
type places map[place]bool

// A place is one partition: of the inputs if the group's offset of it is unstable, of
// the outputs if committed records end before the log does.
type place struct {
	topic     string
	partition int32
	offset    int64 // at which committed records end; of inputs: 0
}

// end ends our last transaction if it hangs, as it had ended before. joining means that
// the client has not begun a transaction yet.
//
// It ends one more transaction, which has nothing in it, in the partitions that stay
// open: its markers are the missing ones. Where another producer's transaction is open
// they have no effect.
func (h *hangingTransaction) end(ctx context.Context, joining bool) error {
	var stuck places  // open in all checks so far
	checks := 0       // in which they were
	var unclear error // why the last check failed
	for check := range maxChecks {
		if check > 0 && !retry.Sleep(ctx, checkEvery) {
			return context.Cause(ctx)
		}
		open, err := h.findOpen(ctx)
		var answer *kerr.Error
		if errors.As(err, &answer) && !permanent(err) { // a partition has no leader, perhaps
			unclear = err
			continue
		}
		if err != nil {
			return err
		}
		if checks == 0 {
			stuck = open
		}
		maps.DeleteFunc(stuck, func(at place, _ bool) bool { return !open[at] })
		if len(stuck) == 0 {
			return nil
		}
		last, err := h.describe(ctx)
		if errors.Is(err, kerr.TransactionalIDNotFound) {
			return nil
		}
		if err != nil {
			unclear = err
			continue
		}
		switch last.State {
		case "PrepareCommit", "PrepareAbort":
			checks = 0
			unclear = errors.New("the coordinator is ending it")
		case "CompleteCommit", "CompleteAbort":
			if checks++; checks <= hangingChecks {
				unclear = errors.New("it was not open for long enough")
				continue
			}
			if h.foreign(ctx, last.ProducerID, stuck, joining) {
				return nil
			}
			return h.tolerate(h.endAgain(ctx, last, stuck))
		case "Ongoing":
			// The next transaction aborts it. If one before it hangs, that one has to
			// be aborted too: its offsets, and so its records, come again.
			if offsets, _ := h.split(stuck); offsets && joining {
				return h.tolerate(h.extend(ctx, h.client, last, stuck))
			}
			return nil
		default:
			return nil
		}
	}
	h.log.Warn("cannot tell whether an open transaction is ours; going on without ending it", "err", unclear)
	return nil
}

// findOpen returns where transactions are open in the inputs' offsets and in the
// outputs.
func (h *hangingTransaction) findOpen(ctx context.Context) (places, error) {
	open := places{}
	_, unstable, err := groupOffsets(ctx, h.client, h.cfg, nil)
	if err != nil {
		return nil, err
	}
	for _, id := range unstable {
		open[place{topic: id.Topic, partition: int32(id.ID)}] = true
	}
	ends, err := h.admin.ListEndOffsets(ctx, h.cfg.Outputs...)
	var stable kadm.ListedOffsets
	if err == nil {
		stable, err = h.admin.ListCommittedOffsets(ctx, h.cfg.Outputs...)
	}
	if err != nil && !permanent(err) { // a permanent error comes again when something is published
		return nil, fmt.Errorf("look up the ends of %v: %w", h.cfg.Outputs, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		at, ok := stable.Lookup(end.Topic, end.Partition)
		if ok && end.Err == nil && at.Err == nil && at.Offset < end.Offset {
			open[place{end.Topic, end.Partition, at.Offset}] = true
		}
	})
	return open, nil
}

// describe asks the coordinator for our last transaction.
func (h *hangingTransaction) describe(ctx context.Context) (kadm.DescribedTransaction, error) {
	all, err := h.admin.DescribeTransactions(ctx, h.id)
	last := all[h.id]
	return last, cmp.Or(err, last.Err)
}

// describeAgain is describe, with further attempts until ctx ends.
func (h *hangingTransaction) describeAgain(ctx context.Context) (kadm.DescribedTransaction, error) {
	for {
		now, err := h.describe(ctx)
		if err == nil || permanent(err) || !retry.Sleep(ctx, checkEvery) {
			return now, err
		}
	}
}

// split returns whether offsets are open, and which partitions of the outputs are.
func (h *hangingTransaction) split(open places) (offsets bool, outputs kadm.TopicsSet) {
	for at := range open {
		if slices.Contains(h.cfg.Inputs, at.topic) {
			offsets = true
		} else {
			outputs.Add(at.topic, at.partition)
		}
	}
	return offsets, outputs
}

// foreign reports whether the open transactions are certainly of other producers than this
// one. Whose an open transaction is, brokers say to those who may read the output. For
// offsets they never say it.
func (h *hangingTransaction) foreign(ctx context.Context, producer int64, open places, joining bool) bool {
	offsets, outputs := h.split(open)
	if offsets && joining { // a needless end costs nothing now
		return false
	}
	if len(outputs) == 0 {
		return false
	}
	own, known := h.openOf(ctx, producer, outputs)
	return known && len(own) == 0
}

// openOf returns where a producer's transaction is open in the outputs, with the
// offsets at which it begins. known is false if the brokers do not say.
func (h *hangingTransaction) openOf(ctx context.Context, producer int64, outputs kadm.TopicsSet) (open places, known bool) {
	open = places{}
	if len(outputs) == 0 {
		return open, true
	}
	described, err := h.admin.DescribeProducers(ctx, outputs)
	if err != nil {
		return nil, false
	}
	for _, t := range described {
		for _, p := range t.Partitions {
			if p.Err != nil {
				return nil, false
			}
			if of, ok := p.ActiveProducers[producer]; ok && of.CurrentTxnStartOffset >= 0 {
				open[place{t.Topic, p.Partition, of.CurrentTxnStartOffset}] = true
			}
		}
	}
	return open, true
}

// tolerate returns an error that neither stops the driver nor counts as fencing: the
// open transaction may not be ours.
func (h *hangingTransaction) tolerate(err error) error {
	switch {
	case err == nil:
		return nil
	case permanent(err):
		h.log.Warn("cannot end hanging transaction; going on, and readers of committed records may wait for it", "err", err)
		return nil
	}
	return errors.New(err.Error())
}

// endAgain ends our last transaction where it is open. It goes on after the end of
// ctx: a transaction to which only a part is added would be aborted.
//
// Another process with our transactional id may have begun a transaction since the
// last check. The coordinator takes what we add for a part of that one, and would end
// it with ours. So the transaction is described again just before its end, and left
// alone if it has anything in it but what was added here.
func (h *hangingTransaction) endAgain(ctx context.Context, last kadm.DescribedTransaction, open places) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.timeout)
	defer cancel()
	// With a later version of EndTxn our producer would get an epoch that h.client
	// does not know.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
	client, err := kgo.NewClient(append(connection(h.cfg, h.conns), kgo.MaxVersions(versions))...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, outputs := h.split(open)
	before, known := h.openOf(ctx, last.ProducerID, outputs)
	if now, err := h.describeAgain(ctx); err != nil || !sameTransaction(now, last, last.State) {
		return h.leave(err)
	}
	if err := h.extend(ctx, client, last, open); err != nil {
		return err
	}
	now, err := h.describeAgain(ctx)
	after, stillKnown := h.openOf(ctx, last.ProducerID, outputs)
	if err != nil || !sameTransaction(now, last, "Ongoing") || !hasOnly(now.Topics, outputs) || known != stillKnown || !maps.Equal(before, after) {
		return h.leave(err)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = h.id, last.ProducerID, last.ProducerEpoch
	end.Commit = last.State == "CompleteCommit"
	ended, err := end.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end the hanging transaction %s: %w", h.id, err)
	}
	h.log.Warn("ended hanging transaction as its coordinator had recorded it; a broker may have crashed", "committed", end.Commit)
	return nil
}

// sameTransaction reports whether a transaction is the one before, and in a state.
func sameTransaction(now, before kadm.DescribedTransaction, state string) bool {
	return now.State == state && now.ProducerID == before.ProducerID && now.ProducerEpoch == before.ProducerEpoch
}

// hasOnly reports whether a transaction has these outputs in it, the offsets of one
// group, and nothing else.
func hasOnly(in, outputs kadm.TopicsSet) bool {
	const offsets = "__consumer_offsets"
	n := 0
	for topic, partitions := range in {
		switch {
		case topic == offsets:
			n += len(partitions)
		case !maps.Equal(partitions, outputs[topic]):
			return false
		}
	}
	return n == 1 && len(in) == len(outputs)+1
}

// leave leaves a transaction alone that is not ours, or of which that is not known.
func (h *hangingTransaction) leave(err error) error {
	if err != nil {
		return fmt.Errorf("describe the transaction %s again: %w", h.id, err)
	}
	h.log.Warn("another process uses our transactional id; its transaction is left alone, and kafka.transaction.id should differ for each process")
	return nil
}

// extend adds the open outputs and the group's offsets to our transaction, or begins
// one with them.
func (h *hangingTransaction) extend(ctx context.Context, client *kgo.Client, last kadm.DescribedTransaction, open places) error {
	if _, outputs := h.split(open); len(outputs) > 0 {
		if err := h.addOutputs(ctx, client, last, outputs); err != nil {
			return fmt.Errorf("add outputs to the hanging transaction %s: %w", h.id, err)
		}
	}
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = h.id, last.ProducerID, last.ProducerEpoch, h.cfg.Group
	added, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("add offsets to the hanging transaction %s: %w", h.id, err)
	}
	return nil
}

func (h *hangingTransaction) addOutputs(ctx context.Context, client *kgo.Client, last kadm.DescribedTransaction, outputs kadm.TopicsSet) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = h.id, last.ProducerID, last.ProducerEpoch
	for _, t := range outputs.Sorted() {
		topic := kmsg.NewAddPartitionsToTxnRequestTopic()
		topic.Topic, topic.Partitions = t.Topic, t.Partitions
		req.Topics = append(req.Topics, topic)
	}
	added, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, t := range added.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("%s-%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}
